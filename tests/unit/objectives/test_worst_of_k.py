"""Worst-of-k and KLR: the draws they search."""

import numpy as np
import pytest
from objective_helpers import (
    BALL,
    SEED,
    TURN,
    in_single,
    kl,
    numpy_mlp,
)

from keras_srt.core.errors import InvalidSettings
from keras_srt.neighborhoods import L0, L2, Color, Composite, Noise, Spatial
from keras_srt.objectives import (
    KLR,
    Adversarial,
    WorstOfK,
)


def test_worst_of_k_is_adversarial_training_with_k_draws(batch, mlp):
    classifier = in_single(mlp[0])
    grid = Spatial(max_rotation=20, max_translation=1, search="grid")
    drawn = Spatial(max_rotation=20, max_translation=1, num_samples=7)
    found = WorstOfK(num_samples=7).prepare(classifier, batch, grid, SEED)
    expected = Adversarial().prepare(classifier, batch, drawn, SEED)
    np.testing.assert_array_equal(found.images, expected.images)
    fewer = WorstOfK(num_samples=2).prepare(classifier, batch, grid, SEED)
    assert np.any(fewer.images != found.images)


def test_klr_uses_the_draw_with_the_highest_kl(batch, mlp, weights):
    prepared = KLR(num_samples=5).prepare(in_single(mlp[0]), batch, TURN, SEED)
    own = numpy_mlp(batch.images, *weights)
    highest = kl(own, numpy_mlp(prepared.perturbed, *weights))
    fewer = KLR(num_samples=4).prepare(in_single(mlp[0]), batch, TURN, SEED)
    assert np.all(highest >= kl(own, numpy_mlp(fewer.perturbed, *weights)) - 1e-6)
    assert np.all(highest > 0)


@pytest.mark.parametrize(("objective", "instead"), [(WorstOfK(), "adversarial"), (KLR(), "trades")])
@pytest.mark.parametrize(
    ("neighborhood", "name"),
    [
        (BALL, "linf"),
        (L2(epsilon=1), "l2"),
        (L0(epsilon=3), "l0"),
        (Composite(stages=(TURN, L2(epsilon=1))), "l2"),
    ],
)
def test_pixel_balls_are_not_searched_by_draws(objective, instead, neighborhood, name, mlp):
    with pytest.raises(InvalidSettings) as caught:
        objective.check(neighborhood)
    (problem,) = caught.value.problems
    assert problem.startswith(f"neighborhood: got '{name}' with the objective '{objective.name}'")
    assert f"or the objective '{instead}'" in problem
    objective.check(Composite(stages=(TURN, Noise(epsilon=0.1), Color(random_start=False))))
