"""Dynamic batching."""

import threading
import time

import numpy as np
import pytest
from serving_helpers import wait_until

from keras_srt.serving.engine.batching import Batcher


class Model:
    """A fake `run` that can be blocked, and records its calls."""

    def __init__(self, held=False):
        self.calls, self.go = [], threading.Event()
        if not held:
            self.go.set()

    def __call__(self, key, items):
        self.calls.append((key, items))
        self.go.wait(10)
        if "bad" in items:
            raise ValueError("bad")
        return {"same": np.array(items, object)}


def test_waiting_jobs_with_the_same_key_share_a_batch():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=4, workers=1)
    first = batcher.submit("a", [0])
    wait_until(lambda: model.calls)
    later = [batcher.submit(*job) for job in (("a", [1]), ("b", [2]), ("a", [3, 4]), ("a", [5, 6]))]
    model.go.set()
    assert [job.result(10)["same"].tolist() for job in (first, *later)] == [
        [0],
        [1],
        [2],
        [3, 4],
        [5, 6],
    ]
    batcher.close()
    assert model.calls == [("a", [0]), ("a", [1, 3, 4]), ("b", [2]), ("a", [5, 6])]


def test_failing_job_fails_alone_and_canceled_job_is_not_run():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=8, workers=1)
    first = batcher.submit("a", ["first"])
    wait_until(lambda: model.calls)
    good, bad, gone = (batcher.submit("a", [item]) for item in ("good", "bad", "gone"))
    assert gone.cancel()
    model.go.set()
    assert first.result(10)["same"].tolist() == ["first"]
    assert good.result(10)["same"].tolist() == ["good"]
    with pytest.raises(ValueError, match="bad"):
        bad.result(10)
    assert batcher.submit("a", ["after"]).result(10)["same"].tolist() == ["after"]
    batcher.close()
    assert not any("gone" in items for _, items in model.calls)


def test_size_of_a_job_is_limited():
    batcher = Batcher(Model(), max_batch=2, workers=1)
    for items in ([], [1, 2, 3]):
        with pytest.raises(ValueError, match="allowed: 1 to 2"):
            batcher.submit("a", items)
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit("a", [1])


def test_waiting_for_an_idle_batcher_ends_with_the_last_job_or_the_time():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=1, workers=1)
    batcher.wait_until_idle(60)
    jobs = [batcher.submit("a", [number]) for number in range(2)]
    started = time.monotonic()
    batcher.wait_until_idle(0.1)
    assert 0.1 <= time.monotonic() - started < 10
    assert not any(job.done() for job in jobs)
    threading.Timer(0.1, model.go.set).start()
    batcher.wait_until_idle(60)
    assert all(job.done() for job in jobs)
    batcher.close()
