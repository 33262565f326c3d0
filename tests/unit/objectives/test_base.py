"""What objectives have in common: cost of a step, scale 0, random starts for KL."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import (
    BALL,
    SEED,
    TURN,
    assert_step_passes,
    in_single,
    total,
)

from keras_srt.core.errors import InvalidSettings
from keras_srt.neighborhoods import Color, Composite, LInf
from keras_srt.objectives import (
    KLR,
    RST,
    SRT,
    UAT,
    Adversarial,
    Standard,
    StepPasses,
    Trades,
    WorstOfK,
)
from keras_srt.training.model import RobustModel


def test_a_step_makes_the_passes_that_are_counted(batch, make_classifier):
    both = Composite(stages=(TURN, BALL))
    assert_step_passes(SRT(), both, StepPasses(50, 30, 14), batch, make_classifier())


@pytest.mark.parametrize(
    ("objective", "same"),
    [
        (Adversarial(), Standard()),
        (Trades(robust_weight=6), Standard()),
        (WorstOfK(), Standard()),
        (KLR(), Standard()),
        (UAT(fixed_weight=0), Standard()),
        (SRT(robust_weight=0), Standard()),
    ],
)
def test_at_scale_0_only_the_clean_loss_remains(objective, same, batch, mlp):
    """Both in value and in gradient."""
    classifier, variables = in_single(mlp[0]), mlp[1]
    neighborhood = TURN if objective.name in ("worst_of_k", "klr") else BALL
    values, gradients = [], []
    for case in (objective, same):
        prepared = case.prepare(classifier, batch, neighborhood, SEED, 0.0)
        with tf.GradientTape() as tape:
            values.append(total(case, classifier, prepared))
        gradients.append(tape.gradient(values[-1], variables))
    np.testing.assert_allclose(*values, rtol=1e-5)
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


STILL = LInf(epsilon=0.1, random_start=False)


@pytest.mark.parametrize(
    "objective", [Trades(), RST(), UAT(), UAT(fixed_weight=0), SRT(robust_loss="kl")]
)
@pytest.mark.parametrize(
    "neighborhood", [STILL, Composite(stages=(STILL, TURN)), Color(random_start=False)]
)
def test_an_ascent_on_kl_needs_a_random_start(objective, neighborhood, make_classifier):
    for use in (objective.check, lambda n: RobustModel(make_classifier(), n, objective)):
        with pytest.raises(InvalidSettings, match=r"^neighborhood\.random_start: got false"):
            use(neighborhood)
    objective.check(Composite(stages=(TURN, STILL)))
    for place in (TURN, LInf(epsilon=0.1, random_start=0.001), Color(search="random")):
        objective.check(place)


def test_without_kl_every_start_is_allowed():
    for objective in (Adversarial(), UAT(online_weight=0), SRT(), Standard()):
        objective.check(STILL)
