"""`DataModel`: a Keras model that takes images as people have them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_srt.core.class_ids import check_class_ids
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.graph_checks import refuse_invalid
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data.batch_sources import as_batches, known_image_shape, known_num_outputs
from keras_srt.data.keras_datasets import first_images, to_unit_range
from keras_srt.objectives import Objective
from keras_srt.training.batch_input import check_batch


class DataModel(keras.Model):
    """Convert and check what `fit`, `evaluate` and `predict` are given.

    Attributes:
        classifier: The trained classifier, images -> logits [batch, classes].
        objective: The training loss, which decides what a batch must have.
    """

    classifier: keras.Model
    objective: Objective

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._training_data: Callable[[], np.ndarray | None] = lambda: None

    def example_images(self) -> np.ndarray | None:
        """Images of the first training batch, float32 in [0, 1]; None before `fit`."""
        return self._training_data()

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, validation_data: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, with images rescaled from 0…255 if necessary.

        Beside what Keras takes, `x` and `validation_data` can be the path of a folder of class
        folders, a Hugging Face dataset or a tuple of images and labels, see
        `keras_srt.data.as_batches`. Folders and datasets are resized for the classifier.
        """
        for name in ("class_weight", "sample_weight"):
            if kwargs.get(name) is not None:
                raise InvalidSettings([f"{name}: got a value; allowed: None, it is not supported"])
        x = self._as_batches(x, "x", kwargs, "batch_size") if y is None else to_unit_range(x, "x")
        # AutoGraph would change the type of errors inside `train_step`.
        if y is not None:
            check_batch((x, np.asarray(y)), self.objective)
            check_class_ids(y, self.num_classes())
        elif isinstance(x, tf.data.Dataset):
            check_batch(x.element_spec, self.objective)
        self._training_data = functools.partial(first_images, x)
        if not hasattr(x, "__getitem__"):  # Keras 3 warns that it can't shuffle a dataset
            kwargs.setdefault("shuffle", False)
        if isinstance(validation_data, tuple) and len(validation_data) > 1:
            check_class_ids(validation_data[1], self.num_classes(), "validation_data: labels")
        validation_data = self._as_batches(
            validation_data, "validation_data", kwargs, "validation_batch_size", shuffle=False
        )
        try:
            return super().fit(x, y, *args, validation_data=validation_data, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            refuse_invalid(error)
            raise

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as `keras.Model.evaluate` does, with images rescaled if necessary."""
        if y is None:
            x = self._as_batches(x, "x", kwargs, "batch_size", shuffle=False)
        else:
            x = to_unit_range(x, "x")
            check_class_ids(y, self.num_classes())
        try:
            return super().evaluate(x, y, *args, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            refuse_invalid(error)
            raise

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        """Return logits as `keras.Model.predict` does, with images rescaled if necessary."""
        return super().predict(to_unit_range(x, "x"), *args, **kwargs)

    def _as_batches(
        self, data: Any, role: str, kwargs: dict[str, Any], size: str, shuffle: bool = True
    ) -> Any:
        """Read data that Keras doesn't take; `size` names the argument with the batch size."""
        classifier = self.classifier if self.classifier.built else None
        data = to_unit_range(data, role)  # all of an array
        batches = as_batches(
            data,
            role,
            image_shape=known_image_shape(classifier),
            num_classes=known_num_outputs(classifier),
            batch_size=kwargs.get(size) or 32,
            shuffle=shuffle,
        )
        if batches is not data:
            kwargs.pop(size, None)  # Keras refuses it beside batches
        return to_unit_range(batches, role)

    def num_classes(self) -> int | None:
        """Return the number of classes; None before the classifier is built."""
        return known_num_outputs(self.classifier) if self.classifier.built else None
