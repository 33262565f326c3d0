"""A model of one pattern at any precision, and what attacks find with it."""

import numpy as np

from keras_srt.attacks import APGDCE, DDN, FGSM, MIFGSM, PGD
from keras_srt.core.tensorflow import keras
from keras_srt.evaluation.runner import evaluate_robustness


def mean_brightness(policy, scale=1.0, activation=None):
    """Class 0 where the mean is above 0.45, of logits ±192·scale·(mean - 0.45)."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(dtype=policy),
            keras.layers.Dense(2, activation=activation, dtype=policy),
        ]
    )
    weights = np.full((64, 2), 3.0 * scale)
    weights[:, 1] *= -1
    bias = 0.45 * 64 * 3 * scale
    model.set_weights([weights, np.array([-bias, bias])])
    return model


def check_attacks(policy, scale, activation):
    """Gray 0.5 falls to 0.45 within 0.05: all attacks must find that."""
    images, labels = np.full((2, 8, 8, 1), 0.5, np.float32), np.zeros(2, int)
    attacks = [
        FGSM(0.1), PGD(0.1, num_steps=5), PGD(0.8, norm_ball="l2", num_steps=5),
        MIFGSM(0.1), APGDCE(0.1, num_steps=5), DDN(0.8, num_steps=20),
    ]  # fmt: skip
    found = evaluate_robustness(mean_brightness(policy, scale, activation), images, labels, attacks)
    assert found.correct.all()
    assert not any(found.surviving(name).any() for name in found.outcomes)
    assert found.warnings == ()
