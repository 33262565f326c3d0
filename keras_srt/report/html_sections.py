"""Sections of the HTML report."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from keras_srt.core.formatting import format_interval, format_percent
from keras_srt.report.facts import Fact, costs, origin
from keras_srt.report.figure_captions import alt_text, caption
from keras_srt.report.rows import Report, rows_of
from keras_srt.report.summary import BOUND_NOTE, RISKS, balanced_line, reduced_note, summary

_SEARCH_NOTE = (
    "Attacks give upper bounds of the robust accuracy: a stronger attack can only lower it and "
    "raise R_rob and R_adv."
)


def section(title: str, *parts: str) -> str:
    """Make a section with a heading; an empty string if all `parts` are empty."""
    body = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def measurement(
    title: str,
    part: Mapping[str, Any] | None,
    describe: Callable[[Mapping[str, Any]], str],
    note: str,
    figures: str,
) -> str:
    """Make a section of a line, a note and figures; an empty string if nothing was measured.

    Args:
        title: The heading.
        part: The measurement in `report.json`, or None.
        describe: Summarizes the measurement in a line.
        note: What the measurement means.
        figures: HTML of the figures.
    """
    if part is None:
        return ""
    texts = f'<p>{escape(describe(part))}.</p><p class="note">{escape(note)}</p>'
    return section(title, texts, figures)


class Figures:
    """The figures of the HTML report.

    Args:
        report: Content of `report.json`.
        paths: PNG files.
    """

    def __init__(self, report: Report, paths: Sequence[Path]) -> None:
        self._report = report
        self._paths = {path.stem: path for path in paths}

    def html(self, *stems: str) -> str:
        """Format the figures with these stems that exist, with captions and alternative texts."""
        parts = [self._html(stem) for stem in stems if stem in self._paths]
        look = "figures" if len(parts) > 1 else "figures single"
        return f'<div class="{look}">{"".join(parts)}</div>' if parts else ""

    def _html(self, stem: str) -> str:
        data = base64.b64encode(self._paths[stem].read_bytes()).decode("ascii")
        return (
            f'<figure><img alt="{escape(alt_text(stem, self._report))}" '
            f'src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption(stem, self._report))}</figcaption></figure>"
        )


def headline(report: Report) -> str:
    """Format the name, the note of a reduced run, and clean and worst-case accuracy."""
    banner = ""
    if report.get("reduced"):
        banner = f'<p class="reduced"><strong>Reduced run:</strong> {escape(report["reduced"])}</p>'
    attacks = len(report["worst_case"]["attacks"])
    tiles = "".join(
        _tile(title, report[key], text)
        for title, key, text in (
            ("Clean accuracy", "clean", "without attack"),
            ("Robust accuracy", "worst_case", f"worst case over {attacks} attacks"),
        )
    )
    title = f"<h1>{escape(report['name'])}</h1>"
    return f'<header>{title}{banner}<div class="tiles">{tiles}</div></header>'


def _tile(title: str, result: Mapping[str, Any], text: str) -> str:
    about = f"{text}, 95% interval {format_interval(result['ci95'])}, n = {result['n']:,}"
    return (
        f'<div class="tile"><p>{escape(title)}</p>'
        f'<p class="value">{format_percent(result["accuracy"])}%</p>'
        f'<p class="note">{escape(about)}</p></div>'
    )


def trained_on(report: Report) -> str:
    """Format data, objective, model, seed and versions."""
    texts = "".join(f"<p>{escape(line)}</p>" for line in summary(report))
    return section("Training setup", texts, _facts(origin(report)))


def cost(report: Report, figures: Figures) -> str:
    """Format training curves, passes and seconds."""
    return section("Training and cost", figures.html("training"), _facts(costs(report)))


def _facts(facts: Sequence[Fact]) -> str:
    items = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in facts)
    return f'<dl class="facts">{items}</dl>' if items else ""


def table(name: str, header: Sequence[str], rows: Sequence[str], about: str) -> str:
    """Format a table that scrolls horizontally on narrow screens.

    Args:
        name: Accessible name of the table.
        header: Column names, plain text.
        rows: Rows, HTML.
        about: Caption, plain text.
    """
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in header)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0"><table>'
        f"<caption>{escape(about)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def table_row(head: str, cells: Sequence[str], kind: str = "") -> str:
    """Format a table row: the heading is HTML, the cells are plain text."""
    look = f' class="{kind}"' if kind else ""
    values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr{look}><th scope="row">{head}</th>{values}</tr>'


def results(report: Report, figures: Figures) -> str:
    """Format the table of attacks, the worst case, and the bar chart."""
    rows = [
        table_row(f"{escape(row.name)}<small>{escape(row.settings)}</small>", row.values, row.kind)
        for row in rows_of(report)
    ]
    about = "Fraction of test images correctly classified both before and after the attack."
    if note := reduced_note(report):
        about += f" {note}"
    header = ("Attack", "Accuracy %", "95% interval", "n", "Seconds")
    warnings = "".join(
        f"<p><strong>Warning:</strong> {escape(text)}</p>" for text in report.get("warnings", ())
    )
    return section(
        "Results",
        table("Results", header, rows, about),
        f"<p><strong>Worst case: {format_percent(report['worst_case']['accuracy'])}%.</strong> "
        "Fraction of images correctly classified under every attack in the last row of the "
        "table.</p>"
        f'{warnings}<p class="note">{escape(_SEARCH_NOTE)}</p>',
        figures.html("accuracy"),
    )


def classes(report: Report, figures: Figures) -> str:
    """Format accuracies of classes and the most frequent misclassifications."""
    if "classes" not in report:
        return ""
    rows = [
        table_row(
            escape(each["name"]),
            [
                *(format_percent(each[kind]["accuracy"]) for kind in ("clean", "worst_case")),
                format_interval(each["worst_case"]["ci95"]),
                f"{each['n']:,}",
            ],
        )
        for each in report["classes"]
        if each["n"]
    ]
    header = ("Class", "Clean %", "Worst case %", "95% interval", "n")
    numbers = table(
        "Classes", header, rows, "Accuracy of each class, with the interval of the worst case."
    )
    return section(
        "Classes",
        f"<p>{escape(balanced_line(report))}</p>" if "balanced" in report else "",
        figures.html("classes", "confusion_clean", "confusion_attacked"),
        _mistakes(report["mistakes"]),
        f"<details><summary>Accuracy of each class</summary>{numbers}</details>",
    )


def _mistakes(mistakes: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    titles = {"clean": "on clean images", "worst_case": "in the worst case"}
    texts = []
    for kind, title in titles.items():
        pairs = [
            f"{pair['label']} \N{RIGHTWARDS ARROW} {pair['answer']} ({pair['count']:,})"
            for pair in mistakes[kind][:5]
        ]
        texts.append(
            f"<p>Most frequent misclassifications {title}: {escape(', '.join(pairs) or 'none')}</p>"
        )
    return "".join(texts)


def risks(report: Report) -> str:
    """Format R_stand, R_rob and R_adv."""
    items = "".join(
        f"<dt>{_subscript(symbol)}</dt><dd>{report['risks'][key]:.4f}</dd>"
        f'<dd class="meaning">{escape(meaning)}</dd>'
        for key, symbol, meaning in RISKS
    )
    notes = (_subscript(BOUND_NOTE), escape(reduced_note(report)))
    text = "".join(f'<p class="note">{note}</p>' for note in notes if note)
    return section("Risks", f"<dl>{items}</dl>{text}")


def _subscript(text: str) -> str:
    for _, symbol, _ in RISKS:
        text = text.replace(symbol, f"R<sub>{symbol.removeprefix('R_')}</sub>")
    return text
