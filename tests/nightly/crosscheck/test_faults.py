"""Minimal reproductions of faults in other libraries, in the versions of the extra `crosscheck`.

If a test fails after an update, the fault is fixed and docs/crosscheck.md must be updated.
"""

import numpy as np
import pytest
import tensorflow as tf
from libraries import Subject

from keras_srt import evaluate_robustness
from keras_srt.attacks import ATTACKS
from keras_srt.core.tensorflow import keras


def linear(weights, shape, bias=0.0):
    """A classifier whose logits are the image times the weights [pixels, classes] plus a bias."""
    classifier = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(len(weights[0]))]
    )
    bias = np.broadcast_to(np.float32(bias), len(weights[0]))
    classifier.layers[-1].set_weights([np.float32(weights), bias])
    return classifier


def our_outcome(classifier, images, labels, **settings):
    attack = ATTACKS.build(settings)
    return evaluate_robustness(classifier, images, labels, [attack]).outcomes[attack.name]


@pytest.fixture
def compares_two_pixels():
    """Class 1 if twice the first pixel of a 2×2 image is above the second."""
    return linear([[0, 2], [1, 0], [0, 0], [0, 0]], (2, 2, 1))


GRAY, ONE = np.full((1, 2, 2, 1), 0.5, np.float32), np.int32([1])


def rotate_and_shift(images, **how):
    """Foolbox's transform, which has one implementation for TensorFlow and one for Torch."""
    eagerpy = pytest.importorskip("eagerpy")
    transformations = pytest.importorskip("foolbox.attacks.spatial_attack_transformations")
    return transformations.rotate_and_shift(eagerpy.astensor(images), **how).numpy()


def test_foolbox_pointwise_dies_in_tensorflow(compares_two_pixels):
    foolbox = pytest.importorskip("foolbox")
    model = foolbox.TensorFlowModel(compares_two_pixels, bounds=(0, 1))
    with pytest.raises(AttributeError, match="'list' object has no attribute 'dtype'"):
        foolbox.attacks.PointwiseAttack().run(model, tf.constant(GRAY), tf.constant(ONE))
    ours = our_outcome(compares_two_pixels, GRAY, ONE, name="pointwise", epsilon=4)
    assert ours.distances[0] == 1  # the first pixel at 0, and no other


def test_foolbox_loses_a_row_and_a_column_in_tensorflow():
    unmoved = rotate_and_shift(tf.ones((1, 4, 4, 1)), translation=(0, 0), rotation=0)
    expected = np.ones((4, 4))
    expected[-1], expected[:, -1] = 0, 0
    np.testing.assert_array_equal(unmoved[0, ..., 0], expected)


def test_foolbox_moves_by_less_than_a_pixel():
    torch = pytest.importorskip("torch")
    row = torch.arange(4.0).repeat(4, 1)[None, None]
    moved = rotate_and_shift(row, translation=(1, 0))[0, 0, 1]
    # A whole pixel would give 1, 2, 3 and 0; theirs is 3/4 of one in an image of 4.
    np.testing.assert_allclose(moved, [0.75, 1.75, 2.75, 0.75], atol=1e-6)


def test_art_has_no_momentum_in_tensorflow(compares_two_pixels):
    evasion = pytest.importorskip("art.attacks.evasion")
    theirs = evasion.MomentumIterativeMethod(Subject(compares_two_pixels).art, verbose=False)
    with pytest.raises(NotImplementedError, match="currently disabled for Tensorflow"):
        theirs.generate(GRAY, ONE)


def test_art_takes_one_transform_for_all_images():
    evasion = pytest.importorskip("art.attacks.evasion")
    # Class 1 sees the corners above left and below right, class 0 half of every pixel.
    weights = np.full((9, 2), [0.5, 0])
    weights[[0, 8], 1] = 1
    classifier = linear(weights, (3, 3, 1))
    images, labels = np.zeros((2, 3, 3, 1), np.float32), np.int32([0, 0])
    images[0, 0, 1], images[1, 2, 1] = 1, 1  # one has to move to the left, one to the right
    theirs = evasion.SpatialTransformation(
        Subject(classifier).art, max_translation=100 / 3, num_translations=3, verbose=False
    )
    found = theirs.generate(images)
    assert sorted(classifier(found).numpy().argmax(axis=1)) == [0, 1]
    ours = our_outcome(classifier, images, labels, name="gridadv_t", max_translation=1.0, points=3)
    np.testing.assert_array_equal(ours.classes, [1, 1])


def test_art_jsma_follows_the_target_alone():
    evasion = pytest.importorskip("art.attacks.evasion")
    # The first two pixels raise class 1, and class 2 even more; the others lower class 2.
    classifier = linear([[0, 3, 5], [0, 3, 5], [0, 2, -1], [0, 2, -1]], (2, 2, 1))
    images, labels = np.zeros((1, 2, 2, 1), np.float32), np.int32([0])
    theirs = evasion.SaliencyMapMethod(Subject(classifier).art, theta=1.0, gamma=1.0, verbose=False)
    assert np.count_nonzero(theirs.generate(images, ONE)) == 4
    ours = our_outcome(classifier, images, labels, name="jsma", epsilon=4, target=1)
    assert ours.distances[0] == 2


def test_autoattack_square_has_no_window_on_the_last_row():
    square = pytest.importorskip("pyautoattack.square")
    torch = pytest.importorskip("torch")
    # Class 1 where the first pixel of the last row rises above 0.6.
    weights = np.zeros((64, 2))
    weights[56, 1] = 1
    classifier = linear(weights, (8, 8, 1), bias=(0.6, 0))
    images, labels = np.full((40, 8, 8, 1), 0.5, np.float32), np.zeros(40, np.int32)
    theirs = square.SquareAttack(
        Subject(classifier).twin, n_queries=500, eps=0.2, resc_schedule=False, device="cpu"
    )
    found = theirs.perturb(torch.full((40, 1, 8, 8), 0.5), torch.zeros(40, dtype=torch.long))
    # The stripes of the start decide, half of which are dark: such images it gives up.
    assert 10 <= np.count_nonzero(found[:, 0, 7, 0] == 0.5) <= 30
    ours = our_outcome(classifier, images, labels, name="square", epsilon=0.2, queries=500)
    np.testing.assert_array_equal(ours.classes, 1)


def test_cleverhans_carlini_wagner_dies_at_the_second_batch(compares_two_pixels):
    carlini_wagner = pytest.importorskip("cleverhans.tf2.attacks.carlini_wagner_l2")
    two = np.repeat(GRAY, 2, axis=0)
    with pytest.raises(KeyError, match="optimizer cannot recognize variable"):
        carlini_wagner.carlini_wagner_l2(
            compares_two_pixels, two, clip_min=0.0, clip_max=1.0, batch_size=1
        )
    ours = our_outcome(
        compares_two_pixels, two, np.repeat(ONE, 2), name="cw", epsilon=1, iterations=200
    )
    # From (½, ½) to the line 2a = b: ½/√5.
    np.testing.assert_allclose(ours.distances, 0.5 / np.sqrt(5), rtol=0.02)
