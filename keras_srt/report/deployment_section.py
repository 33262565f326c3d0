"""The deployment section of a report: as a text table and as HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from html import escape
from typing import Any

from keras_srt.core.formatting import format_interval, format_percent
from keras_srt.report.rows import TABLE_WIDTH

Deployment = Mapping[str, Any]

TITLES = {"keras": "Keras", "savedmodel": "SavedModel"}
NOTE = (
    "Same: predictions equal to Keras; max diff: largest difference in probability. The attacked "
    "images were computed on the Keras model: attacking a file directly may succeed more often."
)
_HEADER = ("model", "kB", "median ms", "p99 ms", "same %", "max diff", "clean %")


def deployment_table(deployment: Deployment) -> str:
    """Format size, latency, agreement and accuracies of the exported files as a table.

    Args:
        deployment: Value of `deployment` in `report.json`.

    Returns:
        Lines of ASCII, at most 100 columns wide, without a final line break.
    """
    header = (*_HEADER, "worst case %", "95% interval")
    rows = [header, *map(_cells, deployment["models"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    warnings = [f"warning: {line}" for line in deployment["warnings"]]
    notes = [line for text in (*warnings, NOTE) for line in textwrap.wrap(text, TABLE_WIDTH)]
    return "\n".join([caption(deployment), "", lines[0], rule, *lines[1:], "", *notes])


def caption(deployment: Deployment) -> str:
    """Describe the measurement in one sentence."""
    return (
        f"Exported version {deployment['version']}: {deployment['n']:,} test images; batch size 1 "
        f"on {deployment['threads']} CPU thread ({deployment['interpreter']})"
    )


def _cells(model: Mapping[str, Any]) -> tuple[str, ...]:
    worst = model["worst_case"]
    return (
        TITLES.get(model["name"], model["name"]),
        *_file_cells(model),
        format_percent(model["clean"]["accuracy"]),
        format_percent(worst["accuracy"]),
        format_interval(worst["ci95"]),
    )


def _file_cells(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Size, latencies and agreement; the Keras model itself has none of these."""
    if "bytes" not in model:
        return ("-",) * 5
    latency, agreement = model["latency_ms"], model["agreement"]
    return (
        f"{model['bytes'] / 1000:,.1f}",
        f"{latency['median']:.2f}",
        f"{latency['p99']:.2f}",
        format_percent(agreement["same_class"]),
        f"{agreement['largest_difference']:.1e}",
    )


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return [first.strip().ljust(widths[0]), *others]


def deployment_html(deployment: Deployment) -> str:
    """Format the deployment section as HTML, with a column for each attack.

    Args:
        deployment: Value of `deployment` in `report.json`.
    """
    attacks = [attack["name"] for attack in deployment["models"][0]["attacks"]]
    # Size and p99 share cells with other values, to keep the table narrow.
    kept = [name for name in _HEADER if name not in ("kB", "p99 ms")]
    header = (*kept, *(f"{name} %" for name in attacks), "worst case %")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    rows = "".join(map(_row_html, deployment["models"]))
    warnings = "".join(
        f'<p class="reduced"><strong>Warning:</strong> {escape(line)}</p>'
        for line in deployment["warnings"]
    )
    return (
        f'<section><h2>Deployment</h2>{warnings}<div class="scroll" role="region" '
        f'aria-label="Deployment" tabindex="0"><table><caption>{escape(caption(deployment))}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="note">{escape(NOTE)}</p></section>'
    )


def _row_html(model: Mapping[str, Any]) -> str:
    name, size, median, p99, *cells, worst, bounds = _cells(model)
    attacks = [format_percent(attack["accuracy"]) for attack in model["attacks"]]
    latency = f"{median}<br><small>p99 {p99}</small>" if "bytes" in model else median
    values = (latency, *cells, *attacks, f"{worst}<br><small>{bounds}</small>")
    head = f"{escape(name)}<small>{size} kB</small>" if "bytes" in model else escape(name)
    return f'<tr><th scope="row">{head}</th>{"".join(f"<td>{v}</td>" for v in values)}</tr>'
