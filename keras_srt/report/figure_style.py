"""How figures look: colors, Matplotlib's settings, and an empty one with its title."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colors, told apart with the common kinds of color blindness.
BLUE, SKY, VERMILION, GREEN = "#0072B2", "#7FB2D6", "#C04A00", "#00795A"
PURPLE, ORANGE = "#A6518A", "#D18A00"
INK, GREY = "#222222", "#666666"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
# Inches. On a phone a figure is as wide as the page: letters of a wider one would be too small.
WIDTH = 4.6
# Sharp where a phone packs three pixels into one.
DPI = 200


def new_figure(report: Mapping[str, Any], title: str, height: float) -> Figure:
    """An empty figure with its title and, for a reduced run, the note of that.

    Args:
        report: what `report.json` holds.
        title: what the figure shows, after the name of the run.
        height: inches, without the title.

    Example:
        >>> new_figure({"name": "a", "reduced": None}, "accuracy", 2.0).get_suptitle()
        'a: accuracy'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    texts = [f"{report['name']}: {title}"]
    if report.get("reduced"):
        texts.append(f"Reduced run: {report['reduced']}")
    lines = [line for text in texts for line in few_lines(text, int(WIDTH * 11.5))]
    figure = Figure(figsize=(WIDTH, height + 0.2 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.07)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11)
    return figure


def few_lines(text: str, width: int) -> list[str]:
    """At most two lines of so many letters."""
    return textwrap.wrap(text, width, max_lines=2, placeholder=" ...")
