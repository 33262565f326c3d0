"""Queries in bfloat16, and the bound of their difference from float32."""

import logging

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import TargetModel, target_model
from keras_srt.attacks.rounding import RoundingError, bfloat16_is_fast, in_bfloat16
from keras_srt.core import processor

OPTION = "auto_mixed_precision_onednn_bfloat16"


def test_a_function_stays_in_float32_beside_its_bfloat16_queries():
    weights = tf.constant(np.random.default_rng(0).normal(size=(64, 8)), tf.float32)
    function = tf.function(lambda x: tf.matmul(x, weights), autograph=False)
    rounded = in_bfloat16(function)
    for n in (3, 5):
        images = tf.constant(np.random.default_rng(n).random((n, 64)), tf.float32)
        exact = function(images).numpy()
        found = rounded(images).numpy()
        assert found.dtype == np.float32
        # 8 bits a factor, 64 products of at most 3.
        np.testing.assert_allclose(found, exact, atol=64 * 3 * 2**-8)
        np.testing.assert_array_equal(function(images), exact)
    assert not tf.config.optimizer.get_experimental_options().get(OPTION, False)


def test_the_option_is_restored_if_a_query_fails():
    @tf.function(autograph=False)
    def failing(x):
        with tf.control_dependencies([tf.debugging.assert_positive(x)]):
            return tf.identity(x)

    with pytest.raises(tf.errors.InvalidArgumentError):
        in_bfloat16(failing)(tf.constant([-1.0]))
    assert not tf.config.optimizer.get_experimental_options().get(OPTION, False)


def test_the_bound_is_a_multiple_of_the_largest_difference():
    error = RoundingError()
    assert error.bound == np.inf
    error.measure(np.float32([0, 2]), np.float32([0.5, 2]))
    error.measure(np.float32([0.25]), np.float32([0]))
    assert (error.largest, error.bound) == (0.5, 2.0)
    error.measure(np.zeros(0), np.zeros(0))
    assert error.largest == 0.5


def test_equal_values_leave_a_small_bound():
    error = RoundingError()
    error.measure(np.ones(3), np.ones(3))
    assert 0 < error.bound <= 1e-3


def test_nan_leaves_no_bound():
    error = RoundingError()
    error.measure(np.float32([np.nan, 1]), np.float32([1, 1]))
    assert error.largest == error.bound == np.inf


def test_a_difference_beyond_the_bound_is_reported(caplog):
    error = RoundingError()
    with caplog.at_level(logging.WARNING):
        error.measure(np.float32([0.5]), np.float32([0]))
        error.measure(np.float32([1.9]), np.float32([0]))
        assert not caplog.records
        error.measure(np.float32([8]), np.float32([0]))
    (record,) = caplog.records
    assert "8, more than the bound of 7.6" in record.getMessage()
    assert "evaluation.precision" in record.getMessage()


def test_bfloat16_pays_while_half_of_the_queries_are_not_repeated():
    error = RoundingError()
    assert error.pays
    error.count(asked=10, repeated=5)
    assert error.pays
    error.count(repeated=1)
    assert not error.pays


@pytest.mark.parametrize(
    ("instructions", "fast"), [("amx_bf16", True), ("avx512_bf16", False), (None, False)]
)
def test_bfloat16_is_fast_with_amx_only(monkeypatch, instructions, fast):
    monkeypatch.setattr(processor, "bfloat16_instructions", lambda: instructions)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert bfloat16_is_fast() is fast
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert not bfloat16_is_fast()


@pytest.mark.parametrize("fast", [True, False])
def test_precision_auto_follows_the_processor(monkeypatch, fast):
    monkeypatch.setattr(target_model, "bfloat16_is_fast", lambda: fast)
    classifier = lambda x: tf.reshape(x, [-1, 4])  # noqa: E731
    assert TargetModel(classifier).precision == "float32"
    assert TargetModel(classifier, precision="float32").rounding is None
    model = TargetModel(classifier, precision="auto")
    assert model.precision == ("bfloat16" if fast else "float32")
    assert model.of_log_probabilities().precision == model.precision
