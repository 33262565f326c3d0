"""Whole trainings, each in a process of its own, and their classifiers on the test images."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from measuring import StealClock

from keras_srt.attacks import Attack
from keras_srt.core.errors import UserError
from keras_srt.core.formatting import format_duration
from keras_srt.evaluation.robustness import Robustness
from keras_srt.evaluation.runner import Progress, evaluate_robustness
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.train import train

SEEDS = (0, 1, 2)


class Job(NamedTuple):
    """A training.

    Attributes:
        config: its name.
        variant: of it, or None.
        overrides: of its settings, as for `--set`; among them `name`, of the run's folder.
        scratch: the folder of the run's folder.
        data_dir: of the datasets, or None.
    """

    config: str
    variant: str | None
    overrides: tuple[str, ...]
    scratch: str
    data_dir: Path | None


def train_apart(job: Job) -> dict[str, float | None]:
    """Trains in a new process; ends the program if that fails.

    Returns:
        `seconds` from the start of Python, and `steal`, see `StealClock`.
    """
    began, clock = time.perf_counter(), StealClock()
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(job,))
    process.start()
    try:
        process.join()
    finally:
        process.terminate()  # nothing where it has ended
    if process.exitcode:
        sys.exit(process.exitcode)
    return {"seconds": time.perf_counter() - began, "steal": clock.share()}


def kept_rows(document: dict[str, Any], file: Path | None) -> list[dict[str, Any]]:
    """The rows of a file.

    Args:
        document: what is measured now.
        file: an earlier output.

    Raises:
        UserError: there is no such file, or it is of other settings or of another machine.
    """
    if file is None or not file.is_file():
        raise UserError(f"--keep: got the output {file}; allowed: a file of earlier seeds")
    found = json.loads(file.read_text(encoding="utf-8"))
    if _conditions(found) != _conditions(document):
        raise UserError(
            f"--keep: {file} is of other settings, or of another machine; measure all seeds anew"
        )
    return found["rows"]


def _conditions(document: dict[str, Any]) -> dict[str, Any]:
    """What rows must have in common; tuples are lists, as in a file."""
    machine = {k: v for k, v in document["machine"].items() if k not in ("load", "date")}
    return json.loads(json.dumps({**document, "machine": machine, "rows": None}))


def _train(job: Job) -> None:
    context = _opened(job)
    context.folder.claim(context.config.to_json(), resume=False)
    train(context)


def attack_trained(job: Job, attacks: Sequence[Attack], limit: int | None) -> Robustness:
    """Attacks the chosen classifier of a training on the test images, which are read here alone.

    Args:
        job: that has been trained.
        attacks: on it.
        limit: of test images, the first ones; None for all.
    """
    context = _opened(job)
    test = context.source.test(limit)
    return evaluate_robustness(
        context.best_classifier, test.images, test.labels, attacks, progress=_progress()
    )


def fingerprint(job: Job) -> str:
    """SHA-256 of the chosen classifier's weights: equal ones need no second attack."""
    weights = _opened(job).best_classifier.get_weights()
    return hashlib.sha256(b"".join(array.tobytes() for array in weights)).hexdigest()


def trained_steps(job: Job) -> int:
    """How many steps a training took."""
    return int(_opened(job).folder.read_history()[-1]["step"])


def _opened(job: Job) -> RunContext:
    config = load_config(job.config, job.variant, job.overrides)
    return RunContext.open(config, RunFolder(Path(job.scratch) / config.name), job.data_dir)


def _progress() -> Progress:
    began = time.perf_counter()

    def tell(name: str, done: int, total: int) -> None:
        rest = (time.perf_counter() - began) / done * (total - done)
        end = "\n" if done == total else ""
        line = f"\r\x1b[K{name} {done}/{total}, about {format_duration(rest)} left"
        print(line, end=end, file=sys.stderr, flush=True)

    return tell
