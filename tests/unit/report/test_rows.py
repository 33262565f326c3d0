"""Rows of the results table."""

import numpy as np
import pytest
from report_samples import DISTANCE, REPORT, changed

from keras_srt.report.rows import rows_of


def attack(**values):
    return changed(attacks=[{**REPORT["attacks"][0], **values}])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"epsilon": 8 / 255, "settings": {"num_steps": 1}}, "linf eps 8/255, 1 step"),
        ({"epsilon": float(np.float32(8 / 255)), "settings": {}}, "linf eps 8/255"),
        ({"epsilon": float(np.float32(0.2)), "settings": {}}, "linf eps 0.2"),
        ({"epsilon": 0.031, "settings": {"num_steps": 10}}, "linf eps 0.031, 10 steps"),
        ({"epsilon": 0.2, "settings": {"restarts": 1, "step_size": None}},
         "linf eps 0.2, 1 restart"),
        ({"norm": "spatial", "epsilon": None, "settings": {"points": 31, "max_rotation": 30.0}},
         "31 points, 30 deg"),
        ({"norm": "spatial", "epsilon": None, "settings": {"num_samples": 10}}, "10 draws"),
        ({"norm": "linf+spatial", "settings": {"num_steps": 40, "grid": [5, 5, 1]}},
         "linf+spatial eps 0.3, 5x5x1 grid, 40 steps"),
    ],
)  # fmt: skip
def test_settings_are_described_briefly(values, expected):
    row = rows_of(attack(**values))[1]
    assert row.settings == expected


def test_targeted_and_minimal_norm_attacks_show_success_and_distance():
    settings = {"num_steps": 40, "target": "next"}
    row = rows_of(attack(settings=settings, target_reached=0.125))[1]
    assert row.settings == "linf eps 0.3, 40 steps; target next reached by 12.50%"
    row = rows_of(attack(settings={}, distance=DISTANCE))[1]
    assert row.settings == "linf eps 0.3; median distance 1.235; 25.00% at eps 1.5"
    unbounded = {**DISTANCE, "median": None, "accuracy_at": DISTANCE["accuracy_at"][:1]}
    row = rows_of(attack(settings={}, distance=unbounded))[1]
    assert row.settings == "linf eps 0.3; median distance infinite"


def test_autoattack_shows_the_accuracy_after_each_member():
    members = [{"name": "apgd_ce", "accuracy": 0.5}, {"name": "apgd_t", "accuracy": 0.4375}]
    row = rows_of(attack(settings={}, members=members))[1]
    assert row.settings == "linf eps 0.3; left after apgd_ce 50.00, apgd_t 43.75"


@pytest.mark.parametrize(("count", "expected"), [(5, "a0, a1, a2, a3, a4"), (6, "all 6 attacks")])
def test_many_attacks_are_counted_in_the_last_row(count, expected):
    worst = {**REPORT["worst_case"], "attacks": [f"a{i}" for i in range(count)]}
    assert rows_of(changed(worst_case=worst))[-1].settings.endswith(f"over {expected}")
