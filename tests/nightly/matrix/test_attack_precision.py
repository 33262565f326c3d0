"""Attacks find the same at every precision and scale of the logits, behind every activation."""

import pytest
from mean_brightness import check_attacks


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
@pytest.mark.parametrize("scale", [1.0, 16.0])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_attacks_find_the_same(policy, scale, activation):
    check_attacks(policy, scale, activation)
