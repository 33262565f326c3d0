"""The HTML report: one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from keras_srt.core.files import write_text
from keras_srt.report import corruptions_section, smoothing_section
from keras_srt.report import html_sections as sections
from keras_srt.report.deployment_section import deployment_html
from keras_srt.report.masking_section import masking_html
from keras_srt.report.model_card import write_card
from keras_srt.report.rows import Report

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
dl.facts { grid-template-columns: max-content 1fr; }
dl.facts dd { overflow-wrap: anywhere; min-width: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr));
  gap: 0.75rem; }
.tile { background: #fff; border: 1px solid #e0e3e6; border-left: 5px solid #0072b2;
  border-radius: 8px; padding: 0.6rem 0.9rem; }
.tile + .tile { border-left-color: #c04a00; }
.tile .value { font-size: 2.1rem; line-height: 1.2; font-weight: 650; margin: 0;
  font-variant-numeric: tabular-nums; }
.figures { columns: 2 20rem; column-gap: 1.5rem; margin: 0.75rem 0; }
.figures.single { columns: auto; max-width: 30rem; margin: 0.75rem auto; }
figure { margin: 0 0 1.25rem; break-inside: avoid; }
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
  dl.facts { grid-template-columns: 1fr; }
  dl.facts dd { margin-bottom: 0.4rem; }
  dl .meaning { grid-column: 1 / -1; margin-bottom: 0.4rem; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


def write_pages(report: Report, figures: Sequence[Path], folder: Path) -> None:
    """Write `report.html` and `MODEL_CARD.md`.

    Args:
        report: Content of `report.json`.
        figures: PNG files, as `write_figures` returns them.
        folder: Existing folder to write to.
    """
    write_html(report, figures, folder / "report.html")
    write_card(report, folder / "MODEL_CARD.md")


def write_html(report: Report, figures: Sequence[Path], path: Path) -> Path:
    """Write the HTML report as one file that contains its figures and style.

    Args:
        report: Content of `report.json`.
        figures: PNG files, as `write_figures` returns them.
        path: The file, usually `report.html`, in an existing folder.

    Returns:
        `path`.

    Example:
        >>> write_html(report, figures, run / "report.html")  # doctest: +SKIP
    """
    shown = sections.Figures(report, figures)
    everything = escape(json.dumps(report, indent=2, ensure_ascii=False))
    body = [
        sections.headline(report),
        sections.trained_on(report),
        sections.results(report, shown),
        sections.section(
            "Accuracy against perturbation size", shown.html("epsilon", "angle", "transforms")
        ),
        sections.measurement(
            "Corrupted images",
            report.get("corruptions"),
            corruptions_section.corruptions_line,
            corruptions_section.NOTE,
            shown.html("corruptions", "corrupted_image"),
        ),
        sections.measurement(
            "Certified accuracy",
            report.get("smoothing"),
            smoothing_section.smoothing_line,
            smoothing_section.NOTE,
            shown.html("smoothing"),
        ),
        sections.classes(report, shown),
        sections.section("Attacked images", shown.html("examples", "examples_more")),
        sections.risks(report),
        masking_html(report["masking"], shown.html("masking")) if "masking" in report else "",
        deployment_html(report["deployment"]) if "deployment" in report else "",
        sections.cost(report, shown),
        "<section><h2>Settings</h2><details><summary>Content of report.json</summary>"
        f"<pre>{everything}</pre></details></section>",
    ]
    text = _PAGE.substitute(
        title=escape(report["name"]), style=_CSS, body="\n".join(filter(None, body))
    )
    # File names may contain bytes that are not UTF-8: these become question marks.
    write_text(path, text, errors="replace")
    return path
