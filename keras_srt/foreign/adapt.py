"""Adapt a third-party model: images in [0, 1] -> logits, with each conversion named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.foreign.adapted_model import AdaptedModel
from keras_srt.foreign.keras_models import open_keras_model
from keras_srt.foreign.model_inputs import (
    ASSUMED,
    UNIT,
    convert_inputs,
    image_shape,
    is_channels_first,
    probes,
)
from keras_srt.foreign.model_options import ModelOptions
from keras_srt.foreign.model_outputs import convert_outputs, kind_of_outputs, predict
from keras_srt.foreign.open_file import open_file
from keras_srt.foreign.opened_model import OpenedModel, Range

_log = logging.getLogger(__name__)


def adapt(
    opened: OpenedModel, options: ModelOptions, samples: np.ndarray, assume_range: bool = False
) -> AdaptedModel:
    """Adapt a model.

    Args:
        opened: The model.
        options: What the user declares.
        samples: Some images, float32 [n, height, width, channels] in [0, 1], on which the outputs
            are examined.
        assume_range: Whether to take [0, 1] if the model does not define its input range.

    Returns:
        The adapted model.

    Raises:
        UserError: The model is no classifier of such images, or it must be declared whether its
            outputs are probabilities or what its range is.
    """
    options.check()
    source = convert_inputs(opened, options, samples.shape[1:], assume_range)
    inputs = source.convert(tf.constant(samples, tf.float32))
    rows = predict(opened, inputs)
    if opened.without_activation is not None:
        opened = opened.without_activation(inputs) or opened
        rows = predict(opened, inputs)
    outputs = kind_of_outputs(opened, options, rows)
    convert, lines = convert_outputs(opened, outputs, rows.shape[1])

    def logits(images: tf.Tensor) -> tf.Tensor:
        return convert(tf.cast(opened.function(source.convert(images)), tf.float32))

    return AdaptedModel(
        opened,
        logits,
        (None, *samples.shape[1:]),
        (None, max(2, rows.shape[1])),
        outputs,
        (*source.lines, *lines),
        source.is_assumed,
        is_multi_label=opened.activation == "sigmoid" and rows.shape[1] > 1,
    )


def open_classifier(
    path: Path, options: ModelOptions, labels: Path | None = None
) -> tuple[AdaptedModel, tuple[str, ...]]:
    """Open a model file to compute the probabilities of its classes.

    Args:
        path: See `open_file`.
        options: What the user declares about the model.
        labels: A file with a class name in each line; None for the names in the model, or for
            the class ids.

    Returns:
        The model and its class names.

    Raises:
        UserError: The model can't be used, see `adapt`, or the number of names differs.
    """
    opened = open_file(path, options.foreign)
    adapted = adapt(opened, options, probes(image_shape(opened)))
    adapted.check_distribution()
    classes = adapted.output_shape[-1] or 0
    names = opened.labels
    if labels is not None:
        names = _read_labels(labels)
        if len(names) != classes:
            raise UserError(f"--labels {labels}: has {len(names)} names; the model has {classes}")
    if len(names) != classes:
        names = tuple(map(str, range(classes)))
    return adapted, names


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeError) as error:
        raise UserError(f"--labels {path}: can't be read ({error})") from error


def adapt_keras(model: Any, samples: np.ndarray, check_outputs: bool = False) -> Any:
    """Adapt a Keras model if its layers show that it isn't images in [0, 1] -> logits.

    Args:
        model: A Keras model; others, and a `RobustModel`, are returned unchanged.
        samples: See `adapt`.
        check_outputs: Whether to examine outputs that the layers don't define.

    Returns:
        The model itself, or the adapted one, whose conversions are logged.

    Raises:
        UserError: See `adapt`.
    """
    if not isinstance(model, keras.Model) or hasattr(model, "inference_model"):
        return model
    opened = open_keras_model(model)
    if opened.input_shape is None:  # a subclass, whose layers define nothing
        return model
    channels_last = not is_channels_first(opened, samples.shape[1:])
    is_unit = opened.input_range in (None, UNIT)
    are_known = bool(opened.outputs) or not check_outputs
    is_plain = not opened.activation and model.output_shape[-1] != 1
    if channels_last and is_unit and is_plain and are_known:
        return model
    adapted = adapt(opened, ModelOptions(), samples, assume_range=True)
    for line in adapted.conversions:
        changes_images = line.startswith("inputs") and not line.endswith(ASSUMED)
        _log.log(logging.WARNING if changes_images else logging.INFO, "model: %s", line)
    return adapted


def adapt_model(
    model: str | Path | Callable[..., Any],
    *,
    input_range: Range | None = None,
    outputs: str | None = None,
    input_shape: tuple[int, int, int] | None = None,
    foreign: bool = False,
) -> AdaptedModel:
    """Adapt a third-party model to `evaluate` and `export`.

    Args:
        model: A `.keras` file, a SavedModel folder or a `.tflite` file; a Keras model; or a
            function of a batch of images.
        input_range: The values of black and white that the model expects, such as (0, 255); by
            default what its layers tell.
        outputs: "logits" or "probabilities"; by default what its layers define.
        input_shape: (height, width, channels) of the images; by default what the model defines.
        foreign: Whether to run a SavedModel with any operations, see `load_savedmodel`.

    Returns:
        The model as images in [0, 1] -> logits; `conversions` names what is done.

    Raises:
        UserError: The model can't be loaded or is no image classifier, or does not
            define its `input_range` or `outputs`.

    Example:
        >>> brightness = lambda x: x[:, 0, 0] / 255
        >>> declared = {"input_range": (0, 255), "outputs": "probabilities"}
        >>> model = adapt_model(brightness, **declared, input_shape=(1, 1, 1))
        >>> model.conversions[0]
        'inputs: [0, 1] is scaled to [0, 255] (declared)'
    """
    if isinstance(model, str | Path):
        opened = open_file(Path(model), foreign)
    elif isinstance(model, keras.Model):
        opened = open_keras_model(model)
    else:
        opened = OpenedModel("model", "function", model, variables=None)
    options = ModelOptions(input_range, outputs, foreign)
    return adapt(opened, options, probes(input_shape or image_shape(opened)))
