"""Facts of a run for the HTML report and the model card: reproducibility and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_srt.core.formatting import format_duration
from keras_srt.report.rows import Report

Fact = tuple[str, str]

_PASSES = {
    "forward": "forward",
    "gradient": "forward and backward (images)",
    "training": "forward and backward (weights)",
}


def origin(report: Report) -> list[Fact]:
    """List seed, split, versions, machine and test images, where the report has them.

    Args:
        report: Content of `report.json`.

    Returns:
        Pairs (term, text).

    Example:
        >>> origin({"seed": 3, "dataset": {}})[0]
        ('Seed', '3, for the split, the weights, the image order and all random draws')
    """
    facts = []
    if "seed" in report:
        text = "for the split, the weights, the image order and all random draws"
        facts.append(("Seed", f"{report['seed']}, {text}"))
    if "labeled" in report["dataset"]:
        text = "Labeled, unlabeled and validation images: see split.json in the run folder"
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
    """List passes and seconds of training and evaluation, where the report has them.

    Args:
        report: Content of `report.json`.

    Returns:
        Pairs (term, text).

    Example:
        >>> costs({"cost": {"evaluation": {"queries": 1200, "seconds": 30.0}}})
        [('Evaluation', '30 s, 1,200 model queries')]
    """
    cost, facts = report.get("cost", {}), []
    if "training" in cost:
        passes = cost["training"]["image_passes"]
        parts = [f"{passes[key]:,} {text}" for key, text in _PASSES.items() if passes[key]]
        text = f"{format_duration(cost['training']['seconds'])}; image passes: {', '.join(parts)}"
        facts.append(("Training", text))
    if "evaluation" in cost:
        queries, seconds = cost["evaluation"]["queries"], cost["evaluation"]["seconds"]
        first = ", in bfloat16 first" if report.get("precision") == "bfloat16" else ""
        text = f"{format_duration(seconds)}, {queries:,} model queries{first}"
        facts.append(("Evaluation", text))
    return facts
