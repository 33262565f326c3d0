"""A third-party model in the format of exports, for `keras-srt serve`."""

from __future__ import annotations

import logging
from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.version_folders import is_version, version_folders
from keras_srt.exporters.savedmodel import write_savedmodel
from keras_srt.foreign.adapt import open_classifier
from keras_srt.foreign.model_inputs import probes
from keras_srt.foreign.model_options import ModelOptions
from keras_srt.foreign.open_file import CONTENT

logger = logging.getLogger(__name__)


def needs_copy(path: Path) -> bool:
    """Return whether a path is a model itself, and not a folder with versions."""
    return path.is_file() or (path / CONTENT).is_file()


def write_served_copy(path: Path, options: ModelOptions, labels: Path | None, parent: Path) -> Path:
    """Write `parent/<name>/1`, a SavedModel with the signatures of an export.

    Args:
        path: A SavedModel folder or a `.keras` file.
        options: What the user declares about the model.
        labels: A file with the class names; None for those in the model, or for the class ids.
        parent: An existing folder.

    Returns:
        `parent/<name>`; the name is that of the file or folder.

    Raises:
        UserError: The model can't be used, or another one has this name.
    """
    classifier, names = open_classifier(path, options, labels)
    classifier.check_exportable()
    resolved = path.resolve()
    named = resolved.parent if is_version(resolved.name) else resolved
    folder = parent / named.name.removesuffix(".keras")
    if folder.exists():
        raise UserError("--model: two models have the same name; a name serves one model")
    for line in classifier.conversions:
        logger.info("%s: %s", path, line)
    (folder / "1").mkdir(parents=True)
    write_savedmodel(classifier, names, folder / "1", probes(classifier.image_shape))
    return folder


def check_folder(path: Path, options: ModelOptions, labels: Path | None) -> None:
    """Refuse options that a folder with versions would ignore; its signatures are served as is.

    Raises:
        UserError: The input range, the outputs or the labels are declared.
    """
    if labels is not None or options._replace(foreign=False) != ModelOptions():
        newest = max(version_folders(path), default=1)
        raise UserError(
            f"--input-range, --outputs, --labels: {path} is served as it is; to convert one of "
            f"its versions, give --model {path / str(newest)}"
        )
