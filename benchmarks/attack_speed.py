"""Images a second of each attack, beside the same attack of other libraries in the same run.

    python benchmarks/attack_speed.py [--limit 64] [--repeat 3] [--output FILE.json]

The pairs and their settings are those of the cross-check (`pairs.py`), on its small classifier.
Each repetition runs every pair once, ours and theirs in turn. The figures are medians, so that of
three runs the first, which traces and warms up, doesn't count. Both get all images in one batch and
all cores. A library that isn't installed is named and left out: `pip install -e ".[crosscheck]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
from pairs import PAIRS, Pair
from small_classifier import load_test_images, train_small_classifier
from strangers import DISTRIBUTIONS, Subject

from keras_srt.attacks import ATTACKS, TargetModel
from keras_srt.evaluation.runner import evaluate_robustness


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints a table; 0."""
    options = _parser().parse_args(arguments)
    missing = [name for name in DISTRIBUTIONS if util.find_spec(name) is None]
    for name in missing:
        print(f"not installed, left out: {DISTRIBUTIONS[name]}", flush=True)
    chosen = [
        pair
        for pair in PAIRS
        if pair.theirs.module not in missing and pair.ours["name"] in options.attacks
    ]
    images, labels = (part[: options.limit] for part in load_test_images())
    rows = measure(chosen, images, labels, options.repeat)
    document = {
        "machine": machine(),
        "images": len(images),
        "repetitions": options.repeat,
        "missing": missing,
        "rows": rows,
    }
    print(table(document))
    if options.output is not None:
        options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(
    pairs: Sequence[Pair], images: np.ndarray, labels: np.ndarray, repeat: int
) -> list[dict[str, Any]]:
    """Seconds of each side of each pair: medians over the repetitions.

    Args:
        pairs: what to run.
        images: float32 [n, height, width, channels].
        labels: int32 [n].
        repeat: runs of each.

    Returns:
        A row for each pair, with seconds and images a second.
    """
    subject = Subject(train_small_classifier())
    # One target_model for all: its functions are traced once, as in an evaluation.
    target_model = TargetModel(subject.classifier, batch_size=len(images))
    sides = [(_ours(pair, target_model), _theirs(pair, subject)) for pair in pairs]
    seconds: list[tuple[list[float], list[float]]] = [([], []) for _ in pairs]
    for repetition in range(repeat):
        for pair, two_sides, times in zip(pairs, sides, seconds, strict=True):
            print(f"\r{repetition + 1}/{repeat} {pair!s:<40}", end="", file=sys.stderr, flush=True)
            for run, its_times in zip(two_sides, times, strict=True):
                its_times.append(_time(run, images, labels))
    print(file=sys.stderr)
    return [_row(pair, len(images), *times) for pair, times in zip(pairs, seconds, strict=True)]


Run = Callable[[np.ndarray, np.ndarray], Any]


def _ours(pair: Pair, target_model: TargetModel) -> Run:
    attack = ATTACKS.build(pair.ours)
    return lambda images, labels: evaluate_robustness(target_model, images, labels, [attack])


def _theirs(pair: Pair, subject: Subject) -> Run:
    return lambda images, labels: pair.theirs.attacker(subject, images, labels)


def _time(run: Run, images: np.ndarray, labels: np.ndarray) -> float:
    began = time.perf_counter()
    run(images, labels)
    return time.perf_counter() - began


def _row(pair: Pair, n: int, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    our_median, their_median = statistics.median(ours), statistics.median(theirs)
    return {
        "pair": str(pair),
        "settings": pair.ours,
        "library": pair.theirs.library,
        "their_attack": pair.theirs.attack,
        "ours_seconds": ours,
        "theirs_seconds": theirs,
        "ours_images_per_second": n / our_median,
        "theirs_images_per_second": n / their_median,
    }


def table(document: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{document['images']} images, medians of {document['repetitions']}, {document['machine']}",
        "",
        "| attack | against | images/s, theirs | images/s, ours | ours is faster by |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in document["rows"]:
        ours, theirs = row["ours_images_per_second"], row["theirs_images_per_second"]
        attack, _, _ = row["pair"].partition(",")
        lines.append(
            f"| `{attack}` | {row['library']}: {row['their_attack']} | "
            f"{_number(theirs)} | {_number(ours)} | {_number(ours / theirs)}× |"
        )
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def machine() -> str:
    """Processor, cores, and the versions that matter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    version = metadata.version("tensorflow")
    return (
        f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}, "
        f"{platform.system()}, Python {platform.python_version()}, TensorFlow {version}"
    )


def _parser() -> argparse.ArgumentParser:
    names = sorted({pair.ours["name"] for pair in PAIRS})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=64, help="test images, the first ones")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each attack")
    parser.add_argument("--attacks", nargs="+", choices=names, default=names, help="all of them")
    parser.add_argument("--output", type=Path, help="write the figures as JSON to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
