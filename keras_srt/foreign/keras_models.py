"""What the layers of a Keras model tell about its inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.classifier_outputs import (
    last_activation,
    last_layer,
    without_last_activation,
)
from keras_srt.core.errors import UserError
from keras_srt.core.model_loading import load_keras_file
from keras_srt.core.tensorflow import keras, tf
from keras_srt.foreign.opened_model import OpenedModel, Range

# Layers that change no value in inference, or only by interpolation.
_KEEP_RANGE = frozenset(
    {
        *("CenterCrop", "Cropping2D", "Dropout", "GaussianNoise", "Identity", "InputLayer"),
        *("Permute", "RandomBrightness", "RandomContrast", "RandomCrop", "RandomFlip"),
        *("RandomRotation", "RandomTranslation", "RandomZoom", "Reshape", "Resizing"),
        *("SpatialDropout2D", "ZeroPadding2D"),
    }
)
# With a scale of at most that, images in [0, 1] would keep 3% of their contrast; with a scale of
# at least 1, images of 0 to 255 would get values of hundreds.
_SCALE_OF_255, _SCALE_OF_1 = 8 / 255, 1.0


def open_keras_file(path: Path) -> OpenedModel:
    """Load a `.keras` file, see `load_keras_file`.

    Raises:
        UserError: The file can't be loaded, or has several inputs or outputs.
    """
    opened = open_keras_model(load_keras_file(path), f"--model {path}")
    return opened._replace(kind="Keras file")


def open_keras_model(model: keras.Model, source: str = "model") -> OpenedModel:
    """Read the inputs and outputs of a Keras model from its layers.

    Args:
        model: The model.
        source: What messages begin with.

    Returns:
        The model in inference mode, without a last softmax or sigmoids.

    Raises:
        UserError: It has several inputs or outputs.
    """
    inputs, outputs = (getattr(model, name, None) or [] for name in ("inputs", "outputs"))
    for name, tensors in (("input", inputs), ("output", outputs)):
        if len(tensors) > 1:
            raise UserError(
                f"{source}: has {len(tensors)} {name}s; allowed: one, images -> a value for each "
                "class"
            )
    known, reason = _input_range(model)
    logits = without_last_activation(model)
    activation = last_activation(model) or ""
    return OpenedModel(
        source=source,
        kind="Keras model",
        function=lambda images: logits(images, training=False),
        input_shape=tuple(inputs[0].shape[1:]) if inputs else None,
        dtype=inputs[0].dtype if inputs else "float32",
        outputs="logits" if activation or _ends_linear(model) else "",
        activation=activation,
        input_range=known,
        range_reason=reason,
        variables=model.variables,
    )


def _ends_linear(model: keras.Model) -> bool:
    """Whether the last layer is a linear one: then the outputs are logits."""
    layer = last_layer(model)
    return isinstance(layer, keras.layers.Dense) and layer.activation.__name__ == "linear"


def _input_range(model: keras.Model) -> tuple[Range | None, str]:
    """The range of the inputs, and the layer that tells it; None if no layer does."""
    layer = _first_layer(model)
    while layer is not None and type(layer).__name__ in _KEEP_RANGE:
        layer = _next_layer(model, layer)
    name = type(layer).__name__
    if isinstance(layer, keras.layers.Rescaling):
        scales = np.ravel(layer.scale)
    elif isinstance(layer, keras.layers.Normalization) and not getattr(layer, "invert", False):
        scales = 1 / np.sqrt(np.maximum(np.ravel(tf.convert_to_tensor(layer.variance)), 1e-12))
    else:
        return None, ""
    if np.all((scales > 0) & (scales <= _SCALE_OF_255)):
        return (0.0, 255.0), f"it begins with {name}, scale {scales.max():.3g}"
    if np.all(scales >= _SCALE_OF_1):
        return (0.0, 1.0), f"it begins with {name}, scale {scales.max():.3g}"
    return None, ""


def _first_layer(model: Any) -> Any:
    """The layer that gets the images, inside of nested models."""
    layers = getattr(model, "layers", None)
    if not layers or not hasattr(model, "inputs"):
        return None
    return _inside(layers[0])


def _inside(layer: Any) -> Any:
    return _first_layer(layer) if isinstance(layer, keras.Model) else layer


def _next_layer(model: Any, layer: Any) -> Any:
    """The only layer that gets the outputs of a layer; None if there are several."""
    holder = _holder(model, layer)
    if isinstance(holder, keras.Sequential):
        position = holder.layers.index(layer) + 1
        return _inside(holder.layers[position]) if position < len(holder.layers) else None
    following = [
        getattr(node, "operation", None) or getattr(node, "layer", None)
        for node in layer._outbound_nodes
    ]
    following = [each for each in following if any(each is own for own in holder.layers)]
    return _inside(following[0]) if len(following) == 1 else None


def _holder(model: Any, layer: Any) -> Any:
    """The nested model that has a layer itself."""
    for own in model.layers:
        if own is layer:
            return model
        if isinstance(own, keras.Model) and (found := _holder(own, layer)) is not None:
            return found
    return None
