"""`keras-srt predict`: classify images, and sort them by class."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.cli.options import add_foreign, add_labels, check_undeclared, model_options
from keras_srt.cli.output import show_error
from keras_srt.core.errors import UserError

HELP = "Classify images, and sort the files by class."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image files (PNG, JPEG, BMP, GIF, WebP, TIFF; with pillow-heif also HEIC), folders "
        "with such files, quoted globs ('photos/**/*.png')",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="a SavedModel, as saved_models/NAME[/VERSION], a .keras or a .tflite file",
    )
    add_foreign(parser)
    add_labels(parser)
    parser.add_argument(
        "--tflite", type=Path, metavar="FILE", help="a .tflite file of `keras-srt export`"
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="http://host:8501[/v1/models/NAME], of TF Serving or `keras-srt serve`",
    )
    parser.add_argument("--grpc", action="store_true", help="the server speaks gRPC (host:8500)")
    parser.add_argument("--name", help="the model's name on the server")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes to show (3)")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each image")
    parser.add_argument(
        "--sort-into", type=Path, metavar="DIR", help="sort the images into DIR/CLASS/"
    )
    filing = parser.add_mutually_exclusive_group()
    filing.add_argument("--link", action="store_true", help="by symbolic links (default)")
    filing.add_argument("--copy", action="store_true", help="by copies")


def run(options: argparse.Namespace) -> int:
    """Run the command; return 1 if an image can't be read, else 0."""
    _check_predict_options(options)
    from keras_srt.predict import backends
    from keras_srt.predict.image_files import check_sources
    from keras_srt.predict.printing import print_predictions
    from keras_srt.predict.sorting import Sorter

    check_sources(options.images, options.sort_into)
    classifier: backends.Classifier
    if options.model is not None:
        classifier = backends.open_model(options.model, model_options(options), options.labels)
        for line in classifier.conversions:
            show_error(f"{options.model}: {line}")
    elif options.tflite is not None:
        classifier = backends.open_tflite(options.tflite)
    else:
        classifier = backends.open_server(options.server, options.name, options.grpc)
    sorter = None
    if options.sort_into is not None:
        sorter = Sorter(options.sort_into, options.copy)
    failed = print_predictions(options.images, classifier, options.top, options.json, sorter)
    return int(bool(failed))


def _check_predict_options(options: argparse.Namespace) -> None:
    given = [options.model, options.tflite, options.server]
    if sum(value is not None for value in given) != 1:
        raise UserError("predict: give one of --model DIR, --tflite FILE and --server URL")
    if options.top < 1:
        raise UserError(f"--top: got {options.top}; allowed: a whole number of at least 1")
    if options.server is None and (options.grpc or options.name is not None):
        raise UserError("--grpc, --name: only with --server URL")
    if options.model is None:
        check_undeclared(options, "--model PATH")
    if options.sort_into is None and (options.link or options.copy):
        raise UserError("--link, --copy: only with --sort-into DIR")
