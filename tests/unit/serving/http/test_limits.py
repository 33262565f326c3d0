"""Budgets."""

import pytest

from keras_srt.serving.http.limits import Budget
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
