"""Significance tests between runs, and runs that can not be compared."""

import copy
import json

import numpy as np
import pytest
from report_samples import REPORT

from keras_srt.cli import main as cli
from keras_srt.core.errors import UserError
from keras_srt.evaluation.intervals import mean_share, proportion
from keras_srt.evaluation.per_image import ImagePredictions
from keras_srt.evaluation.significance import compare, fisher, mcnemar, t_test
from keras_srt.report import comparison_lines

COUNT = 40
LABELS = np.zeros(COUNT, np.int32)


def write(folder, clean, pgd, gridadv, keep=True, name=None, images="same", **changes):
    """A report of 40 images, of which so many are right, and their answers."""
    report = copy.deepcopy(REPORT) | {"name": name or folder.name} | changes
    answers = {}
    for key, count in (("clean", clean), ("pgd", pgd), ("gridadv", gridadv)):
        answers[key] = np.int32(np.arange(COUNT) >= count)
    report["dataset"]["test_sha256"] = images
    report["clean"] = proportion(answers["clean"] == 0)
    for attack in report["attacks"]:
        attack |= proportion(answers[attack["name"]] == 0)
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report))
    if keep:
        attacked = {key: answers[key] for key in ("pgd", "gridadv")}
        ImagePredictions(LABELS, answers["clean"], attacked).save(folder / "outcomes.npz")
    return folder


def test_mcnemar_equals_a_binomial_tail():
    one, other = np.ones(20, bool), np.ones(20, bool)
    other[:6] = False
    assert mcnemar(one, other) == pytest.approx(2 * 0.5**6)
    one[6] = False  # 6 against 1 of 7: 2 (1 + 7) / 2^7
    assert mcnemar(one, other) == pytest.approx(16 / 128)
    assert mcnemar(one, one) == 1.0


def test_fisher_by_hand():
    # All of 3 against none of 3: 2 of the 20 ways to choose 3 of 6.
    assert fisher({"accuracy": 1.0, "n": 3}, {"accuracy": 0.0, "n": 3}) == pytest.approx(0.1)


def test_rows_compare_with_the_first_run(tmp_path):
    runs = [write(tmp_path / "srt", 38, 30, 20), write(tmp_path / "rt", 38, 18, 22)]
    made = compare(runs)
    assert [row["name"] for row in made["rows"]] == [
        "clean", "pgd", "gridadv", "worst case of these 2",
    ]  # fmt: skip
    assert [run["paired"] for run in made["runs"]] == [True, True]
    clean, pgd, gridadv, worst = (row["cells"][1] for row in made["rows"])
    assert (clean["difference"], clean["p"], clean["significant"]) == (0.0, 1.0, False)
    # 12 images are right for the first alone; the smallest p of four counts four times.
    assert pgd["p"] == pytest.approx(2 * 0.5**12)
    assert pgd["adjusted_p"] == pytest.approx(8 * 0.5**12)
    assert pgd["significant"]
    assert pgd["difference"] == pytest.approx(-0.3)
    assert gridadv["p"] == pytest.approx(2 * 0.5**2)
    assert not gridadv["significant"]
    assert worst["accuracy"] == pytest.approx(18 / 40)
    assert made["rows"][3]["cells"][0]["accuracy"] == pytest.approx(20 / 40)
    assert made["left_out"] == []


def test_without_stored_predictions_fisher_replaces_mcnemar(tmp_path):
    runs = [write(tmp_path / "a", 38, 30, 20), write(tmp_path / "b", 38, 18, 22, keep=False)]
    made = compare(runs)
    assert made["runs"][1]["paired"] is False
    pgd = made["rows"][1]["cells"]
    assert pgd[1]["p"] == pytest.approx(fisher(pgd[0], pgd[1]))
    assert len(made["rows"]) == 3
    assert "b has no outcomes.npz" in made["left_out"][0]
    assert "Fisher's exact test" in "\n".join(comparison_lines(made))


def with_corruptions(counts, names=("gray", "hue")):
    parts = [{"name": name, "accuracy": 0.5, "severities": []} for name in names]
    shares = np.array(counts) / 10
    return {"corruptions": {**mean_share(shares), "corruptions": parts, "correct_counts": counts}}


