"""Every objective with every neighborhood: one traced step, its loss as NumPy computes it."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import cross_entropy, kl, mlp_weights, numpy_mlp

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.neighborhoods import (
    L0,
    L2,
    NEIGHBORHOODS,
    Color,
    Composite,
    Damage,
    LInf,
    Noise,
    PixelDropout,
    Spatial,
)
from keras_srt.objectives import (
    KLR,
    OBJECTIVES,
    RST,
    RT,
    SRT,
    UAT,
    Adversarial,
    NoisyStudent,
    Standard,
    Trades,
    WorstOfK,
)
from keras_srt.training.model import RobustModel

WEIGHT = 0.7
OBJECTIVE_CASES = {
    "standard": Standard(),
    "adversarial": Adversarial(),
    "trades": Trades(robust_weight=WEIGHT),
    "uat": UAT(fixed_weight=WEIGHT),
    "rst": RST(robust_weight=WEIGHT),
    "noisy_student": NoisyStudent(unlabeled_weight=WEIGHT),
    "worst_of_k": WorstOfK(num_samples=2),
    "klr": KLR(robust_weight=WEIGHT, num_samples=2),
    "rt": RT(robust_weight=WEIGHT),
    "srt": SRT(robust_weight=WEIGHT),
}
BALL = LInf(epsilon=0.1, num_steps=2)
TURN = Spatial(max_rotation=20, max_translation=1, num_samples=2)
# One row for each neighborhood.
NEIGHBORHOOD_CASES = {
    "linf": BALL,
    "l2": L2(epsilon=0.5, num_steps=2),
    "l0": L0(epsilon=3, num_steps=2),
    "spatial": TURN,
    "color": Color(num_steps=2),
    "noise": Noise(epsilon=0.1, num_samples=2),
    "pixel_dropout": PixelDropout(0.2, num_samples=2),
    "damage": Damage(0.2, num_samples=2),
    "composite": Composite(stages=(BALL, TURN)),
}
BY_DRAWS = ("worst_of_k", "klr")
INPUTS = 16
IMAGES = np.random.default_rng(1).random((3, 4, 4, 1), np.float32)
UNLABELED = np.random.default_rng(2).random((4, 4, 4, 1), np.float32)
LABELS, ANSWERS = np.int32([0, 1, 2]), np.int32([2, 0, 1, 1])
SOFT_ANSWERS = np.float32(0.7 * np.eye(3)[ANSWERS] + 0.1)


def new_classifier():
    """The network of `numpy_mlp`, with its weights, as a Keras model."""
    classifier = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(3, use_bias=False),
        ]
    )
    classifier.set_weights(mlp_weights(INPUTS))
    return classifier


class Watched:
    """An objective that remembers the tensors it prepared, for the test to fetch."""

    def __init__(self, objective):
        self._objective = objective

    def __getattr__(self, name):
        return getattr(self._objective, name)

    def prepare(self, *arguments):
        self.prepared = self._objective.prepare(*arguments)
        return self.prepared


def one_step(objective, neighborhood, data):
    """The metrics of a training step and what the step prepared; traced once for two steps."""
    watched = Watched(objective)
    model = RobustModel(new_classifier(), neighborhood, watched, seed=3)
    model.compile("sgd")
    model.optimizer.build(model.classifier.trainable_variables)
    step = tf.function(lambda batch: (model.train_step(batch), watched.prepared), autograph=False)
    metrics, prepared = step(data)
    step(data)
    assert step.experimental_get_tracing_count() == 1
    return {name: float(value) for name, value in metrics.items()}, prepared


def logits(images):
    return numpy_mlp(images, *mlp_weights(INPUTS))


def expected_loss(name, prepared):
    """The formula of each objective, from the images x' that the step found."""
    clean = np.mean(cross_entropy(logits(IMAGES), LABELS))
    if name == "standard":
        return clean
    if name == "noisy_student":
        return clean + WEIGHT * np.mean(kl(np.log(SOFT_ANSWERS), logits(UNLABELED)))
    if name in ("adversarial", "worst_of_k"):
        return np.mean(cross_entropy(logits(prepared.images), LABELS))
    if name == "uat":
        moved = {term: logits(images) for term, images in prepared.images.items()}
        return (
            np.mean(cross_entropy(moved["robust"], LABELS))
            + WEIGHT * np.mean(cross_entropy(moved["fixed"], ANSWERS))
            + np.mean(kl(logits(UNLABELED), moved["online"]))
        )
    everything = IMAGES if name in ("trades", "klr", "rt") else np.concatenate([IMAGES, UNLABELED])
    own, moved = logits(everything), logits(prepared.perturbed)
    if name in ("rt", "srt"):
        return clean + WEIGHT * np.mean(cross_entropy(moved, own.argmax(axis=1)))
    if name == "rst":
        clean = np.mean(cross_entropy(own, np.concatenate([LABELS, ANSWERS])))
    return clean + WEIGHT * np.mean(kl(own, moved))


