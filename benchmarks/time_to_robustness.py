"""Seconds from the raw images to a given robust accuracy, as in a training speed record.

    python benchmarks/time_to_robustness.py --goal spatial [--seeds 0 1 2] [--data-dir DIR]
    python benchmarks/time_to_robustness.py --goal spatial --seeds 2 --keep --output FILE  # go on

Each seed trains the goal's config in a process of its own: from the start of Python, through
reading the data and choosing the best classifier on validation images, to the end of the training.
Only then are the test images read, once: all of them, under the goal's attack. The seconds of a
seed whose accuracy is below the goal are none, and its row says so. With `--keep` the rows of the
output file stay: a seed that is trained again, to the same weights bit by bit, is timed anew and
not attacked anew, which takes several times as long as the training.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from measuring import bound, finish, machine, parser, save, table
from trainings import (
    SEEDS,
    Job,
    attack_trained,
    fingerprint,
    kept_rows,
    train_apart,
    trained_steps,
)

from keras_srt.attacks import PGD, Attack, GridAdv
from keras_srt.core.errors import UserError
from keras_srt.core.registry import settings_of


class Target(NamedTuple):
    """What is to be reached.

    Attributes:
        config: of the training, by name.
        variant: of it.
        overrides: of its settings, as for `--set`.
        attack: that measures.
        accuracy: under it, the row of SRT in the paper.
        seconds: aimed at on 2 cores.
    """

    config: str
    variant: str
    overrides: tuple[str, ...]
    attack: Attack
    accuracy: float
    seconds: float


_PGD = PGD(epsilon=0.3, num_steps=40, step_size=0.01)
TARGETS = {
    "spatial": Target("mnist_spatial.json", "record", (), GridAdv(), 0.9212, 600),
    "pixel": Target("mnist_pixel.json", "record", (), _PGD, 0.9660, 2400),
    "spatial-300": Target(
        "mnist_spatial.json", "record", ("data.labeled=300",), GridAdv(), 0.9212, 600
    ),
    "pixel-300": Target("mnist_pixel.json", "record-300", (), _PGD, 0.9660, 2400),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints a table; 0, or 1 if a seed stays below the goal."""
    options = _options().parse_args(arguments)
    target = TARGETS[options.goal]
    variant = options.variant or target.variant
    settings = [*target.overrides, *options.set]
    if options.quick:
        settings += ["training.steps=4", "training.interval=4"]
    rows: list[dict[str, Any]] = []
    document = {
        "machine": machine(),
        "goal": options.goal,
        "variant": variant,
        "overrides": settings,
        "attack": settings_of(target.attack),
        "rows": rows,
    }
    if options.keep:
        try:
            rows += kept_rows(document, options.output)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix="keras-srt-record-") as scratch:
        for seed in options.seeds:
            overrides = (*settings, f"seed={seed}", f"name=seed{seed}")
            job = Job(target.config, variant, overrides, scratch, options.data_dir)
            row = {"seed": seed, **train_apart(job), "classifier": fingerprint(job)}
            limit = 20 if options.quick else None
            row = known(rows, row) or {**row, **_measure(target, job, limit)}
            others = [other for other in rows if other["seed"] != seed]
            rows[:] = sorted([*others, row], key=lambda row: row["seed"])
            save(document, options.output)  # a seed may take an hour
    finish(document, to_markdown(document), options.output)
    return 0 if all(row["accuracy"] >= target.accuracy for row in rows) else 1


def known(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any] | None:
    """The row with what an attack on the same classifier has shown; None where there was none.

    Args:
        rows: earlier ones.
        row: a training's `seed`, `classifier` and times.
    """
    for earlier in rows:
        if all(earlier.get(key) == row[key] for key in ("seed", "classifier")):
            return {**earlier, **row}
    return None


def _measure(target: Target, job: Job, limit: int | None) -> dict[str, Any]:
    """Clean and robust accuracy of the seed's classifier on the test images."""
    outcome = attack_trained(job, [target.attack], limit).report()
    robust = outcome["attacks"][0]
    return {
        "steps": trained_steps(job),
        "clean": outcome["clean"]["accuracy"],
        **{key: robust[key] for key in ("accuracy", "ci95", "n")},
        "attack_seconds": robust["seconds"],
    }


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as a table, a row for each seed, those that aren't measured last."""
    target = TARGETS[document["goal"]]
    rows = []
    for row in document["rows"]:
        low, high = row["ci95"]
        reached = row["accuracy"] >= target.accuracy
        rows.append(
            [
                f"`{document['goal']}`, seed {row['seed']}",
                str(row["steps"]),
                f"{row['seconds']:.0f}",
                "–" if row.get("steal") is None else f"{row['steal']:.0%}",
                bound(row["seconds"], target.seconds) if reached else "",
                f"{row['clean']:.2%}",
                f"{row['accuracy']:.2%} [{low:.2%}, {high:.2%}]",
                bound(row["accuracy"], target.accuracy, at_most=False),
                str(row["n"]),
            ]
        )
    measured = {row["seed"] for row in document["rows"]}
    for seed in sorted(set(SEEDS) - measured):
        title = f"`{document['goal']}`, seed {seed}"
        rows.append([title, "–", "–", "–", "not measured: **no**", "–", "–", "–", "–"])
    header = ["goal, seed", "steps", "seconds", "steal", "asked", "clean"]
    header += [f"right under `{target.attack.name}`", "goal", "n"]
    sets = [f"--set {setting}" for setting in document["overrides"]]
    settings = " ".join([target.config, f"--variant {document['variant']}", *sets])
    return f"`{settings}`\n\n{table(header, rows)}"


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__.splitlines()[0], "time_to_robustness")
    made.add_argument("--goal", choices=list(TARGETS), default="spatial")
    made.add_argument("--variant", help="of the goal's config; left out, the goal's own")
    made.add_argument("--set", action="append", default=[], help="a setting, as for train.py")
    made.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    made.add_argument(
        "--keep",
        action="store_true",
        help="the rows of the output file, and attacks on equal classifiers",
    )
    made.add_argument("--data-dir", type=Path, help="of the datasets")
    return made


if __name__ == "__main__":
    # Whoever ends the benchmark ends the training that it waits for.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
