"""The estimates of the remaining time."""

from keras_srt.reproduce.job_estimates import Clock


def test_the_clock_corrects_its_estimates(monkeypatch):
    times = iter([0.0, 20.0, 20.0, 21.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = Clock([("train", 10.0), ("train", 30.0), ("attack", 4.0)])
    assert clock.left == 44.0
    assert clock.begin() == "[1/3]"
    assert clock.end("train", 10.0) == 20.0
    assert clock.left == 2 * 30.0 + 4.0  # trainings take twice as long as estimated
    assert clock.begin() == "[2/3]"
    clock.end("attack", 4.0)
    assert clock.left == 60.0
