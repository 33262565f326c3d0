"""Writing the figures of a report as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keras_srt.core.files import write_figure
from keras_srt.report.accuracy_figures import (
    accuracy_figure,
    angle_figure,
    epsilon_figure,
    masking_figure,
    smoothing_figure,
    transforms_figure,
)
from keras_srt.report.class_figures import classes_figure, confusion_figure
from keras_srt.report.corruption_figures import corrupted_image_figure, corruptions_figure
from keras_srt.report.example_figure import Examples, examples_figure
from keras_srt.report.figure_style import DPI, STYLE
from keras_srt.report.history import read_history
from keras_srt.report.rows import Report
from keras_srt.report.training_figure import training_figure

FIGURES = (
    *("accuracy.png", "epsilon.png", "angle.png", "transforms.png"),
    *("corruptions.png", "corrupted_image.png", "smoothing.png"),
    *("classes.png", "confusion_clean.png", "confusion_attacked.png"),
    *("examples.png", "examples_more.png", "training.png", "masking.png"),
)
_EXAMPLES = 4  # images in examples.png; the others go into examples_more.png


def write_figures(
    report: Report,
    history_path: Path | None,
    examples: Examples,
    class_names: Sequence[str],
    folder: Path,
) -> list[Path]:
    """Write the figures for which the report has data.

    Args:
        report: Content of `report.json`; the figures of `curves`, `corruptions`, `smoothing`,
            `classes`, `confusion` and `masking` are skipped where these keys are absent.
        history_path: `history.csv` of the training; if None or absent, no `training.png`.
        examples: Images before and after attacks; if empty, no `examples.png`.
        class_names: Names of class ids 0, 1, …; an id without a name is shown as a number.
        folder: Existing folder to write to.

    Returns:
        The files written, in the order of the HTML report.

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
            "corruptions.png": corruptions_figure(report),
            "corrupted_image.png": corrupted_image_figure(report, examples),
            "smoothing.png": smoothing_figure(report),
            "classes.png": classes_figure(report),
            "confusion_clean.png": confusion_figure(report, "clean"),
            "confusion_attacked.png": confusion_figure(report, "worst_case"),
            "examples.png": examples_figure(report, examples.part(0, _EXAMPLES), class_names),
            "examples_more.png": examples_figure(
                report, examples.part(_EXAMPLES, len(examples.images)), class_names
            ),
            "training.png": training_figure(report, read_history(history_path)),
            "masking.png": masking_figure(report),
        }
        for name in FIGURES:
            figure = drawn[name]
            if figure is not None:
                write_figure(folder / name, figure, dpi=DPI)
                written.append(folder / name)
    return written


def written_figures(folder: Path) -> list[Path]:
    """List the figures that `write_figures` wrote to a folder, in the order of the HTML report."""
    paths = [folder / name for name in FIGURES]
    return [path for path in paths if path.is_file()]