def batch_for(objective):
    data = {"labeled": (IMAGES, LABELS)}
    data |= {"unlabeled": UNLABELED} if objective.uses_unlabeled else {}
    return data | ({"pseudo_labels": answers_for(objective)} if objective.uses_teacher else {})


def answers_for(objective):
    """Pseudo-labels of the kind that the objective takes."""
    return SOFT_ANSWERS if objective.soft_pseudo_labels else ANSWERS


def test_every_objective_and_every_neighborhood_is_in_the_matrix():
    assert set(OBJECTIVE_CASES) == set(OBJECTIVES)
    assert {case.name for case in NEIGHBORHOOD_CASES.values()} == set(NEIGHBORHOODS)


@pytest.mark.parametrize("place", NEIGHBORHOOD_CASES)
@pytest.mark.parametrize("name", OBJECTIVE_CASES)
def test_a_step_has_the_loss_of_its_formula_or_says_why_not(name, place):
    objective, neighborhood = OBJECTIVE_CASES[name], NEIGHBORHOOD_CASES[place]
    stages = neighborhood.stages_in_order
    if name in BY_DRAWS and not all(hasattr(stage, "num_samples") for stage in stages):
        with pytest.raises(InvalidSettings, match=r"^neighborhood: got '.*random draws"):
            RobustModel(new_classifier(), neighborhood, objective)
        return
    metrics, prepared = one_step(objective, neighborhood, batch_for(objective))
    assert tuple(metrics) == ("loss", *objective.term_names)
    assert np.isfinite(list(metrics.values())).all()
    assert metrics["loss"] == pytest.approx(expected_loss(name, prepared), rel=1e-5)


@pytest.mark.parametrize("stages", [(TURN, BALL), (BALL, TURN, Noise(sigma=0.1))])
@pytest.mark.parametrize("mode", ["sequential", "joint"])
@pytest.mark.parametrize("name", ["adversarial", "srt"])
def test_adversarial_training_and_srt_on_composites_are_at_plus_and_srt_plus(name, mode, stages):
    objective, neighborhood = OBJECTIVE_CASES[name], Composite(stages=stages, mode=mode)
    metrics, prepared = one_step(objective, neighborhood, batch_for(objective))
    assert metrics["loss"] == pytest.approx(expected_loss(name, prepared), rel=1e-5)


@pytest.mark.parametrize("name", OBJECTIVE_CASES)
def test_supervised_and_semi_supervised_data(name):
    """Unlabeled images change nothing where they aren't used, and are asked for where they are."""
    objective = OBJECTIVE_CASES[name]
    everything = {
        "labeled": (IMAGES, LABELS),
        "unlabeled": UNLABELED,
        "pseudo_labels": answers_for(objective),
    }
    if not objective.uses_unlabeled:
        plain, _ = one_step(objective, TURN, (IMAGES, LABELS))
        assert one_step(objective, TURN, everything)[0] == plain
        return
    without = OBJECTIVES[objective.without_unlabeled]
    assert not without.uses_unlabeled
    with pytest.raises(InvalidSettings, match=r"^batch: got no unlabeled") as caught:
        one_step(objective, TURN, (IMAGES, LABELS))
    assert f"({without.name!r} is the same without unlabeled images)" in str(caught.value)
