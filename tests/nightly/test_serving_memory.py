"""Predictions of `keras-srt serve` leave no memory behind."""

import gc

import numpy as np
from helpers import resident
from serving_helpers import SHAPE, publish

from keras_srt.serving.engine.loaded_model import LoadedModel

CALLS = 20_000


def test_memory_does_not_grow_with_the_number_of_calls(tmp_path):
    model = LoadedModel(publish(tmp_path / "shades", 1) / "1", "shades", 1)
    images = {"image": np.zeros((1, *SHAPE), np.float32)}

    def run(count):
        for _ in range(count):
            model.run("image", images)
        gc.collect()
        return resident()

    before = run(2000)
    grown = (run(CALLS) - before) * 2**20 / CALLS
    print(f"{grown:.1f} bytes per call")
    # A signature of tf.saved_model.load leaks over 300 bytes in TensorFlow 2.15.
    assert grown < 30
