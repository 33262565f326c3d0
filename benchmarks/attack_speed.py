"""Images per second of each attack and of the same attack of other libraries.

    python benchmarks/attack_speed.py [--limit 64] [--repeat 3] [--output FILE.json]

The pairs and their settings are those of the cross-check (`attack_pairs.py`), on its small
classifier. All programs run interleaved, with all images in one batch and all cores; the first run
traces and warms up. Libraries that are not installed are reported and skipped:
`pip install -e ".[crosscheck]"`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import util
from typing import Any

import numpy as np
from attack_pairs import PAIRS, Pair
from harness import finish, interleave, machine, parser, spread, table
from libraries import DISTRIBUTIONS, Subject
from small_classifier import load_test_images, train_small_classifier

from keras_srt.attacks import ATTACKS, TargetModel
from keras_srt.evaluation.runner import evaluate_robustness


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints the table."""
    options = _parser().parse_args(arguments)
    missing = [name for name in DISTRIBUTIONS if util.find_spec(name) is None]
    for name in missing:
        print(f"{DISTRIBUTIONS[name]} skipped: not installed", file=sys.stderr)
    chosen = [
        pair
        for pair in PAIRS
        if pair.theirs.module not in missing and pair.ours["name"] in options.attacks
    ]
    described = machine()
    images, labels = (part[: options.limit] for part in load_test_images())
    document = {
        "machine": described,
        "images": len(images),
        "repetitions": options.repeat,
        "missing": missing,
        "rows": measure(chosen, images, labels, 1 if options.quick else options.repeat),
    }
    return finish(document, to_markdown(document), options.output)


def measure(
    pairs: Sequence[Pair], images: np.ndarray, labels: np.ndarray, repeat: int
) -> list[dict[str, Any]]:
    """Seconds of both sides of each pair.

    Args:
        pairs: Pairs to run.
        images: float32 [n, height, width, channels].
        labels: int32 [n].
        repeat: Number of timed runs of each side.

    Returns:
        A row for each pair, with seconds and images per second.
    """
    subject = Subject(train_small_classifier())
    # One model for all attacks: its functions are traced once, as in an evaluation.
    model = TargetModel(subject.classifier, batch_size=len(images))
    programs: dict[str, Callable[[], Any]] = {}
    for pair in pairs:
        attack = ATTACKS.build(pair.ours)
        programs[f"{pair} ours"] = lambda attack=attack: evaluate_robustness(
            model, images, labels, [attack]
        )
        programs[f"{pair} theirs"] = lambda pair=pair: pair.theirs.attacker(subject, images, labels)
    seconds = interleave(programs, repeat, warm_up=1)
    return [
        {
            "pair": str(pair),
            "settings": pair.ours,
            "library": pair.theirs.library,
            "their_attack": pair.theirs.attack,
            **{f"{side}_seconds": seconds[f"{pair} {side}"] for side in ("ours", "theirs")},
            **{
                f"{side}_images_per_second": len(images) / spread(seconds[f"{pair} {side}"]).median
                for side in ("ours", "theirs")
            },
        }
        for pair in pairs
    ]


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as a table."""
    rows = []
    for row in document["rows"]:
        ours, theirs = row["ours_images_per_second"], row["theirs_images_per_second"]
        attack, _, _ = row["pair"].partition(",")
        numbers = [_number(theirs), _number(ours), f"{_number(ours / theirs)}×"]
        rows.append([f"`{attack}`", f"{row['library']}: {row['their_attack']}", *numbers])
    header = ["attack", "other library", "images/s, theirs", "images/s, ours", "ratio"]
    head = f"{document['images']} images, medians of {document['repetitions']}"
    return f"{head}\n\n{table(header, rows)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _parser() -> argparse.ArgumentParser:
    names = sorted({pair.ours["name"] for pair in PAIRS})
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--limit", type=int, default=64, help="number of test images")
    made.add_argument("--repeat", type=int, default=3, help="timed runs of each attack")
    made.add_argument("--attacks", nargs="+", choices=names, default=names)
    return made


if __name__ == "__main__":
    sys.exit(main())
