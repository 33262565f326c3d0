"""Captions and alternative texts of figures."""

from __future__ import annotations

from collections.abc import Sequence

from keras_srt.core.formatting import format_number, format_percent
from keras_srt.report.rows import Report, rows_of

_BAND = "The band is the 95% interval."
_CONFUSION = "Rows: true classes; columns: predictions; numbers: images."


def caption(stem: str, report: Report) -> str:
    """Write the caption of a figure.

    Args:
        stem: File name of the figure without its suffix.
        report: Content of `report.json`.

    Example:
        >>> caption("accuracy", {})
        'Clean accuracy, robust accuracy under each attack, and worst case.'
    """
    if stem in ("epsilon", "angle", "transforms"):
        return _curve_caption(stem, report)
    return {
        "accuracy": "Clean accuracy, robust accuracy under each attack, and worst case.",
        "training": "Loss terms and validation accuracies by step.",
        "masking": "Accuracy under PGD as eps grows; without gradient masking, it falls below "
        "chance level.",
        "corruptions": "Accuracy under each corruption at each severity.",
        "corrupted_image": "A test image under each corruption at each severity.",
        "smoothing": "Accuracy of the smoothed classifier against the L2 norm of a perturbation: "
        "certified, and under PGD. Lines: 95% intervals.",
        "classes": "Clean and worst-case accuracy of each class.",
        "confusion_clean": f"Predictions on clean images. {_CONFUSION}",
        "confusion_attacked": "Predictions in the worst case: for a misclassified image, the "
        f"prediction under the strongest successful attack. {_CONFUSION}",
        "examples": "Images before and after an attack, and the difference.",
        "examples_more": "More images before and after an attack, and the difference.",
    }[stem]


def _curve_caption(stem: str, report: Report) -> str:
    curves = report["curves"]
    first = f"First {curves['n']:,} test images"
    if stem == "epsilon":
        return (
            f"{first} under PGD with {curves['num_steps']} steps, as eps grows; an image that is "
            f"misclassified at one eps counts as misclassified at every larger eps. {_BAND}"
        )
    part = curves["transforms"]
    note = "" if part["in_evaluation"] else " No attack of the evaluation uses these transforms."
    if stem == "angle":
        angles = (len(part["rotations"]) + 1) // 2
        return (
            f"{first}: fraction correctly classified at every grid angle up to the given one "
            f"({angles} angles in each direction).{note} {_BAND}"
        )
    return f"{first} under one rotation and one shift each.{note}"


def alt_text(stem: str, report: Report) -> str:
    """Write the alternative text of a figure, with its numbers.

    Args:
        stem: File name of the figure without its suffix.
        report: Content of `report.json`.
    """
    if stem == "accuracy":
        values = (f"{row.name} {format_percent(row.accuracy)}%" for row in rows_of(report))
        return f"Bar chart of accuracies: {', '.join(values)}."
    if stem == "epsilon":
        balls = report["curves"]["epsilon"]
        return " ".join(
            f"Accuracy against {ball['norm']} eps: {_points(ball['points'], 'epsilon')}."
            for ball in balls
        )
    if stem == "angle":
        points = _points(report["curves"]["transforms"]["angles"], "angle")
        return f"Accuracy against the maximum angle in degrees: {points}."
    if stem == "transforms":
        cells = [value for row in report["curves"]["transforms"]["accuracy"] for value in row]
        return (
            f"Heat map of the accuracy over rotation and translation: from "
            f"{format_percent(min(cells))}% to {format_percent(max(cells))}%."
        )
    if stem == "corruptions":
        means = (
            f"{part['name']} {format_percent(part['accuracy'])}%"
            for part in report["corruptions"]["corruptions"]
        )
        return f"Heat map of the accuracy by corruption and severity; means: {', '.join(means)}."
    if stem == "smoothing":
        points = ", ".join(
            f"{format_percent(point['accuracy'])}% at {format_number(point['radius'])}"
            for point in report["smoothing"]["certified"]
        )
        return f"Certified accuracy by L2 radius: {points}."
    if stem == "classes":
        values = (
            f"{each['name']} {format_percent(each['clean']['accuracy'])}% and "
            f"{format_percent(each['worst_case']['accuracy'])}%"
            for each in report["classes"]
            if each["n"]
        )
        return f"Clean and worst-case accuracy of each class: {', '.join(values)}."
    return caption(stem, report)


def _points(points: Sequence[Report], key: str) -> str:
    return ", ".join(f"{format_percent(p['accuracy'])}% at {format_number(p[key])}" for p in points)
