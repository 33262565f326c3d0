"""The accuracy under AutoAttack as an entry of RobustBench's model zoo."""

from __future__ import annotations

from typing import Any

from keras_srt.core.formatting import format_percent
from keras_srt.report.rows import Report

# AutoAttack's settings whose results are comparable.
_STANDARD = {"version": "standard", "num_steps": 100, "num_targets": 9, "queries": 5000}
_THREATS = {"linf": "Linf", "l2": "L2"}


def robustbench_entry(report: Report) -> dict[str, Any] | None:
    """Make the entry of a model, in the format of RobustBench's `model_info` files.

    Authors, link and venue are empty, to be filled in. `unreliable` is true if the report has
    warnings. A footnote says how many test images were attacked.

    Source: Croce et al. 2021, "RobustBench: a standardized adversarial robustness benchmark".

    Args:
        report: Content of `report.json`.

    Returns:
        The entry; None without AutoAttack in its standard settings.

    Example:
        >>> robustbench_entry({"attacks": []}) is None
        True
    """
    for attack in report["attacks"]:
        settings = attack["settings"]
        if attack["name"].startswith("autoattack") and _STANDARD.items() <= settings.items():
            return _entry(report, attack)
    return None


def _entry(report: Report, attack: dict[str, Any]) -> dict[str, Any]:
    dataset, epsilon = report["dataset"], attack["epsilon"]
    of_255 = round(255 * epsilon, 6)
    return {
        "link": "",
        "name": report["name"],
        "authors": "",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": dataset["name"],
        "threat_model": _THREATS[attack["settings"]["norm_ball"]],
        "venue": "",
        "architecture": report.get("model", {}).get("name", ""),
        "eps": f"{of_255:g}/255" if of_255.is_integer() else f"{epsilon:g}",
        "clean_acc": format_percent(report["clean"]["accuracy"]),
        "reported": format_percent(report["worst_case"]["accuracy"]),
        "autoattack_acc": format_percent(attack["accuracy"]),
        "unreliable": bool(report.get("warnings")),
        "footnote": f"The first {attack['n']:,} of {dataset['num_test']:,} test images.",
    }