def test_the_mean_over_corruptions_is_compared_by_a_paired_t_test(tmp_path):
    first, other = [8, 6, 7, 9, 5, 8, 7, 6], [6, 5, 5, 8, 3, 7, 5, 4]
    runs = [
        write(tmp_path / "a", 38, 30, 20, **with_corruptions(first)),
        write(tmp_path / "b", 38, 18, 22, **with_corruptions(other)),
    ]
    row = compare(runs)["rows"][-1]
    assert row["name"] == "mean of 2 corruptions"
    # The differences have mean 1.625 and standard deviation 0.5175: t = 8.88 with 7 degrees.
    assert row["cells"][1]["p"] == pytest.approx(4.67e-5, rel=0.01)
    assert row["cells"][1]["difference"] == pytest.approx(-0.1625)
    assert "t-test for the mean over corruptions" in "\n".join(comparison_lines(compare(runs)))
    # Welch: t = 1.625 / sqrt((12 / 7 + 17.875 / 7) / 8) = 2.225 with 13.5 degrees.
    assert t_test(first, other, paired=False) == pytest.approx(0.0437, rel=0.01)


def test_other_corruptions_are_not_compared(tmp_path):
    runs = [
        write(tmp_path / "a", 38, 30, 20, **with_corruptions([8, 6])),
        write(tmp_path / "b", 38, 18, 22, **with_corruptions([8, 6], ("gray", "jpeg"))),
    ]
    assert all("corruptions" not in row["name"] for row in compare(runs)["rows"])


def test_attacks_with_different_settings_are_left_out(tmp_path):
    one = write(tmp_path / "a", 38, 30, 20)
    other = write(tmp_path / "b", 38, 18, 22)
    report = json.loads((other / "report.json").read_text())
    report["attacks"][0]["settings"]["num_steps"] = 10
    report["attacks"][1]["name"] = "randadv"
    (other / "report.json").write_text(json.dumps(report))
    made = compare([one, other])
    assert [row["name"] for row in made["rows"]] == ["clean"]
    assert made["left_out"] == [
        "pgd: its settings differ",
        f"gridadv: not run on {other}",
        f"randadv: not run on {one}",
    ]


def test_equal_test_images_in_another_place_are_compared(tmp_path):
    moved = {**REPORT["dataset"], "title": "folder moved"}
    runs = [write(tmp_path / "a", 38, 30, 20), write(tmp_path / "b", 38, 18, 22, dataset=moved)]
    assert [run["paired"] for run in compare(runs)["runs"]] == [True, True]


def test_incomparable_runs_are_refused(tmp_path):
    one = write(tmp_path / "a", 38, 30, 20)
    dataset = {**REPORT["dataset"], "title": "CIFAR-10"}
    other = write(tmp_path / "b", 38, 18, 22, dataset=dataset, images="other")
    with pytest.raises(UserError, match=r"a is of MNIST, .*b of CIFAR-10"):
        compare([one, other])
    with pytest.raises(UserError, match="got 1 folder; allowed: two or more"):
        compare([one])
    with pytest.raises(UserError, match=r"has no report\.json; allowed: folders of finished runs"):
        compare([one, tmp_path])
    (other / "report.json").write_text("[]")
    with pytest.raises(UserError, match=r"report\.json: can't be read"):
        compare([one, other])


def test_the_command_prints_and_writes(tmp_path, capsys):
    one = write(tmp_path / "a", 38, 30, 20, reduced="variant quick")
    other = write(tmp_path / "b", 38, 18, 22, name="b_x|y")
    folder = tmp_path / "made"
    assert cli.main(["compare", str(one), str(other), "--output", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "1. a" in out
    assert "reduced run: variant quick" in out
    assert "b_x\\|y" in out
    assert "**-30.00 (p=0.002)**" in out
    assert out.strip() in (folder / "comparison.md").read_text()
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "comparison.json").read_text())["schema"] == 1
    assert cli.main(["compare", str(one), str(tmp_path)]) == 2
    assert "no report.json" in capsys.readouterr().err
