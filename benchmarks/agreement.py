"""Compares every route to a published model with the Keras model, and writes the table.

Usage: `python benchmarks/agreement.py --run runs/NAME [--images 200] [--output FILE.md]`
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from agreement_routes import (
    FLOATS,
    PNGS,
    Answer,
    Ask,
    Published,
    Route,
    Unavailable,
    WayIn,
    all_routes,
    reference,
)
from agreement_table import is_within, row, row_not_run, to_markdown

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf
from keras_srt.pipeline.run_folder import RunFolder, write_json

_IMAGES = 200
_BATCH = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the comparison.

    Args:
        arguments: of the command line; by default those of the process.

    Returns:
        The exit code: 0 all within their tolerances, 1 some not, 2 bad input.
    """
    options = _parser().parse_args(arguments)
    try:
        document = _measure(options)
        _write(options.output, document)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {options.output} and {options.output.with_suffix('.json')}")
    return 0 if all(map(is_within, document["rows"])) else 1


def compare(
    model: Published,
    images: np.ndarray,
    routes: Sequence[Route],
    tell: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Asks a published model by each route.

    Args:
        model: that was published.
        images: uint8 [n, height, width, channels].
        routes: to compare.
        tell: called with each row when it is known.

    Returns:
        The rows of the table: each route with each of its ways in.
    """
    batches = {
        FLOATS: np.float32(images / 255.0),
        PNGS: np.array([tf.io.encode_png(image).numpy() for image in images], object),
    }
    with reference(model) as ask:
        expected = _ask_all(ask, FLOATS, batches[FLOATS])
    rows = []
    for route in routes:
        for made in _rows(route, model, batches, expected):
            tell(made)
            rows.append(made)
    return rows


def _rows(
    route: Route, model: Published, batches: dict[WayIn, np.ndarray], expected: Answer
) -> Iterator[dict[str, Any]]:
    software = route.software()
    try:
        with route.open(model) as ask:
            for way in route.ways:
                got = _ask_all(ask, way, batches[way])
                yield row(route.name, way.title, software, route.precision, expected, got)
    except Unavailable as error:
        for way in route.ways:
            yield row_not_run(route.name, way.title, software, str(error))


def _ask_all(ask: Ask, way: WayIn, images: np.ndarray) -> Answer:
    parts = [ask(way, images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
    return Answer(*map(np.concatenate, zip(*parts, strict=True)))


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """The table of a run, as it is written to JSON."""
    from keras_srt.pipeline import run as pipeline

    run = RunFolder(options.run)
    if options.images < 1:
        raise UserError(f"--images: got {options.images}; allowed: a whole number of at least 1")
    if not options.output.resolve().parent.is_dir():
        raise UserError(f"--output {options.output}: its folder doesn't exist; make it first")
    config = pipeline.load_run_config(run)
    info = config.data.dataset.info(options.data_dir)
    images, _ = pipeline.load_test(config, options.data_dir, options.images)
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(config, export=folder)
        exported = pipeline.export_run(config, run, options.data_dir)
        classifier = pipeline.best_classifier(config, run, info)
        model = Published(classifier, exported.savedmodel, exported.tflite)
        rows = compare(model, images, all_routes(), _print_row)
    size = " x ".join(map(str, info.input_shape))
    return {
        "schema": 1,
        # Where such a run lies unless --run-dir says otherwise.
        "command": f"python benchmarks/agreement.py --run runs/{config.name}"
        + (f" --images {options.images}" if options.images != _IMAGES else ""),
        "machine": _machine(),
        "model": f"`{config.model.name}`, trained on {info.title} ({size})",
        "images": len(images),
        "rows": rows,
    }


def _write(output: Path, document: dict[str, Any]) -> None:
    write_json(output.with_suffix(".json"), document)
    output.write_text(to_markdown(document), encoding="utf-8")


def _print_row(row: dict[str, Any]) -> None:
    result = (
        f"not run: {row['not_run']}"
        if "not_run" in row
        else f"{row['largest_difference']:.1e}  {row['same_class']}/{row['images']}"
    )
    verdict = "" if is_within(row) else "  TOO MUCH"
    print(
        f"{row['route']:<44} {row['input']:<9} {result}{verdict}  ({row['software']})", flush=True
    )


def _machine() -> str:
    """Processor, cores and Python."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{os.cpu_count()} cores of {name}, {platform.system()}, Python " + ".".join(
        platform.python_version_tuple()[:2]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--images", type=int, default=_IMAGES, help="test images, the first ones")
    parser.add_argument("--data-dir", type=Path, help="where prepared datasets lie")
    parser.add_argument(
        "--output", type=Path, default=Path("docs", "agreement.md"), help="a .json goes beside it"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
