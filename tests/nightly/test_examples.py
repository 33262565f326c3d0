"""The examples run, with few steps and files."""

import re

import pytest
from helpers import ROOT, python


def test_faces_have_a_distribution_of_two_elements():
    process = python(ROOT / "examples" / "faces.py", "--epochs", 1, timeout=900)
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if "% right" in line]
    assert [line.split()[0] for line in lines] == ["clean", "pgd", "gridadv"]
    for line in lines:
        first, second = map(float, re.search(r"\((0\.\d\d), (0\.\d\d)\)", line).groups())
        assert first + second == pytest.approx(1, abs=0.011)
        assert line.endswith("'glasses'" if second > first else "'no glasses'")


def test_every_file_of_the_site_is_sorted_once(tmp_path):
    process = python(
        ROOT / "examples" / "sort_site.py", "--files", 1500, "--epochs", 1, "--folder", tmp_path,
        timeout=900,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "1,500 of 1,500 files sorted" in process.stdout
    assert list(tmp_path.iterdir()) == []
