"""Interleaved timing."""

import pytest

from keras_srt.evaluation.latency import interleaved


def test_functions_are_timed_in_turns(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr("time.perf_counter", lambda: clock["now"])
    order = []

    def call(name, *seconds):
        durations = iter(seconds)

        def run():
            order.append(name)
            clock["now"] += next(durations, seconds[-1])

        return run

    # Ten calls each to warm up, which don't count.
    got = interleaved({"a": call("a", *[9.0] * 10, 0.002), "b": call("b", *[9.0] * 10, 0.003)})
    assert order[20:26] == ["a", "b", "a", "b", "a", "b"]
    assert got["a"] == {"median": pytest.approx(2), "p99": pytest.approx(2), "rounds": 300}
    assert got["b"] == {"median": pytest.approx(3), "p99": pytest.approx(3), "rounds": 300}
    # A slow model is timed less often.
    assert interleaved({"slow": call("slow", 1.0)})["slow"]["rounds"] == 30
