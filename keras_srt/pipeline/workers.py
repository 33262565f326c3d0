"""The processes of a distributed training: their tasks, folders, agreement and loss."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from keras_srt.core.errors import UserError
from keras_srt.core.scratch_folders import scratch_folder
from keras_srt.core.tensorflow import tf
from keras_srt.pipeline import watchdog
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.training.strategy import make_strategy

logger = logging.getLogger(__name__)

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Task:
    """This process among the workers of a training.

    Args:
        index: The worker's index; 0 is the chief.
        count: The number of workers.
        address: This worker's address, "host:port"; empty if there is only one process.
        others: The addresses of all other workers.
    """

    index: int = 0
    count: int = 1
    address: str = ""
    others: tuple[str, ...] = ()

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the run folder, evaluates and exports."""
        return self.index == 0


def read_task(name: str, environment: Mapping[str, str] = os.environ) -> Task:
    """Read this process' task from `TF_CONFIG`.

    Args:
        name: The strategy; all but "multi_worker" have one process.
        environment: Environment variables.

    Raises:
        UserError: `TF_CONFIG` is missing or describes no cluster of a chief and workers.

    Example:
        >>> jobs, task = '{"worker": ["a:1", "b:1"]}', '{"type": "worker", "index": 1}'
        >>> text = f'{{"cluster": {jobs}, "task": {task}}}'
        >>> read_task("multi_worker", {"TF_CONFIG": text})
        Task(index=1, count=2, address='b:1', others=('a:1',))
    """
    if name != "multi_worker":
        return Task()
    text = environment.get("TF_CONFIG", "")
    if not text:
        raise UserError(
            "TF_CONFIG: got none; allowed: the cluster and this process' task in it, as "
            f"{_EXAMPLE}, which cloud training services set; without a cluster use --strategy "
            "mirrored"
        )
    try:
        content = json.loads(text)
        jobs, task = content["cluster"], content["task"]
        job, index = task["type"], int(task["index"])
        addresses = [*jobs.get("chief", []), *jobs.get("worker", [])]
        place = index + (len(jobs.get("chief", [])) if job == "worker" else 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG: got {text[:200]!r}, which can't be read ({type(error).__name__}: "
            f"{error}); allowed: JSON such as {_EXAMPLE}"
        ) from error
    if job not in ("chief", "worker") or not 0 <= index < len(jobs.get(job, [])):
        raise UserError(
            f"TF_CONFIG: got the task {job} {index} in the cluster {json.dumps(jobs)}; allowed: a "
            'type "chief" or "worker" with an index below the number of its addresses'
        )
    others = (*addresses[:place], *addresses[place + 1 :])
    return Task(place, len(addresses), addresses[place], others)


class Distribution(NamedTuple):
    """A strategy of `tf.distribute` and this process' task under it.

    Attributes:
        strategy: The strategy in whose scope models are built.
        task: This process among the workers.
    """

    strategy: tf.distribute.Strategy
    task: Task = Task()

    @classmethod
    def make(cls, name: str, task: Task = Task()) -> Distribution:
        """Make the strategy; several workers wait for each other.

        Args:
            name: "one_device", "mirrored" or "multi_worker", see `make_strategy`.
            task: This process among the workers.

        Raises:
            UserError: There is only one device, or the worker's address can't be used.
        """
        if task.count == 1:
            return cls(make_strategy(name), task)
        logger.info(
            "worker %d of %d (%s): waiting for the others", task.index, task.count, task.address
        )
        try:
            return cls(make_strategy(name), task)
        except _connection_errors() as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{task.address}: {reason}; see TF_CONFIG") from error

    @property
    def num_replicas(self) -> int:
        """The number of replicas that share a batch."""
        return self.strategy.num_replicas_in_sync

    def check_agreement(self, *texts: str) -> None:
        """Wait for all workers and check that their texts are equal.

        Args:
            texts: Texts that determine what a worker trains, such as its config.

        Raises:
            UserError: They differ.
        """
        if self.task.count == 1:
            return
        digest = hashlib.sha256("\n".join(texts).encode()).digest()
        number = int.from_bytes(digest[:7], "big")
        own = self.strategy.experimental_distribute_values_from_function(
            lambda _: tf.constant([number], tf.int64)
        )
        numbers = self.strategy.gather(own, axis=0).numpy()
        if len(set(numbers)) > 1:
            raise UserError(
                "workers: their configs or last checkpoints differ; start all of them with the "
                "same command and a run folder that all of them share"
            )


@contextlib.contextmanager
def writable_folder(task: Task, folder: RunFolder) -> Iterator[RunFolder]:
    """Give a worker a folder to write to: the run folder for the chief, a copy for the others.

    All workers take part in saving a checkpoint, because each holds a part of the sums. The
    files and the standard output of all workers but the chief are discarded.

    Args:
        task: This process among the workers.
        folder: The run folder, which all workers share.

    Yields:
        A folder with the state of the run.
    """
    if task.is_chief:
        yield folder
        return
    with (
        scratch_folder(Path(tempfile.gettempdir()), "keras-srt-worker-") as scratch,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        copy = RunFolder(scratch / "run")
        if folder.path.is_dir():
            shutil.copytree(folder.path, copy.path, ignore=shutil.ignore_patterns("tensorboard"))
        yield copy


@contextlib.contextmanager
def watched(task: Task, folder: RunFolder) -> Iterator[None]:
    """End this worker with one line if another worker is lost while the body runs.

    Args:
        task: This process among the workers.
        folder: This worker's folder, from `writable_folder`.

    Raises:
        UserError: Another worker is lost.
    """

    def end(address: str) -> None:
        # The main thread may wait in TensorFlow forever.
        print(f"error: {_lost(task, address)}", file=sys.stderr, flush=True)  # noqa: T201
        if not task.is_chief:
            shutil.rmtree(folder.path.parent, ignore_errors=True)
        os._exit(2)

    with watchdog.watching(task.others, end):
        try:
            yield
        except _connection_errors() as error:
            if task.count == 1:
                raise
            raise UserError(_lost(task, type(error).__name__)) from error


def _lost(task: Task, sign: str) -> str:
    return (
        f"worker {task.index} of {task.count}: another worker is gone ({sign}); start all workers "
        "again with --resume to continue from the last checkpoint"
    )


def _connection_errors() -> tuple[type[Exception], ...]:
    """The errors that TensorFlow raises when a worker can't be reached."""
    errors = tf.errors
    return (
        errors.UnavailableError,
        errors.DeadlineExceededError,
        errors.AbortedError,
        errors.CancelledError,
        errors.InternalError,
        errors.UnknownError,
    )
