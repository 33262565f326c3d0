"""Markdown pages and CSV files."""

import csv
import io

import pytest
from reproduce_results import make_results

from keras_srt.reproduce import tables


@pytest.fixture
def results():
    return make_results()


def test_the_page_literally(results):
    page = tables.markdown(results)
    assert page.splitlines() == [
        "# Table 3 (mnist, quick)",
        "",
        "**Reduced run** (scale `quick`): smaller models, fewer steps or fewer test images than "
        "the patent's; the numbers are no reproduction of the patent's.",
        "",
        "λ as in the patent's formula (15), which has separate means; RT has 128 labeled images "
        "a step.",
        "",
        "A note.",
        "",
        "## Panel",
        "",
        "|  |  | clean (n=1,000) | PGD (n=200, 1,000) |",
        "| --- | --- | --- | --- |",
        "| **RT** | ours | 98.0 [96.0, 99.0] | 90.0 [88.0, 91.0] |",
        "| **SRT** | ours | 99.0 [97.0, 100.0] | 96.0 [94.0, 97.0], 2 seeds 95.0 to 97.0 |",
        "|  | patent | 99.30 (ours −0.3) | 96.60 (ours −0.6) |",
        "| **UAT++** | ours | not run | not run |",
        "|  | patent | – | 50.00 |",
        "",
        "Accuracy in % with its 95% Wilson interval: correct before and after the attack.",
        "For several seeds: the mean, the interval of one model, and the range.",
        "not run: the command below trains and evaluates it.",
        "",
        "## Attacks",
        "",
        "- `pgd`: epsilon 8/255, random_start true; on the first 1,000 test images",
        "",
        "## Smallest perturbations",
        "",
        "| model | attack | norm | median | mean | found | accuracy at each radius |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| RT | PGD | l2 | – | 1.25 | 7 | 0.5: 75.0 |",
        "",
        "## Models",
        "",
        "| model | seed | objective | labels | unlabeled | labeled a step | steps | training |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `m-1234` | 0 | srt (robust_weight 1) | 10,000 | 49,000 | 64 | 1,000 | 8 min |",
        "",
        "## Command",
        "",
        "```sh",
        "keras-srt reproduce table3",
        "```",
        "",
        "The patent: source",
    ]


def test_a_target_without_numbers_of_the_patent_has_no_patent_rows(results):
    for row in results["panels"][0]["rows"]:
        for cell in row["cells"]:
            cell |= {"patent": None, "difference": None}
    page = tables.markdown(results | {"patent": None})
    assert "| patent |" not in page
    assert "The patent:" not in page
    assert "| **SRT** | ours | 99.0" in page


def test_the_smallest_difference_from_the_patent_is_bold(results):
    results["panels"][0]["rms_difference"] = [0.031, 0.012]
    page = tables.markdown(results)
    assert "| **difference** | root mean square | 3.1 | **1.2** |" in page
    results["panels"][0]["rms_difference"] = [0.031, None]
    assert "| **difference** | root mean square | **3.1** | – |" in tables.markdown(results)


def test_the_csv_has_a_line_for_each_cell(results):
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(results))))
    assert [(row["row"], row["column"]) for row in rows] == [
        (key, column) for key in ("rt", "srt", "uat") for column in ("clean", "pgd")
    ]
    srt = rows[3]
    assert (srt["accuracy"], srt["n"], srt["patent"]) == ("0.96", "1000", "0.966")
    assert (srt["seeds"], srt["seed_low"], srt["seed_high"]) == ("2", "0.95", "0.97")
    assert float(srt["difference"]) == pytest.approx(-0.006)
    assert (rows[5]["accuracy"], rows[5]["patent"], rows[4]["patent"]) == ("", "0.5", "")
