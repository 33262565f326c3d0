"""The laws of models, for those that take seconds to build."""

import pytest
from model_laws import *  # noqa: F403
from small_models import LARGE


@pytest.fixture(params=sorted(LARGE))
def name(request):
    return request.param
