"""Datasets as Keras users have them: `tf.data` pipelines and arrays with values of 0 to 255."""

from __future__ import annotations

import functools
import logging
import weakref
from typing import Any

import numpy as np

from keras_srt.core.errors import invalid_setting
from keras_srt.core.graph_checks import refuse_invalid
from keras_srt.core.tensorflow import tf
from keras_srt.data.batch_sources import as_batches

_log = logging.getLogger(__name__)
# Datasets whose first batch has been checked: validation data is passed in once per epoch.
_in_unit_range: weakref.WeakSet[Any] = weakref.WeakSet()


def pair(
    labeled: Any,
    unlabeled: Any,
    *,
    image_shape: tuple[int, int, int] | None = None,
    batch_sizes: tuple[int, int] = (32, 96),
) -> tf.data.Dataset:
    """Combine labeled and unlabeled batches into the batches that `RobustModel.fit` expects.

    An epoch is one pass over the dataset with more batches; the other dataset repeats. Images
    with values from 0 to 255 are rescaled to [0, 1].

    Args:
        labeled: A `tf.data.Dataset` of batches `(images, labels)`: images [batch, height, width,
            channels] and class ids [batch], as from `keras.utils.image_dataset_from_directory`; a
            tuple of two arrays; the path of a folder of class folders; or a Hugging Face
            `datasets.Dataset` with an `Image` and a `ClassLabel` column.
        unlabeled: A `tf.data.Dataset` of batches of images of the same shape; an array; the path
            of a folder of images; or a Hugging Face dataset, whose labels are not read.
        image_shape: Height, width and channels to which folders and Hugging Face datasets are
            resized; None for Hugging Face datasets whose images have one size.
        batch_sizes: Labeled and unlabeled images in a batch; a `tf.data.Dataset` keeps its own.

    Returns:
        Batches `{"labeled": (images, labels), "unlabeled": images}`, images float32 in [0, 1].

    Raises:
        InvalidSettings: A dataset has another structure, is empty, infinite or of unknown
            length; or the images differ in shape or range.

    Example:
        >>> import tensorflow as tf
        >>> images, labels = 255 * tf.ones([6, 4, 4, 3]), [0, 1, 2, 0, 1, 2]
        >>> labeled = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
        >>> unlabeled = tf.data.Dataset.from_tensor_slices(images).batch(3)
        >>> batches = pair(labeled, unlabeled)
        >>> len(batches), next(iter(batches))["unlabeled"].shape
        (3, TensorShape([3, 4, 4, 3]))
    """
    read = functools.partial(as_batches, image_shape=image_shape)
    labeled = read(labeled, "labeled", batch_size=batch_sizes[0])
    unlabeled = read(unlabeled, "unlabeled", labeled=False, batch_size=batch_sizes[1])
    first_images = _first_labeled_images(labeled)
    first_unlabeled = _first_batch("unlabeled", unlabeled)
    if isinstance(first_unlabeled, tuple):
        raise invalid_setting(
            "unlabeled", "batches with labels", "images only; load with labels=None"
        )
    _check_images("unlabeled", first_unlabeled)
    if first_images.shape[1:] != first_unlabeled.shape[1:]:
        raise invalid_setting(
            "unlabeled",
            f"images of shape {tuple(first_unlabeled.shape[1:])}",
            f"{tuple(first_images.shape[1:])}, as the labeled images",
        )
    divisors = _divisor("labeled", first_images), _divisor("unlabeled", first_unlabeled)
    if divisors[0] != divisors[1]:
        raise invalid_setting(
            "unlabeled", "another range of values than the labeled images", "the same"
        )
    _tell("labeled and unlabeled", divisors[0])
    steps = max(_length("labeled", labeled), _length("unlabeled", unlabeled))
    together = tf.data.Dataset.zip(
        (_repeated(labeled, first_images), _repeated(unlabeled, first_unlabeled))
    )

    def combine(labeled: Any, unlabeled: Any) -> dict[str, Any]:
        images, labels = labeled
        return {
            "labeled": (_rescale(images, divisors[0]), tf.cast(tf.reshape(labels, [-1]), tf.int32)),
            "unlabeled": _rescale(unlabeled, divisors[1]),
        }

    batches = together.take(steps).map(combine, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)


