"""The common suite of all objectives: one row for each component."""

import pytest
from objective_laws import CASES, ObjectiveLaws

from keras_srt.objectives import OBJECTIVES


def test_every_objective_is_in_the_suite():
    assert {name: case.name for name, case in CASES.items()} == {name: name for name in OBJECTIVES}


class TestObjectives(ObjectiveLaws):
    """Each component keeps the laws."""

    @pytest.fixture(params=CASES)
    def case(self, request):
        return CASES[request.param]
