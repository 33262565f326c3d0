"""The results as figures; Matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keras_srt.report import rows as content
from keras_srt.report.accuracy_figures import (
    accuracy_figure,
    angle_figure,
    epsilon_figure,
    masking_figure,
    transforms_figure,
)
from keras_srt.report.class_figures import classes_figure, confusion_figure
from keras_srt.report.example_figure import Examples, examples_figure
from keras_srt.report.figure_style import DPI, STYLE
from keras_srt.report.rows import Report
from keras_srt.report.training_figure import training_figure

FIGURES = (
    *("accuracy.png", "epsilon.png", "angle.png", "transforms.png"),
    *("classes.png", "confusion_clean.png", "confusion_attacked.png"),
    *("examples.png", "examples_more.png", "training.png", "masking.png"),
)
# Images of a figure; the rest goes into another, beside it.
_ROWS = 4


def write_figures(
    report: Report,
    history_path: Path | None,
    examples: Examples,
    class_names: Sequence[str],
    folder: Path,
) -> list[Path]:
    """Writes what there is to draw as PNG files.

    Args:
        report: what `report.json` holds; without its parts `curves`, `classes`, `confusion` and
            `masking`, none of the figures of these.
        history_path: `history.csv` of the training; without one, no `training.png`.
        examples: images before and after attacks; without any, no `examples.png`.
        class_names: for class ids 0, 1, …; an id without a name is shown as a number.
        folder: where to write; has to exist.

    Returns:
        The files written, in the order of the page.

    Example:
        >>> write_figures(report, run / "history.csv", examples, names, run)  # doctest: +SKIP
    """
    import matplotlib

    written = []
    with matplotlib.rc_context(STYLE):
        drawn = {
            "accuracy.png": accuracy_figure(report),
            "epsilon.png": epsilon_figure(report),
            "angle.png": angle_figure(report),
            "transforms.png": transforms_figure(report),
            "classes.png": classes_figure(report),
            "confusion_clean.png": confusion_figure(report, "clean"),
            "confusion_attacked.png": confusion_figure(report, "worst_case"),
            "examples.png": examples_figure(report, examples.part(0, _ROWS), class_names),
            "examples_more.png": examples_figure(
                report, examples.part(_ROWS, len(examples.images)), class_names
            ),
            "training.png": training_figure(report, content.read_history(history_path)),
            "masking.png": masking_figure(report),
        }
        for name in FIGURES:
            figure = drawn[name]
            if figure is not None:
                figure.savefig(folder / name, dpi=DPI, metadata={"Software": None})
                written.append(folder / name)
    return written


def written_figures(folder: Path) -> list[Path]:
    """The figures that `write_figures` left in a folder, in the order of the page."""
    paths = [folder / name for name in FIGURES]
    return [path for path in paths if path.is_file()]
