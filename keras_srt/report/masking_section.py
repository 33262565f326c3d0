"""The gradient-masking section of a report: as text lines and as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from keras_srt.core.formatting import format_number

Masking = Mapping[str, Any]

# Check in report.json -> what a model without gradient masking satisfies.
TITLES = {
    "large_epsilon": "Accuracy is 0 at large eps",
    "monotone": "Accuracy never rises with eps",
    "steps": "More steps change nothing",
    "restarts": "More restarts change nothing",
    "square": "Square is weaker than APGD",
    "noise": "Random noise is harmless",
}
NOTE = (
    "If gradients carry no information, attacks fail and a model looks more robust than it is. "
    "A failed check is a reason to distrust the robust accuracies; see docs/evaluation.md."
)


def masking_lines(masking: Masking) -> list[str]:
    """Format one line per norm, and a warning for each failed check.

    Args:
        masking: Value of `masking` in `report.json`.
    """
    lines = []
    for threat in masking["threats"]:
        failed = [check for check in threat["checks"] if not check["passed"]]
        threat_model, count = _threat_model(threat), len(threat["checks"])
        lines += [f"warning: gradient masking, {threat_model}: {each['text']}" for each in failed]
        lines.append(
            f"Gradient masking, {threat_model}: {count - len(failed)} of {count} checks passed "
            f"({masking['n']:,} images, {masking['seconds']:.0f} s)"
        )
    return lines


def masking_html(masking: Masking, figure: str = "") -> str:
    """Format the section as HTML.

    Args:
        masking: Value of `masking` in `report.json`.
        figure: HTML of the figure.
    """
    parts = []
    for threat in masking["threats"]:
        items = "".join(map(_check_html, threat["checks"]))
        title = f"{escape(_threat_model(threat))}, {masking['n']:,} images"
        parts.append(f"<p>{title}</p><dl>{items}</dl>")
    note = f'<p class="note">{escape(NOTE)}</p>'
    return f"<section><h2>Gradient masking</h2>{''.join(parts)}{note}{figure}</section>"


def _threat_model(threat: Mapping[str, Any]) -> str:
    return f"{threat['norm']} eps {format_number(threat['epsilon'])}"


def _check_html(check: Mapping[str, Any]) -> str:
    title = TITLES.get(check["name"], check["name"])
    outcome = "\N{CHECK MARK} passed" if check["passed"] else "<strong>\N{BALLOT X} failed</strong>"
    text = escape(check["text"])
    return f'<dt>{escape(title)}</dt><dd>{outcome}</dd><dd class="meaning">{text}</dd>'
