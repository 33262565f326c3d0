"""The results table as text."""

import re

import pytest
from report_samples import DISTANCE, MASKING, NOTE, REPORT, VICTIM, changed

from keras_srt import report as reports


def attack(**values):
    return changed(attacks=[{**REPORT["attacks"][0], **values}])


def row_of(table, name):
    return next(line for line in table.splitlines() if line.startswith(name))


def test_rows_hold_the_numbers():
    table = reports.terminal_table(REPORT)
    clean = ["97.12", "[96.77,", "97.43]", "10,000", "-"]
    assert row_of(table, "clean").split()[-5:] == clean
    assert "eps 0.3, 40 steps, 2 restarts" in row_of(table, "pgd")
    assert row_of(table, "pgd").split()[-5:] == ["90.12", "[89.52,", "90.69]", "9,000", "184"]
    assert "5x5x31 grid, 3 px, 30 deg" in row_of(table, "gridadv")
    assert row_of(table, "gridadv").split()[-1] == "95.5"
    assert "80.11  [77.52, 82.47]   1,000" in row_of(table, "worst case")
    assert "R_stand 0.0288, R_rob 0.1832, R_adv 0.1989" in table


def test_worst_case_comes_after_the_attacks_and_a_rule():
    lines = reports.terminal_table(REPORT).splitlines()
    worst = next(i for i, line in enumerate(lines) if line.startswith("worst case"))
    assert set(lines[worst - 1]) == {"-"}
    assert any(line.startswith("gridadv") for line in lines[: worst - 1])


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        changed(name="long " * 60, reduced="why " * 80),
        changed(name="unbroken" * 40),
        attack(name="pgd_plus@" + "1" * 60, settings={"grid": [12345] * 40}),
        attack(n=10**9, seconds=1e8, accuracy=1.0, ci95=[1.0, 1.0]),
        changed(worst_case={**REPORT["worst_case"], "attacks": ["attack"] * 40}),
        changed(name="λ ≤ 8/255 → 猫 \x1b[31m\nnext", reduced="naïve"),
    ],
)
def test_is_ascii_of_at_most_100_columns(report):
    table = reports.terminal_table(report)
    assert max(map(len, table.splitlines())) <= 100
    assert table.isascii()
    assert all(line.isprintable() for line in table.splitlines())


def test_columns_are_aligned():
    lines = reports.terminal_table(REPORT).splitlines()
    ends = {line.index("]") for line in lines if re.search(r"\[\d", line)}
    assert len(ends) == 1


def test_reduced_run_says_so():
    assert "Reduced" not in reports.terminal_table(REPORT)
    assert f"Reduced run: {NOTE}" in reports.terminal_table(changed(reduced=NOTE))


@pytest.mark.parametrize("key", ["reduced", "train_seconds", "steps"])
def test_optional_keys_may_be_missing_or_null(key):
    without = {k: v for k, v in REPORT.items() if k != key}
    assert reports.terminal_table(without) == reports.terminal_table(changed(**{key: None}))
    assert "97.12" in reports.terminal_table(without)


@pytest.mark.parametrize(("width", "widest"), [(40, 80), (80, 80), (90, 90), (300, 100)])
def test_fits_the_terminal(width, widest):
    report = attack(settings={"num_steps": 40, "target": "next"}, distance=DISTANCE)
    report |= {"masking": MASKING, "victim": VICTIM, "worst_case": REPORT["worst_case"]}
    table = reports.terminal_table(report, width)
    assert widest - 3 <= max(map(len, table.splitlines())) <= widest
    ends = {line.index("]") for line in table.splitlines() if re.search(r"\[\d", line)}
    assert len(ends) == 1


def test_warnings_begin_in_lower_case_as_everywhere():
    report = changed(masking=MASKING, warnings=["a problem"])
    text = reports.terminal_table(report)
    assert "warning: a problem" in text
    assert "WARNING" not in text


def test_gradient_masking_has_a_line_per_norm_and_a_warning_per_failed_check():
    lines = reports.terminal_table(changed(masking=MASKING)).splitlines()
    assert [line.startswith("warning: ") for line in lines[-3:]] == [True, False, False]
    assert "linf eps 0.3: 1 of 2 checks passed" in lines[-2]
    assert "l2 eps 2: 1 of 1 checks passed" in lines[-1]
