"""The passes of a training step, for more objectives and neighborhoods."""

import pytest
from objective_helpers import BALL, TURN, assert_step_passes, make_batch

from keras_srt.neighborhoods import L2, Color, Composite, Noise, Spatial
from keras_srt.objectives import (
    KLR,
    RST,
    RT,
    SRT,
    UAT,
    Adversarial,
    Standard,
    StepPasses,
    Trades,
    WorstOfK,
)


@pytest.fixture
def batch(images, labels, unlabeled):
    """Four labeled images and six unlabeled images with pseudo-labels."""
    return make_batch(images, labels, unlabeled)


@pytest.mark.parametrize(
    ("objective", "neighborhood", "passes"),
    [
        (Standard(), None, StepPasses(0, 0, 4)),
        (Adversarial(), TURN, StepPasses(20, 0, 4)),
        (SRT(), BALL, StepPasses(10, 30, 14)),
        (Trades(), BALL, StepPasses(4, 12, 8)),
        (RST(), BALL, StepPasses(10, 30, 20)),
        (WorstOfK(num_samples=3), Spatial(search="grid"), StepPasses(16, 0, 4)),
        (KLR(num_samples=3), Color(), StepPasses(16, 0, 8)),
        (Adversarial(), BALL, StepPasses(0, 12, 4)),
        (RT(), BALL, StepPasses(4, 12, 8)),
        (SRT(), TURN, StepPasses(50, 0, 14)),
        (SRT(), Composite(stages=(BALL, TURN)), StepPasses(60, 30, 14)),
        (Adversarial(), Composite(stages=(BALL, TURN)), StepPasses(20, 12, 4)),
        (Adversarial(), Composite(stages=(TURN, L2(epsilon=1))), StepPasses(20, 40, 4)),
        (Adversarial(), Composite(stages=(BALL, TURN), mode="joint"), StepPasses(24, 60, 4)),
        (Trades(), Color(num_steps=3), StepPasses(8, 12, 8)),
        (Trades(), Composite(stages=(BALL, TURN)), StepPasses(24, 12, 8)),
        (UAT(), BALL, StepPasses(6, 48, 16)),
        (UAT(), TURN, StepPasses(86, 0, 16)),
        (UAT(fixed_weight=0), BALL, StepPasses(6, 30, 10)),
        (UAT(online_weight=0), BALL, StepPasses(0, 30, 10)),
        (WorstOfK(num_samples=3), Composite(stages=(TURN, TURN)), StepPasses(28, 0, 4)),
        (WorstOfK(num_samples=1), Noise(epsilon=0.1), StepPasses(0, 0, 4)),
    ],
)
def test_a_step_makes_the_passes_that_are_counted(
    objective, neighborhood, passes, batch, make_classifier
):
    assert_step_passes(objective, neighborhood, passes, batch, make_classifier())
