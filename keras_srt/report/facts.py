"""Short facts of a report, for the page and the model card: how it was made, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_srt.report.rows import Report, duration

Fact = tuple[str, str]

_PASSES = {
    "forward": "forward",
    "gradient": "forward and back to the images",
    "training": "forward and back to the weights",
}


def origin(report: Report) -> list[Fact]:
    """Seed, split, versions, machine and test images, as far as the report says them.

    Args:
        report: what `report.json` holds.

    Returns:
        Pairs of a term and its text.

    Example:
        >>> origin({"seed": 3, "dataset": {}})[0]
        ('Seed', '3, of the split, the weights, the order of images and all random draws')
    """
    facts = []
    if "seed" in report:
        text = "of the split, the weights, the order of images and all random draws"
        facts.append(("Seed", f"{report['seed']}, {text}"))
    if "labeled" in report["dataset"]:
        text = "Which images are labeled, unlabeled and for validation: split.json of the run"
        facts.append(("Split", text))
    if "environment" in report:
        facts += _environment(report["environment"])
    if "test_sha256" in report["dataset"]:
        facts.append(("Test images", f"SHA-256 {report['dataset']['test_sha256']}"))
    return facts


def _environment(environment: Mapping[str, Any]) -> list[Fact]:
    packages = [f"{name} {version}" for name, version in environment["packages"].items() if version]
    versions = ", ".join([f"Python {environment['python']}", *packages])
    devices = ", ".join(device.partition(" ")[0] for device in environment["devices"])
    machine = f"{environment['platform']}, {environment['cores']} cores, {devices}"
    return [("Versions", versions), ("Machine", machine)]


def costs(report: Report) -> list[Fact]:
    """Passes and seconds of training and evaluation, as far as the report says them.

    Args:
        report: what `report.json` holds.

    Returns:
        Pairs of a term and its text.

    Example:
        >>> costs({"cost": {"evaluation": {"queries": 1200, "seconds": 30.0}}})
        [('Evaluation', '30 s, 1,200 images asked about')]
    """
    cost, facts = report.get("cost", {}), []
    if "training" in cost:
        passes = cost["training"]["image_passes"]
        parts = [f"{passes[key]:,} {text}" for key, text in _PASSES.items() if passes[key]]
        text = f"{duration(cost['training']['seconds'])}; images passed {', '.join(parts)}"
        facts.append(("Training", text))
    if "evaluation" in cost:
        queries, seconds = cost["evaluation"]["queries"], cost["evaluation"]["seconds"]
        facts.append(("Evaluation", f"{duration(seconds)}, {queries:,} images asked about"))
    return facts
