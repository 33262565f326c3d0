"""Training time until a robust accuracy is reached on all MNIST test images.

    python benchmarks/time_to_robustness.py --goal spatial [--seeds 0 1 2] [--data-dir DIR]

Each seed trains the goal's config in its own process; its time runs from the start of Python to the
selected checkpoint. Only then are the test images read, once, and attacked. Exit code 1 if a seed
stays below the goal.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness import StealClock, finish, machine, parser, save, table

from keras_srt.attacks import PGD, Attack, GridAdv
from keras_srt.core.registry import settings_of
from keras_srt.evaluation.runner import evaluate_robustness
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.train import train


class Goal(NamedTuple):
    """A config and the robust accuracy to reach, that of the paper's SRT row."""

    config: str
    variant: str
    overrides: tuple[str, ...]
    attack: Attack
    accuracy: float


_PGD = PGD(epsilon=0.3, num_steps=40, step_size=0.01)
_FEW = ("data.labeled=300",)
GOALS = {
    "spatial": Goal("mnist_spatial.json", "record", (), GridAdv(), 0.9212),
    "pixel": Goal("mnist_pixel.json", "record", (), _PGD, 0.9660),
    "spatial-300": Goal("mnist_spatial.json", "record", _FEW, GridAdv(), 0.9212),
    "pixel-300": Goal("mnist_pixel.json", "record-300", (), _PGD, 0.9660),
}


class Job(NamedTuple):
    """One training.

    Attributes:
        goal: Its goal.
        overrides: Settings, as for `--set`.
        folder: The run folder.
        data_dir: The folder of prepared datasets, or None.
    """

    goal: Goal
    overrides: tuple[str, ...]
    folder: Path
    data_dir: Path | None

    def open(self) -> RunContext:
        """Opens the run."""
        config = load_config(self.goal.config, self.goal.variant, self.overrides)
        return RunContext.open(config, RunFolder(self.folder), self.data_dir)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints the table; 1 if a seed stays below the goal."""
    options = _options().parse_args(arguments)
    goal = GOALS[options.goal]
    settings = [*goal.overrides, *options.set]
    if options.quick:
        settings += ["training.steps=4", "training.interval=4"]
    rows: list[dict[str, Any]] = []
    document = {
        "machine": machine(),
        "goal": options.goal,
        "overrides": settings,
        "attack": settings_of(goal.attack),
        "rows": rows,
    }
    with tempfile.TemporaryDirectory(prefix="keras-srt-goal-") as scratch:
        for seed in options.seeds:
            overrides = (*settings, f"seed={seed}")
            job = Job(goal, overrides, Path(scratch, str(seed)), options.data_dir)
            rows.append({"seed": seed, **_train_timed(job), **_attack(job, options.quick)})
            save(document, options.output)
    finish(document, to_markdown(document), options.output)
    return 0 if all(row["accuracy"] >= goal.accuracy for row in rows) else 1


def _train_timed(job: Job) -> dict[str, float | None]:
    """Trains in a new process; returns its `seconds` and the host's `steal`."""
    began, clock = time.perf_counter(), StealClock()
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(job,))
    process.start()
    try:
        process.join()
    finally:
        process.terminate()  # no effect after its end
    if process.exitcode:
        sys.exit(process.exitcode)
    return {"seconds": time.perf_counter() - began, "steal": clock.share()}


def _train(job: Job) -> None:
    context = job.open()
    context.folder.claim(context.config.to_json(), resume=False)
    train(context)


def _attack(job: Job, quick: bool) -> dict[str, Any]:
    """Clean and robust accuracy of the selected classifier on the test images."""
    context = job.open()
    test = context.source.test(20 if quick else None)
    outcome = evaluate_robustness(context.best_classifier, *test, [job.goal.attack]).report()
    robust = outcome["attacks"][0]
    return {
        "steps": int(context.folder.read_history()[-1]["step"]),
        "clean": outcome["clean"]["accuracy"],
        **{key: robust[key] for key in ("accuracy", "ci95", "n")},
    }


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as a table, one row per seed."""
    goal, rows = GOALS[document["goal"]], []
    for row in document["rows"]:
        low, high = row["ci95"]
        below = "" if row["accuracy"] >= goal.accuracy else " (below the goal)"
        rows.append(
            [
                f"`{document['goal']}`, seed {row['seed']}",
                str(row["steps"]),
                f"{row['seconds']:.0f}{below}",
                "–" if row["steal"] is None else f"{row['steal']:.0%}",
                f"{row['clean']:.2%}",
                f"{row['accuracy']:.2%} [{low:.2%}, {high:.2%}]",
                str(row["n"]),
            ]
        )
    header = ["goal, seed", "steps", "seconds", "host steal", "clean", "robust accuracy", "n"]
    sets = [f"--set {setting}" for setting in document["overrides"]]
    settings = " ".join([goal.config, f"--variant {goal.variant}", *sets])
    head = f"`{settings}`, goal: {goal.accuracy:.2%} under `{goal.attack.name}`"
    return f"{head}\n\n{table(header, rows)}"


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--goal", choices=list(GOALS), default="spatial")
    made.add_argument("--set", action="append", default=[], help="a setting, as for train.py")
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--data-dir", type=Path, help="folder of prepared datasets")
    return made


if __name__ == "__main__":
    # SIGTERM also ends the training.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
