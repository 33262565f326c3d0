"""How neighborhoods are described."""

import pytest
from neighborhood_laws import CASES, PIXEL, TURN, VARIANTS

from keras_srt.neighborhoods import L2, Composite

LINF_RANGE = "||r||_inf <= 0.1 (pixel values in [0, 1])"
L2_RANGE = "||r||_2 <= 0.3 (pixel values in [0, 1])"
SPATIAL_RANGE = "|rotation| <= 20 degrees, ||translation||_inf <= 1.5 pixels"


@pytest.mark.parametrize(
    ("name", "kind", "order", "limits"),
    [
        ("linf", "single", "pixel", LINF_RANGE),
        ("spatial", "single", "spatial", SPATIAL_RANGE),
        ("composite", "composite", "pixel -> spatial", f"{LINF_RANGE}; then {SPATIAL_RANGE}"),
        (
            "composite_spatial_pixel",
            "composite",
            "spatial -> pixel",
            f"{SPATIAL_RANGE}; then {LINF_RANGE}",
        ),
        (
            "composite_of_three",
            "composite",
            "pixel -> spatial -> pixel",
            f"{LINF_RANGE}; then {SPATIAL_RANGE}; then {L2_RANGE}",
        ),
    ],
)
def test_type_order_and_range_follow_from_the_stages(name, kind, order, limits):
    assert (CASES | VARIANTS)[name].describe() == {"type": kind, "order": order, "range": limits}


def test_a_nested_composite_is_described_by_its_stages_in_order():
    nested = Composite(stages=(Composite(stages=(PIXEL, TURN)), L2(epsilon=0.3)))
    assert nested.describe() == {
        "type": "composite",
        "order": "pixel -> spatial -> pixel",
        "range": f"{LINF_RANGE}; then {SPATIAL_RANGE}; then {L2_RANGE}",
    }
