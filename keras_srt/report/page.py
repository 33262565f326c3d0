"""The results as a web page."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from keras_srt.report.content import (
    BOUND_NOTE,
    RISKS,
    Report,
    percent,
    reduced_note,
    rows_of,
    summary,
)
from keras_srt.report.deployment import deployment_html
from keras_srt.report.masking import masking_html

_SEARCH_NOTE = (
    "Attacks search, they don't prove: stronger ones can only raise R_rob and R_adv and lower "
    "the accuracies."
)
_CAPTIONS = {
    "accuracy": "Accuracy without tampering, under each attack and in the worst case.",
    "training": "Loss terms and validation accuracies by step.",
    "masking": "Accuracy under PGD as eps grows: of an honest model it falls below chance.",
    "examples": "Images before and after an attack, and the difference.",
}

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f8; color: #222;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 0.6rem; }
p { margin: 0.3rem 0; overflow-wrap: anywhere; }
section { background: #fff; border: 1px solid #e0e3e6; border-radius: 8px;
  padding: 1rem; margin: 1rem 0; }
.reduced { background: #fff4dc; border-left: 4px solid #d18a00; padding: 0.5rem 0.75rem; }
.note { color: #555; font-size: 0.9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; font-size: 0.9rem; padding-bottom: 0.4rem; }
th, td { padding: 0.45rem 0.6rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid #e6e8ea; white-space: nowrap; }
th { font-weight: 600; }
th:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere;
  min-width: 8.5rem; }
th small { display: block; font-weight: 400; color: #555; }
tr.worst > * { border-top: 2px solid #c04a00; background: #fdf4ef; }
dl { display: grid; grid-template-columns: max-content max-content 1fr; gap: 0.3rem 0.9rem;
  margin: 0 0 0.6rem; font-variant-numeric: tabular-nums; }
dt { font-weight: 600; }
dd { margin: 0; }
figure { margin: 0 0 1.25rem; }
figure:last-child { margin-bottom: 0; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: #555; font-size: 0.9rem; margin-top: 0.3rem; }
summary { cursor: pointer; }
pre { overflow-x: auto; font-size: 0.8rem; background: #f6f7f8; padding: 0.75rem; }
@media (max-width: 36rem) {
  main { padding: 0.75rem 0.5rem 2rem; }
  section { padding: 0.75rem; }
  table { font-size: 0.82rem; }
  th, td { padding: 0.4rem 0.3rem; }
  dl { grid-template-columns: max-content 1fr; }
  dl .meaning { grid-column: 1 / -1; margin-bottom: 0.4rem; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


def write_html(report: Report, figures: Sequence[Path], path: Path) -> Path:
    """Writes one web page that needs nothing else: figures and style are inside.

    Args:
        report: what `report.json` holds.
        figures: PNG files, as `write_figures` returns them.
        path: the page, usually `report.html`; its folder has to exist.

    Returns:
        `path`.

    Example:
        >>> write_html(report, figures, run / "report.html")  # doctest: +SKIP
    """
    title = escape(report["name"])
    summary_html = "".join(f"<p>{escape(line)}</p>" for line in summary(report))
    everything = escape(json.dumps(report, indent=2, ensure_ascii=False))
    body = [
        f"<header><h1>{title}</h1>{_banner(report)}</header>",
        f"<section><h2>What it was trained on</h2>{summary_html}</section>",
        _results_html(report),
        _risks_html(report),
        *([masking_html(report["masking"])] if "masking" in report else []),
        *([deployment_html(report["deployment"])] if "deployment" in report else []),
        _figures_html(report, figures),
        "<section><h2>Settings</h2><details><summary>Everything in report.json</summary>"
        f"<pre>{everything}</pre></details></section>",
    ]
    text = _PAGE.substitute(title=title, style=_CSS, body="\n".join(body))
    # A file name may hold bytes that are no text: those become question marks.
    path.write_text(text, encoding="utf-8", errors="replace")
    return path


def _banner(report: Report) -> str:
    if not report.get("reduced"):
        return ""
    return f'<p class="reduced"><strong>Reduced run:</strong> {escape(report["reduced"])}</p>'


def _results_html(report: Report) -> str:
    lines = []
    for row in rows_of(report):
        cells = "".join(f"<td>{value}</td>" for value in row.values)
        head = f"{escape(row.name)}<small>{escape(row.settings)}</small>"
        lines.append(f'<tr class="{row.kind}"><th scope="row">{head}</th>{cells}</tr>')
    names = ("Attack", "Accuracy %", "95% interval", "n", "Seconds")
    header = "".join(f'<th scope="col">{name}</th>' for name in names)
    caption = "Share of test images that are right, before and after the attack alike."
    if note := reduced_note(report):
        caption += f" {note}"
    return (
        '<section><h2>Results</h2><div class="scroll" role="region" aria-label="Results" '
        f'tabindex="0"><table><caption>{escape(caption)}</caption><thead><tr>{header}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div><p><strong>Worst case: "
        f"{percent(report['worst_case']['accuracy'])}%.</strong> An image counts if it stays right "
        f'under every attack of the table\'s last row.</p><p class="note">{escape(_SEARCH_NOTE)}'
        "</p></section>"
    )


def _risks_html(report: Report) -> str:
    items = "".join(
        f"<dt>{_subscript(symbol)}</dt><dd>{report['risks'][key]:.4f}</dd>"
        f'<dd class="meaning">{escape(meaning)}</dd>'
        for key, symbol, meaning in RISKS
    )
    notes = (_subscript(BOUND_NOTE), escape(reduced_note(report)))
    text = "".join(f'<p class="note">{note}</p>' for note in notes if note)
    return f"<section><h2>Risks</h2><dl>{items}</dl>{text}</section>"


def _subscript(text: str) -> str:
    for _, symbol, _ in RISKS:
        text = text.replace(symbol, f"R<sub>{symbol.removeprefix('R_')}</sub>")
    return text


def _figures_html(report: Report, figures: Sequence[Path]) -> str:
    """The images themselves, with a text for those who can't see them."""
    values = ", ".join(f"{row.name} {percent(row.accuracy)}%" for row in rows_of(report))
    texts = {**_CAPTIONS, "accuracy": f"Bar chart of accuracies: {values}."}
    parts = []
    for figure in figures:
        data = base64.b64encode(figure.read_bytes()).decode("ascii")
        parts.append(
            f'<figure><img alt="{escape(texts[figure.stem])}" '
            f'src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(_CAPTIONS[figure.stem])}</figcaption></figure>"
        )
    return f"<section><h2>Figures</h2>{''.join(parts)}</section>"
