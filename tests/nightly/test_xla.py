"""XLA compiles a training step that computes the same."""

import pytest
import tensorflow as tf

from keras_srt.core.tensorflow import keras
from keras_srt.neighborhoods import LInf
from keras_srt.objectives import SRT
from keras_srt.training.model import RobustModel


def test_xla_takes_the_same_step(images, labels, unlabeled, make_classifier):
    data = {"labeled": (images, labels), "unlabeled": unlabeled}
    batches = tf.data.Dataset.from_tensors(data).repeat()
    still = LInf(epsilon=0.1, num_steps=2, random_start=False)  # XLA draws other numbers
    found = {}
    for compiled in (False, True):
        keras.utils.set_random_seed(0)
        model = RobustModel(make_classifier(batch_norm=False), still, SRT())
        model.compile(keras.optimizers.SGD(0.1), jit_compile=compiled)
        found[compiled] = model.fit(batches, steps_per_epoch=2, verbose=0).history["loss"][0]
    assert found[True] == pytest.approx(found[False], rel=1e-3)
