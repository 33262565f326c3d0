"""The common suite of all neighborhoods: one row for each component."""

import pytest
from neighborhood_laws import CASES, ZERO_RANGE, GraphLaws, NeighborhoodLaws

from keras_srt.neighborhoods import NEIGHBORHOODS


@pytest.mark.parametrize("table", [CASES, ZERO_RANGE])
def test_every_neighborhood_is_in_the_suite(table):
    assert {name: case.name for name, case in table.items()} == {n: n for n in NEIGHBORHOODS}


class TestNeighborhoods(NeighborhoodLaws):
    """Each component keeps the laws."""

    @pytest.fixture(params=CASES)
    def name(self, request):
        return request.param

    @pytest.fixture
    def case(self, name):
        return CASES[name]

    @pytest.fixture(params=ZERO_RANGE)
    def zero_range(self, request):
        return ZERO_RANGE[request.param]


class TestGraphs(GraphLaws):
    """By day a composite, whose graph holds gradients, draws and transforms."""

    @pytest.fixture
    def case(self):
        return CASES["composite"]
