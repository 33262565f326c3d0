"""Batches from the data that people have: arrays, folders, Hugging Face datasets, tf.data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.graph_checks import IMAGES
from keras_srt.core.tensorflow import keras, tf

_COLOR_MODES = {1: "grayscale", 3: "rgb", 4: "rgba"}
# Pillow's modes by the number of channels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def as_batches(
    data: Any,
    role: str,
    *,
    labeled: bool = True,
    image_shape: Sequence[int] | None = None,
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
        batch_size: The number of images in a batch.
        shuffle: Whether each pass has another order.

    Returns:
        A `tf.data.Dataset` of batches with a known length. A `tf.data.Dataset`, and data of other
        kinds, is returned unchanged.

    Raises:
        InvalidSettings: The data can't be read as images, or has no labels.

    Example:
        >>> batches = as_batches((np.zeros([5, 4, 4, 3]), [0, 1, 2, 0, 1]), "x", batch_size=2)
        >>> len(batches), next(iter(batches))[0].shape
        (3, TensorShape([2, 4, 4, 3]))
    """
    if isinstance(data, str | os.PathLike):
        return _from_folder(Path(data), role, labeled, image_shape, batch_size, shuffle)
    if _is_hugging_face(data):
        rows = _HuggingFaceRows(data, role, labeled, image_shape)
        numbers = _batched(tf.data.Dataset.range(len(data)), batch_size, shuffle)
        return numbers.map(rows.load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
    parts = data if isinstance(data, tuple) else (data,)
    if not isinstance(parts[0], np.ndarray | tf.Tensor):
        return data
    if len(np.shape(parts[0])) != 4:
        raise _invalid(
            role,
            f"an array of shape {tuple(np.shape(parts[0]))}",
            "images [n, height, width, channels]; add the axis of gray images by [..., None]",
        )
    if len({len(part) for part in parts}) > 1:
        lengths = " and ".join(str(len(part)) for part in parts)
        raise _invalid(role, f"{lengths} images and labels", "as many labels as images")
    if not np.isfinite([np.min(parts[0]), np.max(parts[0])]).all():
        raise _invalid(role, "images with NaN or infinite values", "values from 0 to 1, or to 255")
    return _batched(tf.data.Dataset.from_tensor_slices(data), batch_size, shuffle)


def known_image_shape(model: Any) -> tuple[int, int, int] | None:
    """Return height, width and channels of the images of a model; None if they are not fixed.

    Args:
        model: A Keras model, or any other function.
    """
    shape = tuple(getattr(model, "input_shape", None) or ())[1:]
    return shape if len(shape) == 3 and None not in shape and shape[2] in _MODES else None


def _batched(dataset: tf.data.Dataset, batch_size: int, shuffle: bool) -> tf.data.Dataset:
    return (dataset.shuffle(len(dataset)) if shuffle else dataset).batch(batch_size)


def _from_folder(
    path: Path,
    role: str,
    labeled: bool,
    image_shape: Sequence[int] | None,
    batch_size: int,
    shuffle: bool,
) -> tf.data.Dataset:
    if not path.is_dir():
        raise _invalid(role, f"{str(path)!r}, which is no folder", "the path of a folder of images")
    if image_shape is None or image_shape[2] not in _MODES:
        raise _invalid(role, "a folder without an image size", "image_shape=(96, 96, 3), as wanted")
    try:
        return keras.utils.image_dataset_from_directory(
            path,
            labels="inferred" if labeled else None,
            color_mode=_COLOR_MODES[image_shape[2]],
            image_size=tuple(image_shape[:2]),
            batch_size=batch_size,
            shuffle=shuffle,
        )
    except ValueError as error:
        raise _invalid(role, f"{str(path)!r} ({error})", "a folder of class folders") from error


def _is_hugging_face(data: Any) -> bool:
    """Return whether the data is of the library `datasets`, which may not be installed."""
    return type(data).__module__.partition(".")[0] == "datasets"


class _HuggingFaceRows:
    """The rows of a Hugging Face dataset as images of one size and labels."""

    def __init__(
        self, data: Any, role: str, labeled: bool, image_shape: Sequence[int] | None
    ) -> None:
        if isinstance(data, Mapping):
            raise _invalid(role, "all splits of a dataset", f"one of them: {', '.join(data)}")
        if not hasattr(data, "__getitem__") or not len(data):
            raise _invalid(role, "a streamed or empty dataset", "a datasets.Dataset with rows")
        self._data = data
        self._image = _column(data, role, "Image")
        self._label = _column(data, role, "ClassLabel") if labeled else None
        self._fixed, first = image_shape is not None, data[0][self._image]
        own = first.height, first.width, 1 if first.mode in "1L" else 3
        self._shape = own if image_shape is None else tuple(image_shape)

    def load(self, rows: tf.Tensor) -> Any:
        """Return the images of rows, uint8 [n, height, width, channels], with labels if wanted."""
        images, labels = tf.numpy_function(self._read, [rows], [tf.uint8, tf.int64])
        images.set_shape([None, *self._shape])
        labels.set_shape([None])
        return images if self._label is None else (images, labels)

    def _read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = self._data[rows.tolist()]
        height, width, channels = self._shape
        images = np.zeros((len(rows), *self._shape), np.uint8)
        for index, image in enumerate(columns[self._image]):
            if not self._fixed and (image.height, image.width) != (height, width):
                raise InvalidSettings(
                    [
                        f"{IMAGES} {height}x{width} and {image.height}x{image.width} pixels; "
                        "allowed: one size, or image_shape=(height, width, channels)"
                    ]
                )
            resized = image.convert(_MODES[channels]).resize((width, height))
            images[index] = np.asarray(resized).reshape(self._shape)
        labels = columns[self._label] if self._label is not None else rows
        return images, np.int64(labels)


def _column(data: Any, role: str, kind: str) -> str:
    """Return the name of the one column with a kind of feature."""
    found = [name for name, feature in data.features.items() if type(feature).__name__ == kind]
    if len(found) != 1:
        listed = ", ".join(f"{name} ({type(f).__name__})" for name, f in data.features.items())
        raise _invalid(
            role, f"the columns {listed}", f"one {kind} column; use cast_column or select_columns"
        )
    return found[0]


def _invalid(role: str, got: str, allowed: str) -> InvalidSettings:
    return InvalidSettings([f"{role}: got {got}; allowed: {allowed}"])
