"""Every route to an exported model returns the probabilities of the Keras model."""

from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from agreement_routes import FLOATS, PNGS, Published, Unavailable, all_routes, reference
from serving_helpers import running, running_gateway

from keras_srt.core.tensorflow import keras, tf
from keras_srt.exporters.export import export_classifier

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
BATCHES = {
    FLOATS: np.float32(IMAGES / 255.0),
    PNGS: np.array([tf.io.encode_png(image).numpy() for image in IMAGES], object),
}


class Tolerance(NamedTuple):
    difference: float  # of a probability
    same_class: float  # share of the images


TOLERANCES = {
    # Only the order of float32 additions differs.
    "float32": Tolerance(1e-5, 1.0),
    # Weights keep 11 bits, a relative 5e-4: with logits around 20, 0.01 in a logit.
    "float16": Tolerance(1e-2, 0.99),
    # Weights keep 8 bits, in int8 the activations too: if two classes are equally probable,
    # an error of 1 in a logit changes a probability by 0.23.
    "dynamic": Tolerance(0.25, 0.95),
    "int8": Tolerance(0.25, 0.95),
}


def in_this_process(option, value):
    """`keras-srt serve` in this process, which saves the start of another TensorFlow."""

    @contextmanager
    def started():
        make = running if option == "--model" else running_gateway
        with make(Path(value) if option == "--model" else value) as server:
            yield server.url

    return started()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A network of a few hundred weights, exported."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, activation="relu")]
    layers += [keras.layers.Flatten(), keras.layers.Dense(3, kernel_initializer="random_normal")]
    classifier = keras.Sequential(layers)
    # Large weights separate the classes.
    classifier.layers[-1].set_weights([w * 20 for w in classifier.layers[-1].get_weights()])
    folder = tmp_path_factory.mktemp("published") / "tiny"
    exported = export_classifier(classifier, ["a", "b", "c"], folder, BATCHES[FLOATS])
    return Published(classifier, exported.savedmodel, exported.tflite)


@pytest.mark.parametrize(
    "route", all_routes(in_this_process), ids=lambda route: f"{route.name}, {route.packages[0]}"
)
def test_every_route_agrees_with_keras(published, route):
    with reference(published) as predict:
        expected, expected_classes = predict(FLOATS, BATCHES[FLOATS])
    assert set(expected_classes) == {0, 1, 2}
    tolerance = TOLERANCES[route.precision]
    try:
        with route.open(published) as predict:
            for way in route.ways:
                probabilities, classes = predict(way, BATCHES[way])
                assert probabilities.shape == expected.shape
                assert np.abs(probabilities - expected).max() <= tolerance.difference, way
                assert np.mean(classes == expected_classes) >= tolerance.same_class, way
    except Unavailable as error:
        pytest.skip(str(error))
