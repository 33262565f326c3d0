"""The benchmark of attack speed: its table and one run."""

import json

import attack_speed
import pytest

DOCUMENT = {
    "machine": "2 cores",
    "images": 100,
    "repetitions": 3,
    "rows": [
        {
            "pair": "pgd-linf, foolbox",
            "library": "foolbox 3.3.4",
            "their_attack": "LinfPGD",
            "theirs_images_per_second": 5.06,
            "ours_images_per_second": 1234.5,
        }
    ],
}


def test_the_table_has_both_speeds_and_their_ratio():
    *_, row = attack_speed.table(DOCUMENT).splitlines()
    assert row == "| `pgd-linf` | foolbox 3.3.4: LinfPGD | 5.1 | 1234 | 244× |"


def test_an_unknown_attack_is_refused(capsys):
    with pytest.raises(SystemExit):
        attack_speed.main(["--attacks", "fgsn"])
    assert "invalid choice: 'fgsn'" in capsys.readouterr().err


def test_what_is_not_installed_is_named_and_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(attack_speed, "DISTRIBUTIONS", {"no_such_module": "no-such-package"})
    monkeypatch.setattr(attack_speed, "PAIRS", ())
    monkeypatch.setattr(attack_speed, "train_small_classifier", lambda: None)
    file = tmp_path / "speed.json"
    assert attack_speed.main(["--output", str(file)]) == 0
    assert "left out: no-such-package" in capsys.readouterr().out
    assert json.loads(file.read_text())["missing"] == ["no_such_module"]


def test_both_sides_of_a_pair_are_timed_as_often_as_asked(tmp_path):
    pytest.importorskip("foolbox")
    file = tmp_path / "speed.json"
    few = ["--limit", "4", "--repeat", "2", "--attacks", "fgsm"]
    assert attack_speed.main([*few, "--output", str(file)]) == 0
    for row in json.loads(file.read_text())["rows"]:
        assert len(row["ours_seconds"]) == len(row["theirs_seconds"]) == 2
        assert row["ours_images_per_second"] == pytest.approx(4 * 2 / sum(row["ours_seconds"]))
