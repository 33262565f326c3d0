"""Dynamic batching: waiting jobs run as one batch; an idle server runs a job immediately."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Outputs = dict[str, np.ndarray]
_POLL_SECONDS = 0.002


@dataclass
class _Job:
    key: Hashable
    items: Sequence[Any]
    future: Future[Outputs] = field(default_factory=Future)


class Batcher:
    """Runs waiting jobs as batches in worker threads.

    Jobs are never delayed to fill a batch: a free worker takes the jobs that wait, and batches
    grow only while all workers are busy.

    Args:
        run: (key, items) -> outputs by name, batch first; called in a worker thread.
        max_batch: Maximum number of items per batch and per job.
        workers: Number of threads. With two, one decodes while the other runs the model.

    Example:
        >>> batcher = Batcher(lambda key, items: {"double": 2 * np.array(items)}, max_batch=8)
        >>> batcher.submit("any key", [1, 2]).result()
        {'double': array([2, 4])}
        >>> batcher.close()
    """

    def __init__(
        self,
        run: Callable[[Any, list[Any]], Outputs],
        max_batch: int,
        workers: int = 2,
    ) -> None:
        self._run, self._max_batch = run, max_batch
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed, self._running = False, 0
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{index}", daemon=True)
            for index in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, key: Hashable, items: Sequence[Any]) -> Future[Outputs]:
        """Queue a job.

        Args:
            key: Jobs with equal keys may share a batch.
            items: 1 to `max_batch` items.

        Returns:
            A future of the outputs. A job that is canceled before it starts is not run.
        """
        if not 0 < len(items) <= self._max_batch:
            raise ValueError(f"items: got {len(items)}; allowed: 1 to {self._max_batch}")
        job = _Job(key, items)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def wait_until_idle(self, seconds: float) -> None:
        """Wait until no job waits or runs, at most for a time."""
        end = time.monotonic() + seconds
        # Not by the condition: a notification for the workers must wake a worker.
        while (self._jobs or self._running) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Run the waiting jobs and stop the workers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return
                batch = self._take_batch()
                self._running += 1
            if batch:
                self._run_batch(batch)
            with self._changed:
                self._running -= 1

    def _take_batch(self) -> list[_Job]:
        """Take the oldest job and further jobs with its key that fit; empty if all are canceled."""
        batch: list[_Job] = []
        others: deque[_Job] = deque()
        room = self._max_batch
        while self._jobs and room:
            job = self._jobs.popleft()
            if (batch and job.key != batch[0].key) or len(job.items) > room:
                others.append(job)
            elif job.future.set_running_or_notify_cancel():
                batch.append(job)
                room -= len(job.items)
        others.extend(self._jobs)
        self._jobs = others
        if others:
            self._changed.notify()
        return batch

    def _run_batch(self, batch: list[_Job]) -> None:
        try:
            outputs = self._run(batch[0].key, [item for job in batch for item in job.items])
            parts = _split(outputs, [len(job.items) for job in batch])
        # Any error goes to the callers; the worker continues.
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for job in batch:  # run each alone, so that only the failing job fails
                self._run_batch([job])
            return
        for job, part in zip(batch, parts, strict=True):
            job.future.set_result(part)


def _split(outputs: Outputs, sizes: Sequence[int]) -> list[Outputs]:
    for name, array in outputs.items():
        if array.shape[:1] != (sum(sizes),):
            raise ValueError(f"output {name} has shape {array.shape}; the batch is {sum(sizes)}")
    ends = np.cumsum(sizes)
    return [
        {name: array[end - size : end] for name, array in outputs.items()}
        for end, size in zip(ends, sizes, strict=True)
    ]
