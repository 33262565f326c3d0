"""The classifier under attack, and the results table of the documentation."""

import sys
from pathlib import Path

import pytest
from helpers import ROOT

sys.path.append(str(ROOT / "benchmarks"))


def pytest_addoption(parser):
    parser.addoption(
        "--crosscheck-page",
        type=Path,
        help="page into which the cross-check writes its table, such as docs/crosscheck.md",
    )


@pytest.fixture(scope="session")
def subject():
    """A small adversarially trained classifier of digits, in the form that every library takes."""
    from libraries import Subject
    from small_classifier import train_small_classifier

    return Subject(train_small_classifier())


@pytest.fixture(scope="session")
def test_part():
    """500 test images and their labels."""
    from small_classifier import load_test_images

    return load_test_images()


@pytest.fixture(scope="session")
def comparisons(pytestconfig):
    """Comparisons so far; written to the page, if one was given, when they are complete."""
    from comparing import write_table
    from pairs import PAIRS

    compared = []
    yield compared
    page = pytestconfig.getoption("--crosscheck-page", default=None)
    if page is not None and len(compared) == len(PAIRS):
        write_table(compared, page)
