"""Batches from the data that people have: arrays, folders, Hugging Face datasets, tf.data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.errors import invalid_setting
from keras_srt.core.tensorflow import tf
from keras_srt.data.photo_rows import CHANNELS, FolderRows, HuggingFaceRows, PhotoRows


def as_batches(
    data: Any,
    role: str,
    *,
    labeled: bool = True,
    image_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    batch_size: int = 32,
    shuffle: bool = True,
) -> Any:
    """Return batches of images, or of images and labels, from any kind of data.

    Args:
        data: An array of images [n, height, width, channels], or a tuple of it and class ids [n];
            the path of a folder of class folders, or of any tree of images if not `labeled`; a
            Hugging Face `datasets.Dataset` with an image column; or a `tf.data.Dataset` of batches.
        role: The name of the data in messages ("unlabeled").
        labeled: Whether folders and Hugging Face datasets are read with their labels.
        image_shape: Height, width and channels to which folders and Hugging Face datasets are
            resized; None for the size of the first image of a Hugging Face dataset.
        num_classes: The number of class folders that a folder must have; None for any number.
        batch_size: The number of images in a batch.
        shuffle: Whether each pass has another order.

    Returns:
        A `tf.data.Dataset` of batches with a known length. A `tf.data.Dataset`, and data of other
        kinds, is returned unchanged.

    Raises:
        InvalidSettings: The data can't be read as images, or has no labels.
        UserError: A folder has no class folders, or no images.

    Example:
        >>> batches = as_batches((np.zeros([5, 4, 4, 3]), [0, 1, 2, 0, 1]), "x", batch_size=2)
        >>> len(batches), next(iter(batches))[0].shape
        (3, TensorShape([2, 4, 4, 3]))
    """
    rows: PhotoRows | None = None
    if isinstance(data, str | os.PathLike):
        rows = FolderRows(Path(data), role, labeled, image_shape, num_classes)
    elif _is_hugging_face(data):
        rows = HuggingFaceRows(data, role, labeled, image_shape)
    if rows is not None:
        numbers = _batched(tf.data.Dataset.range(len(rows)), batch_size, shuffle)
        return numbers.map(rows.load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
    parts = data if isinstance(data, tuple) else (data,)
    if not isinstance(parts[0], np.ndarray | tf.Tensor):
        return data
    if len(np.shape(parts[0])) != 4:
        raise invalid_setting(
            role,
            f"an array of shape {tuple(np.shape(parts[0]))}",
            "images [n, height, width, channels]; add the axis of gray images by [..., None]",
        )
    if len({len(part) for part in parts}) > 1:
        lengths = " and ".join(str(len(part)) for part in parts)
        raise invalid_setting(role, f"{lengths} images and labels", "as many labels as images")
    if not np.isfinite([np.min(parts[0]), np.max(parts[0])]).all():
        raise invalid_setting(
            role, "images with NaN or infinite values", "values from 0 to 1, or to 255"
        )
    return _batched(tf.data.Dataset.from_tensor_slices(data), batch_size, shuffle)


def known_image_shape(model: Any) -> tuple[int, int, int] | None:
    """Return height, width and channels of the images of a model; None if they are not fixed.

    Args:
        model: A Keras model, or any other function.
    """
    shape = tuple(getattr(model, "input_shape", None) or ())[1:]
    return shape if len(shape) == 3 and None not in shape and shape[2] in CHANNELS else None


def known_num_outputs(model: Any) -> int | None:
    """Return the number of outputs of a model; None if it is unknown.

    Args:
        model: A Keras model, or any other function.
    """
    shape = getattr(model, "output_shape", None)
    return shape[1] if isinstance(shape, tuple) and len(shape) == 2 else None


def _batched(dataset: tf.data.Dataset, batch_size: int, shuffle: bool) -> tf.data.Dataset:
    return (dataset.shuffle(len(dataset)) if shuffle else dataset).batch(batch_size)


def _is_hugging_face(data: Any) -> bool:
    """Return whether the data is of the library `datasets`, which may not be installed."""
    return type(data).__module__.partition(".")[0] == "datasets"
