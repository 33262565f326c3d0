"""The laws of neighborhoods, for all searches, orders and starts."""

import pytest
from neighborhood_laws import CASES, VARIANTS, ZERO_RANGE_VARIANTS, GraphLaws, NeighborhoodLaws


class TestVariants(NeighborhoodLaws):
    """Each variant keeps the laws."""

    @pytest.fixture(params=VARIANTS)
    def name(self, request):
        return request.param

    @pytest.fixture
    def case(self, name):
        return VARIANTS[name]

    @pytest.fixture(params=ZERO_RANGE_VARIANTS)
    def zero_range(self, request):
        return ZERO_RANGE_VARIANTS[request.param]


class TestGraphs(GraphLaws):
    """Every component and every variant."""

    @pytest.fixture(params=CASES | VARIANTS)
    def case(self, request):
        return (CASES | VARIANTS)[request.param]
