"""Training on several devices or machines: strategies of `tf.distribute`, and who writes what."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import tf
from keras_srt.data import BatchSizes, Replicas
from keras_srt.pipeline import watchdog
from keras_srt.pipeline.run_folder import RunFolder

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Task:
    """Which of the processes of a training this one is.

    Attributes:
        index: 0 is the chief.
        count: of all of them.
        address: this one's, "host:port"; empty where there is one process.
        others: the addresses of all others.
    """

    index: int = 0
    count: int = 1
    address: str = ""
    others: tuple[str, ...] = ()

    @property
    def is_chief(self) -> bool:
        """Whether it keeps the run folder, evaluates and exports."""
        return self.index == 0


def read_task(name: str, environment: Mapping[str, str] = os.environ) -> Task:
    """This process' place in the cluster that `TF_CONFIG` describes.

    Args:
        name: of the strategy; all but "multi_worker" have one process.
        environment: with the variable `TF_CONFIG`.

    Returns:
        The task.

    Raises:
        UserError: the variable is missing, or no cluster of a chief and workers.

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
            "TF_CONFIG: got none; allowed: the cluster and this process' place in it, as "
            f"{_EXAMPLE}, which trainers in clouds set; without a cluster give --strategy mirrored"
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
    """A strategy of `tf.distribute`, and this process' part in it.

    Attributes:
        strategy: under whose scope models are built.
        task: this process.
    """

    strategy: Any
    task: Task = Task()

    @classmethod
    def make(cls, name: str, task: Task = Task()) -> Distribution:
        """Makes a strategy; with several processes it waits until all are there.

        Args:
            name: "one_device", "mirrored" (all GPUs of this machine; logical CPUs where there
                are none) or "multi_worker"; the last one before TensorFlow has computed anything.
            task: see `read_task`.

        Raises:
            UserError: there is one device only, or the address can't be listened on.
        """
        if name == "multi_worker":
            print(
                f"worker {task.index} of {task.count} ({task.address}): waiting for the others",
                flush=True,
            )
            try:
                return cls(tf.distribute.MultiWorkerMirroredStrategy(), task)
            except _lost() as error:
                raise UserError(f"{task.address}: {_first_line(error)}; see TF_CONFIG") from error
        if name == "mirrored":
            return cls(_mirrored())
        return cls(tf.distribute.get_strategy())

    @property
    def replicas(self) -> int:
        """How many share a batch."""
        return self.strategy.num_replicas_in_sync

    def check(self, sizes: BatchSizes, validation: int) -> None:
        """Refuses batches that have no image for some replica.

        Args:
            sizes: images of a training batch.
            validation: images held back.

        Raises:
            InvalidSettings: there are too few.
        """
        kind, count = ("unlabeled", sizes.unlabeled) if sizes.unlabeled else ("labeled", sum(sizes))
        problems = []
        if count < self.replicas:
            problems.append(
                f"training.batch_size: got {count} {kind} images of a batch for {self.replicas} "
                f"replicas; allowed: at least {self.replicas}"
            )
        if validation < self.replicas:
            problems.append(
                f"data.validation: got {validation} images for {self.replicas} replicas; "
                f"allowed: at least {self.replicas}"
            )
        if problems:
            raise InvalidSettings(problems)

    def batch_size(self, images: int, most: int) -> int:
        """The largest batch size, up to `most`, with an image for each replica in the last batch.

        Layers of TensorFlow fail where they get no image at all.

        Args:
            images: how many there are, at least one for each replica.
            most: the batch size wanted.

        Example:
            >>> Distribution.make("one_device").batch_size(1001, most=250)
            250
        """
        fits = (b for b in range(most, 0, -1) if images % b == 0 or images % b >= self.replicas)
        return next(fits)

    def spread(self, make: Callable[[Replicas], tf.data.Dataset]) -> Any:
        """A dataset of which each replica gets its own elements.

        Args:
            make: the replicas of a process -> a dataset that has, for each step, one
                element for each of them in turn.

        Returns:
            A dataset for `fit` and `evaluate` under the strategy.
        """

        def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = self.replicas // context.num_input_pipelines
            return make(Replicas(self.replicas, context.input_pipeline_id * local, local))

        return self.strategy.distribute_datasets_from_function(of_process)

    def check_agreement(self, *what: str) -> None:
        """Waits for all workers, and makes sure that they train the same from the same state.

        Args:
            what: texts that must be the same for all.

        Raises:
            UserError: they aren't.
        """
        if self.task.count == 1:
            return
        digest = hashlib.sha256("\n".join(what).encode()).digest()
        number = int.from_bytes(digest[:7], "big")
        own = self.strategy.experimental_distribute_values_from_function(
            lambda _: tf.constant([number], tf.int64)
        )
        numbers = self.strategy.gather(own, axis=0).numpy()
        if len(set(numbers)) > 1:
            raise UserError(
                "workers: their configs or last checkpoints differ; start all of them with the "
                "same command, on a run folder that all of them see"
            )

    @contextlib.contextmanager
    def workplace(self, run: RunFolder, how_to_resume: str) -> Iterator[RunFolder]:
        """Where this process may write: the chief in the run folder, others in a copy.

        Saving takes all workers, as they sum up what each holds a part of. What the others
        save and print is thrown away. All leave together; where one is gone, the rest ends.

        Args:
            run: folder of the run.
            how_to_resume: the command that goes on with it.

        Yields:
            A folder with the same state of the run.

        Raises:
            UserError: another worker is gone.
        """
        with contextlib.ExitStack() as stack:
            own, scratch = run, None
            if not self.task.is_chief:
                scratch = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="keras-srt-worker-")
                )
                own = RunFolder(Path(scratch) / "run")
                if run.path.is_dir():
                    ignored = shutil.ignore_patterns("tensorboard")
                    shutil.copytree(run.path, own.path, ignore=ignored)
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            end = functools.partial(_end, self.task, how_to_resume, scratch)
            stack.enter_context(watchdog.watching(self.task.others, end))
            try:
                yield own
                self.check_agreement("done")
            except _lost() as error:
                if self.task.count == 1:
                    raise
                raise UserError(
                    _worker_is_gone(self.task, how_to_resume, type(error).__name__)
                ) from error


