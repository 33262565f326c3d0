"""The results table as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from keras_srt.core.formatting import shorten
from keras_srt.report.corruptions_section import corruptions_line
from keras_srt.report.deployment_section import deployment_table
from keras_srt.report.masking_section import masking_lines
from keras_srt.report.rows import TABLE_WIDTH, Report, Row, rows_of
from keras_srt.report.smoothing_section import smoothing_line
from keras_srt.report.summary import BOUND_NOTE, RISKS, balanced_line, reduced_note, summary

_MIN_WIDTH = 80  # columns


def terminal_table(report: Report, width: int = TABLE_WIDTH) -> str:
    """Format the results as text.

    Args:
        report: Content of `report.json`.
        width: Columns of the terminal; the table is 80 to 100 columns wide.

    Returns:
        Lines of ASCII, without a final line break.

    Example:
        >>> result = {"accuracy": 0.982, "ci95": [0.97, 0.99], "n": 500}
        >>> table = terminal_table({
        ...     "name": "a", "dataset": {"title": "MNIST", "num_train": 60000, "num_test": 10000},
        ...     "clean": result, "attacks": [], "worst_case": {**result, "attacks": []},
        ...     "risks": {"standard": 0.018, "robust": 0.0, "adversarial": 0.018}})
        >>> table.splitlines()[5]
        'clean       clean images       98.20  [97.00, 99.00]  500        -'
    """
    width = min(max(width, _MIN_WIDTH), TABLE_WIDTH)
    warnings = [f"warning: {text}" for text in report.get("warnings", ())]
    heading = [report["name"], reduced_note(report), *summary(report), *warnings]
    risks = ", ".join(f"{symbol} {report['risks'][key]:.4f}" for key, symbol, _ in RISKS)
    lines = [
        *_wrapped(heading, width),
        "",
        *_table_lines(rows_of(report), width),
        "",
        *_wrapped([balanced_line(report)], width),
        f"Risks: {risks}",
        *(f"  {symbol}: {meaning}" for _, symbol, meaning in RISKS),
        f"  {BOUND_NOTE}",
    ]
    if "corruptions" in report:
        lines += ["", *_wrapped([corruptions_line(report["corruptions"])], width)]
    if "smoothing" in report:
        lines += ["", *_wrapped([smoothing_line(report["smoothing"])], width)]
    if "masking" in report:
        lines += ["", *_wrapped(masking_lines(report["masking"]), width)]
    if "deployment" in report:
        lines += ["", deployment_table(report["deployment"])]
    return "\n".join(lines)


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    return [line for text in texts if text for line in textwrap.wrap(_ascii(text), width)]


def _ascii(text: str) -> str:
    """Replace all but printable ASCII, so that names can't contain terminal control codes."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _table_lines(rows: Sequence[Row], width: int) -> list[str]:
    header = ("attack", "settings", "accuracy %", "95% interval", "n", "seconds")
    cells = [(shorten(_ascii(row.name), 20), _ascii(row.settings), *row.values) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    gaps = 2 * (len(widths) - 1)
    widths[1] = min(widths[1], width - gaps - (sum(widths) - widths[1]))
    rule = "-" * (sum(widths) + gaps)
    lines = [_cell_lines(line, widths) for line in (header, *cells)]
    # A rule below the header, and one before the worst case.
    lines = [*lines[:1], [rule], *lines[1:-1], [rule], lines[-1]]
    return [line for parts in lines for line in parts]


def _cell_lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Format one row, on as many lines as its settings need."""
    first, *more = textwrap.wrap(cells[1], widths[1]) or [""]
    texts = (cells[0], first, *cells[2:])
    aligned = [
        text.ljust(width) if column < 2 else text.rjust(width)
        for column, (text, width) in enumerate(zip(texts, widths, strict=True))
    ]
    return ["  ".join(aligned).rstrip(), *(" " * (widths[0] + 2) + text for text in more)]
