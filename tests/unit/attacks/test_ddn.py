"""DDN: norms, step sizes and levels on models with known results."""

import numpy as np
import tensorflow as tf
from linear_models import SEED, RecordingModel, affine, constant, run

from keras_srt.attacks import DDN, Criterion


def test_the_norm_grows_until_success_and_then_shrinks():
    """One image, one direction: adversarial from a norm of 0.3 on."""
    weights = np.zeros((16, 2))
    weights[0, 1] = 1
    image, model = np.full((1, 4, 4, 1), 0.5, np.float32), RecordingModel(affine(weights, [0.3, 0]))
    attack = DDN(epsilon=1, num_steps=9, gamma=0.2, init_norm=0.2)
    found = attack.run(model, image, Criterion(np.int32([0])), SEED)
    lengths = [float(asked[0, 0, 0, 0] - 0.5) for asked in model.queried]
    # ×1.2 below 0.3 and ×0.8 above it.
    norms, norm = [0.0], 0.2
    for _ in range(9):
        norm *= 0.8 if norms[-1] > 0.3 else 1.2
        norms.append(norm)
    np.testing.assert_allclose(lengths, norms[:9], atol=1e-6)
    # The last iterate is a candidate, too.
    shortest = min(value for value in norms if value > 0.3)
    np.testing.assert_allclose(found.nearest[0, 0, 0, 0] - 0.5, shortest, atol=1e-6)
    assert model.queries == 1 + 9 + 1 + 1


def test_step_sizes_fall_along_a_cosine():
    """The direction turns by the step's share; norms stay 1 where γ is 0."""
    weights = np.zeros((16, 2))
    image, model = np.full((1, 4, 4, 1), 0.5, np.float32), RecordingModel(affine(weights, [1, 0]))
    turning = iter([(1.0, 0.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)])

    def gradient(images, criterion, **settings):
        answers, slope = RecordingModel.gradient(model, images, criterion, **settings)
        slope[0, 0, :2, 0] = next(turning)
        return answers, slope

    watching, model.gradient = model, gradient
    DDN(epsilon=1, num_steps=4, gamma=0, init_norm=0.1).run(
        model, image, Criterion(np.int32([0])), SEED
    )
    angle = [np.arctan2(*(asked[0, 0, :2, 0] - 0.5)[::-1]) for asked in watching.queried]
    expected, now = [0.0, 0.0], np.array([0.1, 0.0])
    for step in (1, 2):
        length = 0.01 + 0.99 * (1 + np.cos(np.pi * step / 4)) / 2
        now[1] += length
        now *= 0.1 / np.sqrt(np.square(now).sum())
        expected.append(np.arctan2(now[1], now[0]))
    np.testing.assert_allclose(angle, expected, atol=1e-5)


def test_rounded_images_can_be_stored(gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 2)), np.zeros(2)
    images = np.float32(np.round(gray * 255) / 255)
    labels = np.argmax(affine(weights, bias)(images), axis=1)
    found, _ = run(DDN(epsilon=1, levels=256), affine(weights, bias), images, labels)
    stored = np.float32(np.uint8(np.round(found.nearest * 255)) / 255)
    np.testing.assert_allclose(found.nearest, stored, atol=1e-7)
    free, _ = run(DDN(epsilon=1), affine(weights, bias), images, labels)
    assert np.abs(free.nearest * 255 - np.round(free.nearest * 255)).max() > 0.1
    assert found.success.all()


def test_a_vanishing_gradient_is_replaced_by_a_random_direction(gray):
    def plateau(images):
        far = tf.reduce_sum(tf.square(images - 0.5), axis=[1, 2, 3]) > 0.5
        return constant(3)(images) + 2 * tf.cast(far, tf.float32)[:, None] * [0.0, 1.0, 0.0]

    found, _ = run(DDN(epsilon=2), plateau, gray, np.zeros(20))
    again, _ = run(DDN(epsilon=2), plateau, gray, np.zeros(20))
    other, _ = run(DDN(epsilon=2), plateau, gray, np.zeros(20), seed=tf.constant([-3, 6]))
    assert found.success.all()
    np.testing.assert_array_equal(found.nearest, again.nearest)
    assert np.abs(found.nearest - other.nearest).max() > 0.05
