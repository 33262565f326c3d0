"""What is said below a figure, and to those who can't see it."""

from __future__ import annotations

from collections.abc import Sequence

from keras_srt.report.rows import Report, number, percent, rows_of

_CURVE = "The band is the 95% interval."
_CONFUSION = "Rows are true classes, columns answers; the diagonal is right. Numbers are images."


def caption(stem: str, report: Report) -> str:
    """A sentence or two below a figure.

    Args:
        stem: of its file name.
        report: what `report.json` holds.

    Example:
        >>> caption("accuracy", {})
        'Accuracy without tampering, under each attack and in the worst case.'
    """
    if stem in ("epsilon", "angle", "transforms"):
        return _curve_caption(stem, report)
    return {
        "accuracy": "Accuracy without tampering, under each attack and in the worst case.",
        "training": "Loss terms and validation accuracies by step.",
        "masking": "Accuracy under PGD as eps grows: of an honest model it falls below chance.",
        "classes": "Accuracy of each class without tampering and in the worst case.",
        "confusion_clean": f"Answers without tampering. {_CONFUSION}",
        "confusion_attacked": "Answers in the worst case: of an image that is fooled, that under "
        f"the strongest attack that fools it. {_CONFUSION}",
        "examples": "Images before and after an attack, and the difference.",
        "examples_more": "More images before and after an attack, and the difference.",
    }[stem]


def _curve_caption(stem: str, report: Report) -> str:
    curves = report["curves"]
    first = f"The first {curves['n']:,} test images"
    if stem == "epsilon":
        return (
            f"{first} under PGD of {curves['num_steps']} steps, as eps grows; one that was fooled "
            f"once stays so. {_CURVE}"
        )
    part = curves["transforms"]
    beyond = "" if part["in_evaluation"] else " No attack of the evaluation does this."
    if stem == "angle":
        turns = (len(part["rotations"]) + 1) // 2
        return (
            f"{first}, right under all turns of a grid up to an angle ({turns} angles to either "
            f"side).{beyond} {_CURVE}"
        )
    return f"{first} under one turn and one shift each.{beyond}"


def alt_text(stem: str, report: Report) -> str:
    """A figure in words, with its numbers.

    Args:
        stem: of its file name.
        report: what `report.json` holds.
    """
    if stem == "accuracy":
        values = (f"{row.name} {percent(row.accuracy)}%" for row in rows_of(report))
        return f"Bar chart of accuracies: {', '.join(values)}."
    if stem == "epsilon":
        balls = report["curves"]["epsilon"]
        return " ".join(
            f"Accuracy against {ball['norm']} eps: {_points(ball['points'], 'epsilon')}."
            for ball in balls
        )
    if stem == "angle":
        points = _points(report["curves"]["transforms"]["angles"], "angle")
        return f"Accuracy against the largest angle in degrees: {points}."
    if stem == "transforms":
        shares = [share for row in report["curves"]["transforms"]["accuracy"] for share in row]
        return (
            f"Heat map of the accuracy over rotation and translation: from {percent(min(shares))}% "
            f"to {percent(max(shares))}%."
        )
    if stem == "classes":
        values = (
            f"{each['name']} {percent(each['clean']['accuracy'])}% and "
            f"{percent(each['worst_case']['accuracy'])}%"
            for each in report["classes"]
            if each["n"]
        )
        return f"Accuracy of each class, untampered and in the worst case: {', '.join(values)}."
    return caption(stem, report)


def _points(points: Sequence[Report], key: str) -> str:
    return ", ".join(f"{percent(p['accuracy'])}% at {number(p[key])}" for p in points)
