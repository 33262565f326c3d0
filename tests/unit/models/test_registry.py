"""The common suite of all models: one row for each; the large ones keep the laws at night."""

import pytest
from model_laws import *  # noqa: F403
from small_models import CASES, LARGE

from keras_srt.models import MODELS


def test_every_registered_model_has_a_case():
    assert {case.name for case, _ in CASES.values()} == set(MODELS)
    assert all(case.name == name for name, (case, _) in CASES.items())


@pytest.fixture(params=sorted(set(CASES) - LARGE))
def name(request):
    return request.param
