"""Budgets and admission."""

import asyncio
import json
import logging
from datetime import datetime
from functools import partial

import pytest

from keras_srt.serving.http.limits import Admission, Budget, Finished, Limits
from keras_srt.serving.http.metrics import Metrics
from keras_srt.serving.http.protocol import RequestError


def test_budget_refuses_amounts_above_the_limit():
    budget = Budget(3, "seats")
    with budget.hold(2):
        with pytest.raises(RequestError) as caught:
            budget.acquire(2)
        assert caught.value.code == 503
        budget.acquire(1)
    budget.release(1)
    assert budget.used == 0


def test_admission_bounds_the_number_and_the_duration_of_requests():
    admission = Admission(Limits(max_queue=2, timeout=0.2), Metrics())

    async def run():
        jobs = [admission.run(partial(asyncio.sleep, seconds, 1)) for seconds in (0, 9)]
        return await asyncio.gather(*jobs, admission.run(never), return_exceptions=True)

    def never():
        raise AssertionError("a refused request must not be computed")

    first, *errors = asyncio.run(run())
    assert first == 1
    assert [error.code for error in errors] == [504, 503]
    assert b"keras_srt_queue_length 0.0" in admission.metrics.page()


def test_access_log_has_a_line_of_json_for_each_request(caplog):
    finished = Finished("predict", 200, 0.01234, "10.0.0.1", "POST", "/v1/models/m\n:predict")
    caplog.set_level(logging.WARNING, "keras_srt")  # the access log has a level of its own
    caplog.handler.setLevel(logging.INFO)
    Admission(Limits(), Metrics()).record(finished)
    assert caplog.messages == []
    Admission(Limits(), Metrics(), access_log=True).record(finished)
    (line,) = caplog.messages
    assert "\n" not in line
    entry = json.loads(line)
    datetime.fromisoformat(entry.pop("time"))
    assert entry == {
        "client": "10.0.0.1",
        "method": "POST",
        "path": "/v1/models/m\n:predict",
        "code": 200,
        "milliseconds": 12.34,
    }
