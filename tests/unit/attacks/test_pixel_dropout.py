"""The pixel-dropout attack against models whose decisive pixels are known."""

import numpy as np
import tensorflow as tf

from keras_srt.attacks import Criterion, PixelDropoutAttack, TargetModel

# Class 0 as long as 3 or more of the pixels 0 to 3 are bright.
MODEL = TargetModel(
    lambda x: tf.stack(
        [tf.reduce_sum(tf.reshape(x, [-1, 16, 2])[:, :4], [1, 2]), tf.fill([tf.shape(x)[0]], 5.0)],
        axis=1,
    )
)
IMAGES, LABELS = np.ones((3, 4, 4, 2), np.float32), Criterion(np.zeros(3, np.int32))


def test_it_loses_the_decisive_pixels():
    result = PixelDropoutAttack("2/16", num_samples=0, num_steps=2).run(
        MODEL, IMAGES, LABELS, tf.constant([1, 2])
    )
    assert result.success.all()
    assert np.all(result.parameters.reshape(3, 16)[:, :4].sum(axis=1) == 2)
    assert np.all(result.parameters.reshape(3, 16)[:, 4:] == 0)


def test_too_small_a_share_fails():
    result = PixelDropoutAttack("1/16", num_samples=5, num_steps=2).run(
        MODEL, IMAGES, LABELS, tf.constant([1, 2])
    )
    assert not result.success.any()
