"""What bfloat16 costs in accuracy: the same trainings in float32 and in bfloat16, seed by seed.

    python benchmarks/precision_cost.py [--config mnist_pixel.json --variant quick] [--set …]

Each seed is trained in both precisions. Both classifiers are then attacked, in float32 as they are
shipped, on the same test images with all attacks of the config. The difference is taken image by
image, so that what both get right or wrong tells nothing; two trainings that differ in their seed
alone differ, too, which the rows show.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import finish, machine, parser, save, table
from trainings import SEEDS, Job, attack_trained, kept_rows, train_apart, trained_steps

from keras_srt.attacks import Attack
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.pipeline.classifiers import load_config

PRECISIONS = ("float32", "mixed_bfloat16")
# Two-sided, of the normal distribution.
_95_PERCENT = 1.96


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints a table; 0, or 2 where the config can't be used."""
    options = _options().parse_args(arguments)
    quick = ["training.steps=4", "training.interval=4"] if options.quick else []
    settings = [*options.set, *quick]
    try:
        attacks = load_config(options.config, options.variant, settings).evaluation.attacks
        document = {
            "machine": machine(),
            "config": options.config,
            "variant": options.variant,
            "overrides": settings,
            "attacks": [attack.name for attack in attacks],
            "limit": 20 if options.quick else options.limit,
        }
        kept = kept_rows(document, options.output) if options.keep else []
    except (InvalidSettings, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = document["rows"] = [row for row in kept if row["seed"] not in options.seeds]
    with tempfile.TemporaryDirectory(prefix="keras-srt-precision-") as scratch:
        for seed in options.seeds:
            jobs = {}
            for precision in PRECISIONS:
                name = f"seed{seed}-{precision}"
                its_own = (f"training.precision={precision}", f"seed={seed}", f"name={name}")
                overrides = (*settings, *its_own)
                jobs[precision] = Job(
                    options.config, options.variant, overrides, scratch, options.data_dir
                )
            rows.append({"seed": seed, **_measure(jobs, attacks, document["limit"])})
            rows.sort(key=lambda row: row["seed"])
            save(document, options.output)  # a seed may take half an hour
    finish(document, to_markdown(document), options.output)
    return 0


def _measure(jobs: dict[str, Job], attacks: Sequence[Attack], limit: int | None) -> dict[str, Any]:
    """Trains in each precision, and compares the classifiers on the test images."""
    row: dict[str, Any] = {}
    right = {}
    for precision, job in jobs.items():
        timed = train_apart(job)
        outcome = attack_trained(job, attacks, limit)
        right[precision] = {"clean": outcome.right, "robust": outcome.worst_case()}
        counts = {of: int(mask.sum()) for of, mask in right[precision].items()}
        row |= {"n": len(outcome.labels), "steps": trained_steps(job)}
        row[precision] = {**timed, **counts}
    row["lost"], row["won"] = compare(*(right[precision] for precision in PRECISIONS))
    return row


def compare(
    before: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> tuple[dict[str, int], dict[str, int]]:
    """How many images only the first gets right, and how many only the second.

    Args:
        before: bool [n] by what is counted.
        after: the same of the other classifier.

    Example:
        >>> compare({"clean": np.array([True, True])}, {"clean": np.array([True, False])})
        ({'clean': 1}, {'clean': 0})
    """
    lost = {of: int((before[of] & ~after[of]).sum()) for of in before}
    won = {of: int((after[of] & ~before[of]).sum()) for of in before}
    return lost, won


def difference(lost: int, won: int, n: int) -> tuple[float, float]:
    """The change of an accuracy, and half of its 95% interval (Wald, of paired proportions).

    (won - lost) / n  ±  1.96·√(lost + won - (won - lost)²/n) / n

    Args:
        lost: images that only the first classifier gets right.
        won: images that only the second one gets right.
        n: images in all.

    Example:
        >>> difference(30, 10, 1000)[0]
        -0.02
    """
    change = won - lost
    return change / n, _95_PERCENT * math.sqrt(max(lost + won - change**2 / n, 0.0)) / n


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as a table, a row for each seed and one of all of them."""
    lines = []
    for row in document["rows"]:
        cells = [f"seed {row['seed']}", str(row["steps"])]
        for of in ("clean", "robust"):
            cells += [f"{row[precision][of] / row['n']:.2%}" for precision in PRECISIONS]
            cells.append(_describe(row["lost"][of], row["won"][of], row["n"]))
        lines.append([*cells, str(row["n"])])
    lines.append(_together(document["rows"]))
    for seed in sorted(set(SEEDS) - {row["seed"] for row in document["rows"]}):
        lines.append([f"seed {seed}", *["–"] * 6, "not measured: **no**", "–"])
    header = ["", "steps", "clean, float32", "bfloat16", "change, points"]
    header += ["under attack, float32", "bfloat16", "change, points", "n"]
    variant = f" --variant {document['variant']}" if document["variant"] else ""
    sets = "".join(f" --set {setting}" for setting in document["overrides"])
    attacks = ", ".join(f"`{name}`" for name in document["attacks"])
    return (
        f"`{document['config']}{variant}{sets}`; under attack: the worst case of {attacks}\n\n"
        f"{table(header, lines)}"
    )


def _together(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The row of all seeds: means, and the change over all their images."""
    cells = ["mean", ""]
    n = sum(row["n"] for row in rows)
    for of in ("clean", "robust"):
        cells += [f"{sum(row[precision][of] for row in rows) / n:.2%}" for precision in PRECISIONS]
        lost, won = (sum(row[part][of] for row in rows) for part in ("lost", "won"))
        cells.append(_describe(lost, won, n))
    return [*cells, str(n)]


def _describe(lost: int, won: int, n: int) -> str:
    change, half = difference(lost, won, n)
    return f"{100 * change:+.2f} ± {100 * half:.2f}"


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__.splitlines()[0], "precision_cost")
    made.add_argument("--config", default="mnist_pixel.json")
    made.add_argument("--variant", help="of the config")
    made.add_argument("--set", action="append", default=[], help="a setting, as for train.py")
    made.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    made.add_argument("--keep", action="store_true", help="other seeds' rows of the output file")
    made.add_argument("--limit", type=int, help="test images, the first ones; by default all")
    made.add_argument("--data-dir", type=Path, help="of the datasets")
    return made


if __name__ == "__main__":
    # Whoever ends the benchmark ends the training that it waits for.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
