"""Certificates of models whose smoothed classifier is known in closed form."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import QueryModel, TargetModel
from keras_srt.evaluation.smoothing import certified_radius, certify


def bright(images):
    """Class 1 where the mean of 4×4 pixels is above one half: a hyperplane."""
    mean = tf.reduce_mean(tf.convert_to_tensor(images), axis=[1, 2, 3])
    return tf.stack([0.5 - mean, mean - 0.5], axis=1) * 50.0


def flat(*levels):
    """Images of one level; the L2 distance of each to the hyperplane is 4·|level - 1/2|."""
    levels = np.float32(levels)
    return np.tile(levels[:, None, None, None], (1, 4, 4, 1)), np.int32(levels > 0.5)


def accuracies(points):
    return [point["accuracy"] for point in points]


def test_certified_radius_by_hand():
    # All of n votes: p = α^(1/n); Φ⁻¹(0.001^0.01 = 0.93325) = 1.5006.
    assert certified_radius(100, 100, 1.0) == pytest.approx(1.5006, abs=1e-3)
    assert certified_radius(100, 100, 0.25) == pytest.approx(1.5006 / 4, abs=1e-3)
    assert certified_radius(50, 100, 1.0) == 0
    assert certified_radius(0, 100, 1.0) == 0


def test_a_certificate_reaches_the_hyperplane_and_not_beyond():
    # Smoothing doesn't move a hyperplane: distances 0.2, 0.28 and 0.48, with σ = 0.2.
    images, labels = flat(0.45, 0.57, 0.62)
    part = certify(QueryModel(bright), images, labels, sigma=0.2, samples=2000)
    assert [point["radius"] for point in part["certified"]] == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    )
    # The lower bound of the first is below its distance of 0.2, and above 0.1.
    assert accuracies(part["certified"]) == pytest.approx([1, 1, 2 / 3, 1 / 3, 1 / 3, 0])
    assert (part["attacked"], part["abstained"]) == (None, 0)
    assert part["queries"] == 3 * 2100


def test_the_certificate_never_exceeds_what_an_attack_leaves():
    images, labels = flat(0.44, 0.47, 0.53, 0.56, 0.6, 0.7)
    part = certify(TargetModel(bright), images, labels, sigma=0.2, samples=500, seed=3)
    certified, attacked = accuracies(part["certified"]), accuracies(part["attacked"])
    assert all(c <= a for c, a in zip(certified, attacked, strict=True))
    # Distances 0.24, 0.12, 0.12, 0.24, 0.4 and 0.8 against radii 0, 0.1, 0.2, 0.3, 0.4, 0.5.
    assert attacked[:4] == pytest.approx([1, 1, 4 / 6, 2 / 6])
    assert attacked[5] == pytest.approx(1 / 6)


def test_an_image_on_the_boundary_is_abstained_from_and_counts_as_wrong():
    images, labels = flat(0.5)
    part = certify(QueryModel(bright), images, labels, sigma=0.2, samples=500)
    assert part["abstained"] == 1
    assert accuracies(part["certified"]) == [0] * 6


def test_certificates_depend_on_the_seed_alone():
    images, labels = flat(0.45, 0.58)
    large, small = (
        certify(QueryModel(bright, size), images, labels, sigma=0.2, samples=300)
        for size in (300, 64)
    )
    assert large["certified"] == small["certified"]


def test_sigma_must_be_positive():
    images, labels = flat(0.4)
    with pytest.raises(ValueError, match=r"sigma: got 0; allowed: above 0"):
        certify(QueryModel(bright), images, labels, sigma=0, samples=10)