def to_unit_range(data: Any, role: str) -> Any:
    """Rescale images from 0…255 to [0, 1]; return images in [0, 1] unchanged.

    Args:
        data: An array of images; a `tf.data.Dataset` of batches of images or of
            `(images, labels)`, whose first batch decides; or a tuple `(images, labels)`.
            Anything else is returned unchanged, for example batches made by `pair`.
        role: The name of the data in messages ("validation_data").

    Returns:
        The data with float32 images in [0, 1].

    Raises:
        InvalidSettings: Values are neither in [0, 1] nor in [0, 255].
    """
    if isinstance(data, tuple) and data:
        return (to_unit_range(data[0], role), *data[1:])
    if isinstance(data, np.ndarray | tf.Tensor):
        divisor = _divisor(role, data)
        _tell(role, divisor)
        return data if divisor == 1 else _rescale(data, divisor)
    if not isinstance(data, tf.data.Dataset) or data in _in_unit_range:
        return data
    if isinstance(data.element_spec, dict):
        return data
    first = _first_batch(role, data)
    divisor = _divisor(role, first[0] if isinstance(first, tuple) else first)
    _tell(role, divisor)
    if divisor != 1:
        data = data.map(
            lambda images, *labels: (
                (_rescale(images, divisor), *labels) if labels else _rescale(images, divisor)
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    _in_unit_range.add(data)
    return data


def first_images(data: Any) -> np.ndarray | None:
    """The images of the first batch of training data, labeled and unlabeled.

    Args:
        data: An array of images or a `tf.data.Dataset`, with images in [0, 1].

    Returns:
        float32 [n, height, width, channels]; None for other kinds of data.
    """
    if isinstance(data, np.ndarray | tf.Tensor):
        return np.float32(data[:128])
    if not isinstance(data, tf.data.Dataset):
        return None
    first = next(iter(data.take(1)))
    parts = first if isinstance(first, dict) else {"labeled": first}
    images = [parts["labeled"][0]] + ([parts["unlabeled"]] if "unlabeled" in parts else [])
    return np.concatenate([np.float32(part) for part in images])


def _first_batch(role: str, dataset: tf.data.Dataset) -> Any:
    if not isinstance(dataset, tf.data.Dataset):
        raise invalid_setting(role, f"a {type(dataset).__name__}", "a tf.data.Dataset")
    try:
        first = next(iter(dataset.take(1)), None)
    except tf.errors.InvalidArgumentError as error:
        refuse_invalid(error)
        raise
    if first is None:
        raise invalid_setting(role, "an empty dataset", "at least one batch")
    return first


def _first_labeled_images(labeled: tf.data.Dataset) -> tf.Tensor:
    first = _first_batch("labeled", labeled)
    if not isinstance(first, tuple) or len(first) != 2:
        raise invalid_setting("labeled", "batches of another structure", "batches (images, labels)")
    images, labels = first
    _check_images("labeled", images)
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise invalid_setting(
            "labeled",
            f"labels of shape {tuple(labels.shape)}",
            "class ids [batch]; load with label_mode='int'",
        )
    return images


def _check_images(role: str, images: Any) -> None:
    if getattr(images, "shape", None) is None or len(images.shape) != 4:
        got = f"shape {tuple(images.shape)}" if hasattr(images, "shape") else type(images).__name__
        raise invalid_setting(
            role, got, "images [batch, height, width, channels]; batch the dataset"
        )


def _length(role: str, dataset: tf.data.Dataset) -> int:
    length = int(dataset.cardinality())
    if length < 0:
        raise invalid_setting(
            role,
            "a dataset of infinite or unknown length",
            "a finite one; apply tf.data.experimental.assert_cardinality(batches)",
        )
    return length


def _repeated(dataset: tf.data.Dataset, first: tf.Tensor) -> tf.data.Dataset:
    """The dataset without end, in batches of the size of the first one."""
    return dataset.repeat().rebatch(len(first), drop_remainder=True)


def _divisor(role: str, images: Any) -> float:
    """255 for images with values from 0 to 255, 1 for images in [0, 1]."""
    if not len(images):
        raise invalid_setting(role, "no images", "at least one")
    low, high = float(np.min(images)), float(np.max(images))
    is_integer = np.issubdtype(getattr(images.dtype, "as_numpy_dtype", images.dtype), np.integer)
    if not (np.isfinite([low, high]).all() and low >= 0 and high <= 255):
        raise invalid_setting(
            role, f"images with values from {low:g} to {high:g}", "0 to 1, or 0 to 255"
        )
    if is_integer and high == 1:
        raise invalid_setting(
            role, "integer images with values from 0 to 1", "integers from 0 to 255, or floats"
        )
    return 255.0 if is_integer or high > 1 else 1.0


def _rescale(images: Any, divisor: float) -> Any:
    return tf.cast(images, tf.float32) / divisor


def _tell(role: str, divisor: float) -> None:
    if divisor != 1:
        _log.info("%s: images with values from 0 to 255, rescaled to [0, 1]", role)
