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
    described = (CASES | VARIANTS)[name].describe()
    del described["distance"]
    assert described == {"type": kind, "order": order, "range": limits}


SPATIAL_DISTANCE = "(|rotation|, ||translation||_inf) <= (20 degrees, 1.5 pixels)"


@pytest.mark.parametrize(
    ("name", "distance"),
    [
        ("linf", f"dist(T(x), x) = {LINF_RANGE}"),
        ("spatial", f"dist(T(x), x) = {SPATIAL_DISTANCE}"),
        (
            "composite",
            f"dist1(T1(x), x) = {SPATIAL_DISTANCE}; T1 contains the worst of {LINF_RANGE}",
        ),
        (
            "composite_spatial_pixel",
            f"dist2(T2(x), x) = {LINF_RANGE}; T2 contains the worst of {SPATIAL_RANGE}",
        ),
        (
            "composite_of_three",
            f"dist(T(x), x) = {L2_RANGE}; T contains the worst of {LINF_RANGE}; {SPATIAL_RANGE}",
        ),
    ],
)
def test_distances_are_those_of_claim_9(name, distance):
    """[0264]-[0265]: dist1 ≤ (ε1, ε2) for T1, dist2 ≤ ε3 for T2."""
    assert (CASES | VARIANTS)[name].describe()["distance"] == distance


def test_two_stages_of_one_kind_are_a_single_type():
    """Claim 5 counts attack types, not stages."""
    described = Composite(stages=(PIXEL, L2(epsilon=0.3))).describe()
    assert (described["type"], described["order"]) == ("single", "pixel -> pixel")


def test_a_nested_composite_is_described_by_its_stages_in_order():
    nested = Composite(stages=(Composite(stages=(PIXEL, TURN)), L2(epsilon=0.3)))
    described = nested.describe()
    assert described["type"] == "composite"
    assert described["order"] == "pixel -> spatial -> pixel"
    assert described["range"] == f"{LINF_RANGE}; then {SPATIAL_RANGE}; then {L2_RANGE}"
