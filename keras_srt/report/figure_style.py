"""Style of figures: colors, Matplotlib settings, and an empty figure with a title."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# After Okabe and Ito: distinguishable with the common kinds of color blindness.
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
WIDTH = 4.6  # inches; the text of a wider figure would be too small on a phone
DPI = 200  # sharp on high-density screens


def new_figure(report: Mapping[str, Any], title: str, height: float) -> Figure:
    """Make an empty figure with a title and, for a reduced run, a note.

    Args:
        report: Content of `report.json`.
        title: Title, shown after the name of the run.
        height: Height in inches, without the title.

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
    """Wrap a text into at most two lines of at most `width` characters."""
    return textwrap.wrap(text, width, max_lines=2, placeholder=" ...")
