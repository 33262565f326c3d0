"""Models whose results are to be distrusted: warnings in the log, the result and the report."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt import FGSM, evaluate, evaluate_robustness
from keras_srt.attacks import QueryModel, TargetModel
from keras_srt.evaluation.masking import find_masking
from keras_srt.evaluation.model_checks import gradient_warnings

IMAGES = np.float32(np.random.default_rng(0).uniform(0.2, 0.8, (12, 4, 4, 1)))
LABELS = np.int32(IMAGES.mean((1, 2, 3)) > 0.5)


def brightness(images):
    mean = tf.reduce_mean(images, [1, 2, 3])
    return 20 * tf.stack([0.5 + 0 * mean, mean], axis=1)


MODELS = {
    "a zero gradient": (
        lambda x: brightness(tf.stop_gradient(tf.round(64 * x) / 64) + 0 * x),
        "fgsm: 12 of 12 gradients were 0",
    ),
    "NaN": (lambda x: brightness(x) * np.nan, "12 of 12 clean images are NaN"),
    "sigmoids": (lambda x: tf.sigmoid(brightness(x) - 10), "between 0 and 1, like those of sig"),
    "random outputs": (
        lambda x: brightness(x + tf.random.normal(tf.shape(x), stddev=0.01)),
        "change from query to query",
    ),
    "values to 255": (lambda x: brightness(x / 255), "expect values from 0 to 255"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_to_distrust_is_reported(kind, caplog):
    model, words = MODELS[kind]
    labels = LABELS if LABELS.mean() > 0.6 else np.ones(12, int)
    images = IMAGES if LABELS.mean() > 0.6 else np.float32(IMAGES + 0.2).clip(0.55, 1)
    result = evaluate(model, (images, labels), [FGSM(0.01)])
    assert any(words in text for text in result.warnings), result.warnings
    assert result.report()["warnings"] == list(result.warnings)
    assert words in caplog.text


def test_probabilities_are_attacked_by_their_logarithms():
    scores = [
        evaluate_robustness(model, IMAGES, LABELS, [FGSM(0.05)])
        for model in (brightness, lambda x: tf.nn.softmax(brightness(x)))
    ]
    for found in scores:
        assert found.warnings == ()
    np.testing.assert_array_equal(*(found.surviving("fgsm") for found in scores))
    query = QueryModel(lambda x: tf.nn.softmax(brightness(x)).numpy())
    (text,) = evaluate_robustness(query, IMAGES, LABELS, []).warnings
    assert "probabilities, and are attacked as if they were logits" in text


def test_an_ordinary_model_has_no_warning():
    found = evaluate_robustness(brightness, IMAGES, LABELS, [FGSM(0.01)])
    assert found.warnings == ()
    assert "warnings" not in found.report()
    assert gradient_warnings("pgd", 0, 0) == gradient_warnings("pgd", 100, 5) == []


def test_no_masking_is_claimed_of_a_model_that_is_never_right():
    model = TargetModel(lambda x: brightness(x) * np.nan)
    assert find_masking(model, IMAGES, LABELS, [FGSM(0.01)]) is None
