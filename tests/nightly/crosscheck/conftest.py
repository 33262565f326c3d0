"""The classifier under attack, and the table of the documentation."""

import sys
from pathlib import Path

import pytest
from helpers import ROOT

sys.path.append(str(ROOT / "benchmarks"))


def pytest_addoption(parser):
    parser.addoption(
        "--crosscheck-page",
        type=Path,
        help="page of which the cross-check writes the table, such as docs/crosscheck.md",
    )


@pytest.fixture(scope="session")
def subject():
    """A small adversarially trained classifier of digits, as every library takes it."""
    from libraries import Subject
    from small_classifier import train_small_classifier

    return Subject(train_small_classifier())


@pytest.fixture(scope="session")
def test_part():
    """500 images that it was not trained on, and their labels."""
    from small_classifier import load_test_images

    return load_test_images()


@pytest.fixture(scope="session")
def comparisons(pytestconfig):
    """What was compared; written to the page if one was named and nothing was left out."""
    from attack_pairs import PAIRS
    from comparing import write_table

    compared = []
    yield compared
    page = pytestconfig.getoption("--crosscheck-page", default=None)
    if page is not None and len(compared) == len(PAIRS):
        write_table(compared, page)
