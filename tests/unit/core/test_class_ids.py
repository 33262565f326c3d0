"""Labels that are no class ids, at every function that takes them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt import FGSM, PGD, RobustModel, Standard, evaluate, evaluate_robustness
from keras_srt.attacks import Criterion, QueryModel, Square, TargetModel
from keras_srt.core.class_ids import check_class_ids
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.data import Arrays
from keras_srt.evaluation.masking import find_masking

IMAGES = np.full((4, 4, 4, 1), 0.5, np.float32)
INVALID = {
    "too large": ([1, 2, 3, 4], "got 3 at index 2"),
    "negative": ([0, -1, 2, 5], "got -1 at index 1"),
    "NaN": ([0, 1, float("nan"), -1], "got nan at index 2"),
    "fraction": ([0.0, 1.0, 2.0, 2.7], "got 2.7 at index 3"),
    "infinite": ([0, float("inf"), 1, 1], "got inf at index 1"),
}


def logits(images):
    return tf.reshape(images, [-1, 16])[:, :3] * [1.0, 2.0, 3.0]


def fitted(labels, as_dataset):
    classifier = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model = RobustModel(classifier, None, Standard())
    model.compile()
    labels = np.asarray(labels)
    if as_dataset:
        model.fit(tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(4), verbose=0)
    else:
        model.fit(IMAGES, labels, verbose=0)


USES = {
    "evaluate_robustness": lambda labels: evaluate_robustness(logits, IMAGES, labels, []),
    "evaluate": lambda labels: evaluate(logits, (IMAGES, np.asarray(labels)), []),
    "an attack": lambda labels: PGD(0.1).run(
        TargetModel(logits), IMAGES, Criterion(np.asarray(labels)), tf.constant([0, 0])
    ),
    "a query attack": lambda labels: Square(0.1).run(
        QueryModel(lambda x: logits(x).numpy()), IMAGES, Criterion(np.asarray(labels)),
        tf.constant([0, 0]),
    ),
    "find_masking": lambda labels: find_masking(
        TargetModel(logits), IMAGES, np.asarray(labels), [FGSM(0.1)]
    ),
    "fit arrays": lambda labels: fitted(labels, False),
    "fit a dataset": lambda labels: fitted(labels, True),
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("case", INVALID)
def test_the_first_invalid_label_is_named(use, case):
    labels, words = INVALID[case]
    with pytest.raises(InvalidSettings) as caught:
        USES[use](labels)
    assert words in str(caught.value)
    assert "allowed: class ids, whole numbers from 0 to 2" in str(caught.value) or use in (
        "an attack", "a query attack", "evaluate_robustness", "evaluate",
    )  # fmt: skip


def test_whole_numbers_of_any_type_are_class_ids():
    for labels in ([0, 1, 2], [0.0, 1.0, 2.0], np.uint8([0, 1, 2]), np.float16([0, 1, 2])):
        ids = check_class_ids(labels, 3)
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, [0, 1, 2])
    with pytest.raises(InvalidSettings, match="type"):
        check_class_ids(["cat"], 3)


def test_arrays_refuse_fractions():
    images = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(InvalidSettings, match=r"2\.7"):
        Arrays(
            train_images=images, train_labels=[0, 2.7], test_images=images, test_labels=[0, 1],
            class_names=("a", "b", "c"),
        )  # fmt: skip
