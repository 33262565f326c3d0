"""The search for gradient masking as text and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from keras_srt.report.rows import number

Masking = Mapping[str, Any]

# What each check of report.json asks.
TITLES = {
    "large_epsilon": "Falls to 0 at large eps",
    "monotone": "Never rises with eps",
    "steps": "More steps don't help",
    "restarts": "More starts don't help",
    "square": "Square is weaker than APGD",
    "noise": "Random noise is harmless",
}
NOTE = (
    "Where gradients are of no use, attacks fail and a model looks robust that isn't. A check that "
    "fails is a reason to distrust the accuracies under attack; docs/evaluation.md says what to do."
)


def masking_lines(masking: Masking) -> list[str]:
    """A line for each pixel ball, and a warning for each check that failed.

    Args:
        masking: the part `masking` of report.json.
    """
    lines = []
    for threat in masking["threats"]:
        failed = [check for check in threat["checks"] if not check["passed"]]
        where, count = _where(threat), len(threat["checks"])
        lines += [f"WARNING: gradient masking, {where}: {check['text']}" for check in failed]
        lines.append(
            f"Gradient masking, {where}: {count - len(failed)} of {count} checks passed "
            f"({masking['n']:,} images, {masking['seconds']:.0f} s)"
        )
    return lines


def masking_html(masking: Masking, figure: str = "") -> str:
    """A section of the page.

    Args:
        masking: the part `masking` of report.json.
        figure: its figure, as HTML.
    """
    parts = []
    for threat in masking["threats"]:
        items = "".join(map(_check_html, threat["checks"]))
        parts.append(f"<p>{escape(_where(threat))}, {masking['n']:,} images</p><dl>{items}</dl>")
    note = f'<p class="note">{escape(NOTE)}</p>'
    return f"<section><h2>Gradient masking</h2>{''.join(parts)}{note}{figure}</section>"


def _where(threat: Mapping[str, Any]) -> str:
    return f"{threat['norm']} eps {number(threat['epsilon'])}"


def _check_html(check: Mapping[str, Any]) -> str:
    title = TITLES.get(check["name"], check["name"])
    outcome = "\N{CHECK MARK} passed" if check["passed"] else "<strong>\N{BALLOT X} failed</strong>"
    text = escape(check["text"])
    return f'<dt>{escape(title)}</dt><dd>{outcome}</dd><dd class="meaning">{text}</dd>'
