"""Accuracy curves of models whose predictions are known."""

import numpy as np
import pytest
import tensorflow as tf
from linear_models import target_model

from keras_srt.attacks import PGD, GridAdv, QueryModel
from keras_srt.evaluation.curves import accuracy_curves

EPSILON = 0.1


def brightness(images):
    """Class 1 where the mean is above one half."""
    mean = tf.reduce_mean(tf.convert_to_tensor(images), axis=[1, 2, 3])
    return tf.stack([0.5 - mean, mean - 0.5], axis=1) * 20.0


def flat(*levels):
    """Images of one level each, 4×4, and the class of each."""
    levels = np.float32(levels)
    return np.tile(levels[:, None, None, None], (1, 4, 4, 1)), np.int32(levels > 0.5)


def corner(images):
    """Class 1 where the pixel at the left of the upper edge is bright."""
    pixel = tf.convert_to_tensor(images)[:, 0, 0, 0]
    return tf.stack([0.5 - pixel, pixel - 0.5], axis=1) * 20.0


def test_an_image_falls_when_epsilon_reaches_its_distance():
    images, labels = flat(0.46, 0.56, 0.62, 0.7)  # 0.04, 0.06, 0.12 and 0.2 from one half
    attacks = (PGD(epsilon=EPSILON, num_steps=2),)
    part = accuracy_curves(target_model(brightness), images, labels, attacks)
    (ball,) = part["epsilon"]
    assert (ball["norm"], ball["epsilon"], ball["in_evaluation"]) == ("linf", EPSILON, True)
    radii = [point["epsilon"] for point in ball["points"]]
    np.testing.assert_allclose(radii, [0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2])
    shares = [point["accuracy"] for point in ball["points"]]
    assert shares[:6] == [1.0, 1.0, 0.75, 0.5, 0.5, 0.25]
    assert {point["n"] for point in ball["points"]} == {4}
    assert part["queries"] > 0


def test_a_curve_beyond_the_evaluation_is_marked():
    images, labels = flat(0.2, 0.8)
    part = accuracy_curves(target_model(brightness), images, labels, (GridAdv(max_rotation=10),))
    (ball,) = part["epsilon"]
    assert (ball["epsilon"], ball["in_evaluation"]) == (8 / 255, False)
    assert part["transforms"]["in_evaluation"]
    assert part["transforms"]["rotations"][0] == -10


def test_without_gradients_there_is_no_curve_against_epsilon():
    images, labels = flat(0.2, 0.8)
    part = accuracy_curves(QueryModel(brightness), images, labels, ())
    assert part["epsilon"] == []
    assert len(part["transforms"]["angles"]) == 7


def test_shifts_move_a_bright_column_out_of_the_corner():
    images = np.zeros((1, 5, 5, 1), np.float32)
    images[:, :, 0] = 1.0
    attacks = (GridAdv(max_rotation=20, max_translation=2),)
    part = accuracy_curves(target_model(corner), images, np.int32([1]), attacks)["transforms"]
    assert part["shifts"] == [-2, -1, 0, 1, 2]
    middle = part["accuracy"][len(part["rotations"]) // 2]
    assert middle == [0.0, 0.0, 1.0, 0.0, 0.0]
    angles = part["angles"]
    assert (angles[0]["angle"], angles[0]["accuracy"]) == (0.0, 1.0)
    shares = [point["accuracy"] for point in angles]
    assert shares == sorted(shares, reverse=True)  # the worst of ever more angles
    assert angles[-1]["angle"] == 20


def test_a_seed_determines_the_curves_and_progress_is_reported():
    images, labels = flat(0.46, 0.56, 0.62)
    told = []
    made = [
        accuracy_curves(
            target_model(brightness), images, labels, (PGD(epsilon=EPSILON),),
            seed=3, progress=lambda *call: told.append(call),
        )
        for _ in range(2)
    ]  # fmt: skip
    for part in made:
        part.pop("seconds")
    assert made[0] == made[1]
    assert told[:3] == [("curves", done, 2) for done in (0, 1, 2)]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_models_that_are_always_or_never_correct(share):
    images, labels = flat(0.0, 1.0)
    labels = labels if share else 1 - labels
    part = accuracy_curves(target_model(brightness), images, labels, (PGD(epsilon=EPSILON),))
    assert {point["accuracy"] for point in part["epsilon"][0]["points"]} == {share}
