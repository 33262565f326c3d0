"""Classify images on a device: `python -m keras_srt.device IMAGE… --model FILE`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.formatting import printable
from keras_srt.core.images import MAX_BYTES, BadImage, decode_image
from keras_srt.device.classify import BadModel, Classifier
from keras_srt.device.trainer import Trainer
from keras_srt.device.weights import BadWeights, restore

EXIT_DONE, EXIT_IMAGE_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The command line arguments; None for those of the process.

    Returns:
        The exit code: 0 done, 1 an image is unreadable (the others are classified), 2 bad input,
        130 interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return _classify_files(options)
    except (BadModel, BadWeights, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m keras_srt.device", description="Classify images with a .tflite file."
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG or JPEG file")
    parser.add_argument("--model", type=Path, required=True, help=".tflite file")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="from keras_srt.device.train")
    parser.add_argument("--top", type=_count, default=3, metavar="K", help="classes to show")
    parser.add_argument("--json", action="store_true", help="one JSON object for each image")
    parser.add_argument(
        "--threads", type=_count, default=1, metavar="N", help="interpreter threads"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a whole number of at least 1")
    return int(text)


def _classify_files(options: argparse.Namespace) -> int:
    classifier = _open(options)
    width = max(len(printable(str(path))) for path in options.images)
    code = EXIT_DONE
    for path in options.images:
        try:
            result = _classify_file(classifier, path, options.top)
        except BadImage as error:
            code = EXIT_IMAGE_FAILED
            result = {"file": str(path), "error": str(error)}
        if options.json:
            print(json.dumps(result), flush=True)
        elif "error" in result:
            print("error: " + printable(f"{path}: {result['error']}"), file=sys.stderr)
        else:
            print(f"{printable(str(path)):<{width}}  {_format_ranking(result['top'])}", flush=True)
    return code


def _open(options: argparse.Namespace) -> Classifier | Trainer:
    if options.weights is None:
        return Classifier(options.model, options.threads)
    trainer = Trainer(options.model, options.threads)
    restore(trainer, options.weights)
    return trainer


def _classify_file(classifier: Classifier | Trainer, path: Path, top: int) -> dict[str, Any]:
    """Classify an image; returns the JSON object of the result."""
    probabilities = classifier.classify(decode_image(_read(path), classifier.shape))
    best = np.argsort(-probabilities, kind="stable")[:top]
    ranking = [{"class_name": classifier.labels[i], "score": float(probabilities[i])} for i in best]
    return {"file": str(path), "class_id": int(best[0]), **ranking[0], "top": ranking}


def _read(path: Path) -> bytes:
    """Read a file, up to one byte more than the maximum size of an image."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadImage(f"can't be read ({error.strerror})") from error


def _format_ranking(ranking: Sequence[dict[str, Any]]) -> str:
    return "  ".join(
        f"{printable(entry['class_name'])} {100 * entry['score']:.1f}%" for entry in ranking
    )


if __name__ == "__main__":
    sys.exit(main())
