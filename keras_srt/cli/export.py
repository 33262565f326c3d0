"""`keras-srt export`: publish a finished run as SavedModel and TFLite."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_srt.cli.options import (
    add_data_dir,
    add_foreign,
    add_labels,
    add_quiet,
    check_undeclared,
    model_options,
)
from keras_srt.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

HELP = "Publish a finished run, or another model, as SavedModel and TFLite."
# The exported files are compared with the model on so many images.
_NUM_IMAGES = 300


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--run", type=Path, help="folder of a finished run")
    _add_model(parser.add_argument_group("a third-party model"))
    parser.add_argument("--version", type=int, help="a free whole number (default: the next)")
    parser.add_argument(
        "--keep", type=int, metavar="N", help="then remove the oldest versions beyond N"
    )
    add_data_dir(parser)
    add_quiet(parser)
    parser.add_argument(
        "--trainable",
        action="store_true",
        help="also write model_train.tflite, which can be trained further on a device",
    )
    parser.add_argument(
        "--trainable-batch",
        type=int,
        nargs=2,
        metavar=("LABELED", "UNLABELED"),
        help="images of a step on the device (default: 8 24; 32 0 for RT)",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    if options.keep is not None and options.keep < 1:
        raise UserError(f"--keep: got {options.keep}; allowed: a whole number of at least 1")
    _check_options(options)
    if options.model is not None:
        _export_model(options)
        return
    from keras_srt.pipeline.configs import load_run_config
    from keras_srt.pipeline.context import RunContext
    from keras_srt.pipeline.publish import device_training_settings, publish
    from keras_srt.pipeline.run_folder import RunFolder

    folder = RunFolder(options.run)
    config = load_run_config(folder)
    trainable = (
        device_training_settings(config, options.trainable_batch) if options.trainable else None
    )
    context = RunContext.open(config, folder, options.data_dir)
    publish(context, options.version, options.keep, trainable)


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", type=Path, metavar="PATH", help="a SavedModel folder or a .keras file"
    )
    group.add_argument(
        "--to", type=Path, metavar="DIR", help="where the versions go: saved_models/NAME"
    )
    group.add_argument(
        "--images",
        nargs="+",
        metavar="IMAGE",
        help="images of the model's kind, files or folders: the exported files are compared on "
        f"{_NUM_IMAGES} of them, and the 8-bit file is calibrated with them",
    )
    add_foreign(group)
    add_labels(group)


def _check_options(options: argparse.Namespace) -> None:
    if (options.run is None) == (options.model is None):
        raise UserError("export: give one of --run RUN and --model PATH")
    given = {name: getattr(options, name) for name in ("to", "images")}
    if options.model is None:
        check_undeclared(options, "--model PATH")
        for name, value in given.items():
            if value is not None:
                raise UserError(f"--{name}: only with --model PATH")
        return
    for name, value in given.items():
        if value is None:
            raise UserError(f"export --model: --{name} is missing; see --help")
    if options.trainable:
        raise UserError("--trainable: only with --run RUN, whose training step it continues")


def _export_model(options: argparse.Namespace) -> None:
    """Export a third-party model."""
    from keras_srt.core.log_levels import RESULT
    from keras_srt.exporters.export import export_classifier
    from keras_srt.foreign.adapt import open_classifier
    from keras_srt.pipeline.describe import describe_export

    classifier, names = open_classifier(options.model, model_options(options), options.labels)
    classifier.check_exportable()
    for line in classifier.conversions:
        logger.info("%s: %s", options.model, line)
    samples = _read_images(options.images, classifier.image_shape)
    exported = export_classifier(
        classifier, names, options.to, samples, options.version, keep=options.keep
    )
    logger.log(RESULT, describe_export(exported))


def _read_images(sources: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    """Decode some of the images, float32 [n, height, width, channels] in [0, 1]."""
    import numpy as np

    from keras_srt.core.images import BadImage, decode_image
    from keras_srt.predict.image_files import check_sources, find_images

    check_sources(sources, None)
    paths = list(find_images(sources))
    images = []
    for path in paths[:: -(-len(paths) // _NUM_IMAGES)]:  # of all folders, such as the classes
        try:
            images.append(decode_image(path.read_bytes(), shape))
        except (BadImage, OSError) as error:
            raise UserError(f"--images: {path} {error}") from error
    return np.stack(images)
