"""The laws of models, for those that take seconds to build."""

import pytest
from model_laws import *  # noqa: F403


@pytest.fixture(params=["mobilenet_v2", "resnet50"])
def name(request):
    return request.param
