"""Checks in the graph: images of another range, wherever they come from."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt import SRT, Adversarial, LInf, RobustModel
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.graph_checks import check_unit_range
from keras_srt.core.tensorflow import keras

BRIGHT = np.linspace(0, 255, 4 * 16, dtype=np.float32).reshape(4, 4, 4, 1)
UNIT, LABELS = BRIGHT / 255, np.int32([0, 1, 2, 1])


def make_model(objective, eager):
    classifier = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model = RobustModel(classifier, LInf(0.1, num_steps=1), objective)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=eager)
    return model


def dataset(labeled, unlabeled):
    batch = {"labeled": (labeled, LABELS), "unlabeled": unlabeled}
    return tf.data.Dataset.from_tensors(batch)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(("labeled", "unlabeled"), [(BRIGHT, UNIT), (UNIT, BRIGHT)])
def test_batches_of_another_range_are_refused(labeled, unlabeled, eager):
    model = make_model(SRT(), eager)
    message = "^images: got values from 0 to 255 in a batch; allowed: from 0 to 1 "
    with pytest.raises(InvalidSettings, match=message):
        model.fit(dataset(labeled, unlabeled), verbose=0)
    model.fit(dataset(UNIT, UNIT), verbose=0)


def test_a_generator_of_another_range_is_refused():
    def batches():
        yield UNIT, LABELS
        yield BRIGHT, LABELS

    with pytest.raises(InvalidSettings, match="images: got values from 0 to 255"):
        make_model(Adversarial(), False).fit(batches(), steps_per_epoch=2, verbose=0)


def test_a_later_validation_batch_of_another_range_is_refused():
    images, labels = np.concatenate([UNIT, BRIGHT]), np.tile(LABELS, 2)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    with pytest.raises(InvalidSettings, match="images: got values from 0 to 255"):
        make_model(Adversarial(), False).evaluate(batches, verbose=0)


def test_values_in_range_and_nan_pass():
    for values in ([0.0, 1.0], [0.5, float("nan")], [1.0001, -0.0001], []):
        images = tf.constant(values, tf.float32)
        np.testing.assert_array_equal(check_unit_range(images), images)