def _worker_is_gone(task: Task, how_to_resume: str, sign: str) -> str:
    return (
        f"worker {task.index} of {task.count}: another worker is gone ({sign}); start all of them "
        f"again with --resume, and they go on from the last checkpoint: {how_to_resume}"
    )


def _end(task: Task, how_to_resume: str, scratch: str | None, address: str) -> None:
    """Ends the process at once: its main thread may wait in TensorFlow for ever."""
    message = _worker_is_gone(task, how_to_resume, address)
    print(f"error: {message}", file=sys.stderr, flush=True)
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    os._exit(2)


def split_rows(dataset: tf.data.Dataset, replicas: Replicas) -> tf.data.Dataset:
    """Batches cut into the replicas' rows, in turn.

    Args:
        dataset: of global batches, structures of tensors with as many rows.
        replicas: whose rows are kept.

    Returns:
        For each batch an element for each of this process' replicas.
    """
    if replicas.total == 1:
        return dataset

    def cut(*batch: Any) -> tf.data.Dataset:
        count = tf.cast(tf.shape(tf.nest.flatten(batch)[0])[0], tf.int64)

        def of_replica(number: tf.Tensor) -> Any:
            begin, end = replicas.share(count, replicas.first + number)
            return tf.nest.map_structure(lambda rows: rows[begin:end], batch)

        return tf.data.Dataset.range(replicas.local).map(of_replica)

    return dataset.flat_map(cut)


def _mirrored() -> Any:
    """The strategy on the GPUs of this machine, or its logical CPUs where there are none."""
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    count = len(tf.config.list_logical_devices(kind))
    if count < 2:
        raise UserError(
            f"--strategy mirrored: got one device, {kind}:0; allowed: two or more GPUs, or "
            "logical CPUs; give --strategy one_device, which goes on with the same run"
        )
    devices = [f"{kind}:{index}" for index in range(count)]
    # TensorFlow's collective operations on CPUs keep 2 KB of each exchange, for good.
    sums = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=sums)


def _lost() -> tuple[type[Exception], ...]:
    """What TensorFlow raises where a worker is gone."""
    errors = tf.errors
    return (
        errors.UnavailableError,
        errors.DeadlineExceededError,
        errors.AbortedError,
        errors.CancelledError,
        errors.InternalError,
        errors.UnknownError,
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
