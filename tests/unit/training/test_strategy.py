"""Strategies: which ones are refused."""

import pytest
import tensorflow as tf

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras
from keras_srt.data import BatchSizes
from keras_srt.training.strategy import check_replicas, make_strategy


def test_batches_too_small_for_the_replicas_are_refused():
    check_replicas(8, BatchSizes(1, 8), 8)
    with pytest.raises(InvalidSettings) as error:
        check_replicas(8, BatchSizes(20, 7), 5)
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "training.batch_size",
        "data.validation",
    ]


def test_mirrored_wants_several_devices():
    if len(tf.config.list_physical_devices("GPU")) > 1:
        pytest.skip("this machine has several GPUs")
    with pytest.raises(UserError, match=r"got one device.*--strategy one_device"):
        make_strategy("mirrored")


def test_several_workers_are_refused_with_keras_3():
    if keras.__version__.startswith("2."):
        pytest.skip("Keras 2 trains on several workers")
    with pytest.raises(UserError, match=r"got Keras 3.*Python 3\.10 and 3\.11.*one_device"):
        make_strategy("multi_worker")
