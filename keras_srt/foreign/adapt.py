"""Adapt a model from elsewhere: images in [0, 1] -> logits, with each conversion named."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.classifier_outputs import FLOOR, are_probabilities
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.foreign.keras_models import open_keras_model
from keras_srt.foreign.open_file import open_file
from keras_srt.foreign.opened_model import OpenedModel, Range

OUTPUTS = ("logits", "probabilities")
ASSUMED = "is assumed, since nothing in the model tells its range"
_log = logging.getLogger(__name__)
_UNIT: Range = (0.0, 1.0)
_CHANNELS = (1, 3)
# Random images on which the outputs of a model are examined, if there are no others.
_NUM_PROBES = 16


class ModelOptions(NamedTuple):
    """What the user declares about a model, where its structure doesn't tell.

    Attributes:
        input_range: The values of black and white; None if not declared.
        outputs: One of `OUTPUTS`; None if not declared.
        foreign: Whether to run a SavedModel with any operations, see `load_savedmodel`.
    """

    input_range: Range | None = None
    outputs: str | None = None
    foreign: bool = False


@dataclasses.dataclass(frozen=True)
class AdaptedModel:
    """A classifier from elsewhere: float32 images [batch, height, width, channels] -> logits.

    Attributes:
        opened: The model as it was saved.
        function: Images in [0, 1], a float32 tensor -> logits, float32 [batch, classes].
        input_shape: (None, height, width, channels).
        output_shape: (None, classes).
        outputs: The outputs of the model from which the logits are made, one of `OUTPUTS`.
        conversions: What is done to images and outputs, one line each.
        is_range_assumed: Whether nothing tells the range of the inputs, and [0, 1] is assumed.
        is_multi_label: Whether the outputs are a sigmoid for each of several classes.
    """

    opened: OpenedModel
    function: Callable[[tf.Tensor], tf.Tensor]
    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]
    outputs: str
    conversions: tuple[str, ...]
    is_range_assumed: bool = False
    is_multi_label: bool = False

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Compute logits in inference mode.

        Args:
            images: float32 [batch, height, width, channels] in [0, 1].
            training: Ignored; for callers of Keras models.
        """
        return self.function(images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        height, width, channels = (int(size or 0) for size in self.input_shape[1:])
        return height, width, channels

    @property
    def variables(self) -> list[Any]:
        """The variables of the model."""
        if self.opened.variables is not None:
            return list(self.opened.variables)
        spec = tf.TensorSpec(self.input_shape, tf.float32)
        traced = tf.function(self.function, autograph=False).get_concrete_function(spec)
        return list(traced.graph.variables)

    def check_exportable(self) -> None:
        """Check that the model can be written as a SavedModel.

        Raises:
            UserError: It is a TFLite file, which no graph can contain.
        """
        if not self.opened.in_graph:
            raise self.opened.refused(
                "a TFLite file can't be exported or served; allowed: the .keras file or the "
                "SavedModel that it was made of"
            )

    def check_distribution(self) -> None:
        """Check that softmax(logits) are the probabilities of the model.

        Raises:
            UserError: The model ends with several sigmoids, one for each class.
        """
        if self.is_multi_label:
            raise self.opened.refused(
                f"ends with {self.output_shape[-1]} sigmoids, which are no distribution over the "
                "classes; allowed here: a softmax, or one sigmoid for two classes; evaluate "
                "accepts it"
            )


class _Input(NamedTuple):
    """How images in [0, 1] become the inputs of a model.

    Attributes:
        convert: Images, a float32 tensor -> inputs.
        lines: A line for each conversion.
        is_assumed: Whether the range is assumed.
    """

    convert: Callable[[tf.Tensor], tf.Tensor]
    lines: list[str]
    is_assumed: bool


def adapt(
    opened: OpenedModel, options: ModelOptions, samples: np.ndarray, assume_range: bool = False
) -> AdaptedModel:
    """Adapt a model.

    Args:
        opened: The model.
        options: What the user declares.
        samples: Some images, float32 [n, height, width, channels] in [0, 1], on which the outputs
            are examined.
        assume_range: Whether to take [0, 1] if nothing tells the range of the inputs.

    Returns:
        The adapted model.

    Raises:
        UserError: The model is no classifier of such images, or it must be declared whether its
            outputs are probabilities or what its range is.
    """
    _check_options(options)
    source = _input_of(opened, options, samples.shape[1:], assume_range)
    inputs = source.convert(tf.constant(samples, tf.float32))
    rows = _outputs_of(opened, inputs)
    if opened.without_activation is not None:
        opened = opened.without_activation(inputs) or opened
        rows = _outputs_of(opened, inputs)
    outputs = _kind_of_outputs(opened, options, rows)
    convert, lines = _output_of(opened, outputs, rows.shape[1])

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
    """Adapt a Keras model if its layers tell that it isn't images in [0, 1] -> logits.

    Args:
        model: A Keras model; others, and a `RobustModel`, are returned unchanged.
        samples: See `adapt`.
        check_outputs: Whether to examine outputs of which the layers don't tell what they are.

    Returns:
        The model itself, or the adapted one, whose conversions are logged.

    Raises:
        UserError: See `adapt`.
    """
    if not isinstance(model, keras.Model) or hasattr(model, "inference_model"):
        return model
    opened = open_keras_model(model)
    if opened.input_shape is None:  # a subclass, whose layers tell nothing
        return model
    channels_last = not _is_channels_first(opened, samples.shape[1:])
    is_unit = opened.input_range in (None, _UNIT)
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
    """Adapt a model from elsewhere to `evaluate` and `export`.

    Args:
        model: A `.keras` file, a SavedModel folder or a `.tflite` file; a Keras model; or a
            function of a batch of images.
        input_range: The values of black and white that the model expects, such as (0, 255); by
            default what its layers tell.
        outputs: "logits" or "probabilities"; by default what its layers tell.
        input_shape: (height, width, channels) of the images; by default what the model tells.
        foreign: Whether to run a SavedModel with any operations, see `load_savedmodel`.

    Returns:
        The model as images in [0, 1] -> logits; `conversions` names what is done.

    Raises:
        UserError: The model can't be loaded or is no image classifier, or nothing tells its
            `input_range` or its `outputs`.

    Example:
        >>> brightness = lambda x: x[:, 0, 0] / 255
        >>> declared = {"input_range": (0, 255), "outputs": "probabilities"}
        >>> model = adapt_model(brightness, **declared, input_shape=(1, 1, 1))
        >>> print("; ".join(model.conversions))
        inputs: [0, 1] is scaled to 0…255 (declared); outputs: one probability p -> log(1-p), log(p)
    """
    if isinstance(model, str | Path):
        opened = open_file(Path(model), foreign)
    elif isinstance(model, keras.Model):
        opened = open_keras_model(model)
    else:
        opened = OpenedModel("model", "function", model, variables=None)
    options = ModelOptions(input_range, outputs, foreign)
    return adapt(opened, options, probes(input_shape or image_shape(opened)))


def image_shape(opened: OpenedModel) -> tuple[int, int, int]:
    """Return (height, width, channels) of the images that a model takes.

    Raises:
        UserError: Its inputs are no images of a fixed size.
    """
    shape = opened.input_shape
    if shape is None or len(shape) != 3 or None in shape:
        raise opened.refused(
            f"takes inputs of shape {shape}; allowed: images of a fixed size, (height, width, "
            "channels) or (channels, height, width)"
        )
    first, second, third = (int(size or 0) for size in shape)
    if third in _CHANNELS:
        return first, second, third
    if first in _CHANNELS:
        return second, third, first
    raise opened.refused(f"takes inputs of shape {shape}; allowed: images with 1 or 3 channels")


def probes(shape: tuple[int, int, int]) -> np.ndarray:
    """Return random images of a shape, float32 [16, height, width, channels] in [0, 1]."""
    pixels = np.random.default_rng(0).integers(0, 256, (_NUM_PROBES, *shape))
    return np.float32(pixels / 255.0)


def _check_options(options: ModelOptions) -> None:
    if options.outputs is not None and options.outputs not in OUTPUTS:
        raise InvalidSettings([f"outputs: got {options.outputs!r}; allowed: {', '.join(OUTPUTS)}"])
    if options.input_range is not None:
        low, high = options.input_range
        if not (np.isfinite([low, high]).all() and low != high):
            raise InvalidSettings(
                [f"input_range: got {options.input_range}; allowed: two numbers, such as 0, 255"]
            )


def _input_of(
    opened: OpenedModel, options: ModelOptions, shape: tuple[int, ...], assume_range: bool
) -> _Input:
    """Choose how images become inputs, by the model's structure or by what is declared."""
    is_first = _is_channels_first(opened, shape)
    known, reason = opened.input_range, opened.range_reason
    if options.input_range is not None:
        known, reason = options.input_range, "declared"
    if known is None and not assume_range:
        raise opened.refused(
            "nothing in the model tells whether it takes images of 0 to 1 or 0 to 255; give "
            "--input-range 0,1 or --input-range 0,255 (in Python, "
            "adapt_model(model, input_range=(0, 255)))"
        )
    low, high = known or _UNIT
    lines = []
    if known is None:
        lines.append(f"inputs: [0, 1] {ASSUMED}")
    elif known != _UNIT:
        lines.append(f"inputs: [0, 1] is scaled to {low:g}…{high:g} ({reason})")
    if is_first:
        lines.append("inputs: channels last -> channels first")
    dtype = tf.as_dtype(opened.dtype)

    def convert(images: tf.Tensor) -> tf.Tensor:
        if (low, high) != _UNIT:
            images = low + (high - low) * images
        if is_first:
            images = tf.transpose(images, [0, 3, 1, 2])
        return tf.cast(tf.round(images) if dtype.is_integer else images, dtype)

    return _Input(convert, lines, known is None)


def _is_channels_first(opened: OpenedModel, shape: tuple[int, ...]) -> bool:
    wanted = opened.input_shape
    height, width, channels = shape
    for given, is_first in ((shape, False), ((channels, height, width), True)):
        if wanted is None or (
            len(wanted) == 3
            and all(size in (None, got) for size, got in zip(wanted, given, strict=True))
        ):
            return is_first
    raise opened.refused(f"takes inputs of shape {wanted}; the images have shape {shape}")


def _outputs_of(opened: OpenedModel, inputs: tf.Tensor) -> np.ndarray:
    """Predict some inputs; return the outputs [n, classes]."""
    try:
        rows = np.asarray(opened.function(inputs))
    except (ValueError, TypeError, tf.errors.OpError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise opened.refused(
            f"doesn't take images of {tuple(inputs.shape[1:])} ({reason[:120]})"
        ) from error
    if rows.ndim != 2 or len(rows) != len(inputs) or not rows.shape[1]:
        raise opened.refused(
            f"outputs shape {rows.shape} for {len(inputs)} images; allowed: (images, classes)"
        )
    return rows


def _kind_of_outputs(opened: OpenedModel, options: ModelOptions, rows: np.ndarray) -> str:
    """Choose what the outputs are; refuse to guess."""
    declared, classes = options.outputs, rows.shape[1]
    if opened.activation == "softmax" and classes == 1:
        raise opened.refused("ends with a softmax over one unit, which always outputs 1")
    if opened.activation and declared == "logits":
        raise opened.refused(
            f"ends with {opened.activation}, so that its outputs are probabilities; leave out "
            "--outputs logits"
        )
    if opened.activation:
        return "logits"
    known = declared or opened.outputs
    # Probabilities of 8 bits are rounded to 1/256 each.
    rounding = 1e-3 + classes / 512
    in_unit = bool(rows.min() >= 0 and rows.max() <= 1.001)
    is_distribution = in_unit if classes == 1 else are_probabilities(rows, rounding)
    if known == "probabilities" and not is_distribution:
        raise opened.refused(
            f"its outputs are no probabilities, but from {rows.min():g} to {rows.max():g}, sums "
            f"from {rows.sum(axis=1).min():g}; give --outputs logits if they are logits"
        )
    # Keras layers are exact; the name of an output is not.
    is_exact = opened.kind.startswith("Keras") and bool(opened.outputs)
    looks = is_distribution if opened.outputs == "logits" else in_unit
    if declared is None and known != "probabilities" and looks and not is_exact:
        raise _undeclared(opened, is_distribution)
    return known or "logits"


def _undeclared(opened: OpenedModel, is_distribution: bool) -> Exception:
    like = "look like probabilities" if is_distribution else "are all between 0 and 1"
    return opened.refused(
        f"its outputs {like}, and nothing in the model tells what they are; give --outputs "
        "probabilities or --outputs logits (in Python, adapt_model(model, outputs=…))"
    )


def _output_of(
    opened: OpenedModel, outputs: str, classes: int
) -> tuple[Callable[[tf.Tensor], tf.Tensor], list[str]]:
    """Choose how outputs become logits of at least two classes."""
    if outputs == "probabilities":
        if classes > 1:
            return _logarithm, ["outputs: probabilities p -> log(p)"]
        return (
            lambda p: _logarithm(tf.concat([1.0 - p, p], axis=-1)),
            ["outputs: one probability p -> log(1-p), log(p)"],
        )
    removed = opened.activation and f"the last {opened.activation} is removed, "
    if classes == 1:
        return (
            lambda z: tf.concat([tf.zeros_like(z), z], axis=-1),
            [f"outputs: {removed}one logit z -> 0, z"],
        )
    if opened.activation == "sigmoid":
        return tf.identity, [f"outputs: the {classes} last sigmoids are removed"]
    return tf.identity, [f"outputs: the last {opened.activation} is removed"] if removed else []


def _logarithm(p: tf.Tensor) -> tf.Tensor:
    return tf.math.log(tf.maximum(p, FLOOR))
