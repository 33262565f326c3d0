"""The laws of objectives, for variants of their settings."""

import pytest
from objective_laws import VARIANTS, ObjectiveLaws


class TestVariants(ObjectiveLaws):
    """Each variant keeps the laws."""

    @pytest.fixture(params=VARIANTS)
    def case(self, request):
        return VARIANTS[request.param]
