"""Cloning of a Keras classifier into layers that can be trained in TFLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.exporters.trainable_tflite import gradients


class _Convolution(keras.layers.Conv2D):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel = tf.convert_to_tensor(self.kernel)
        outputs = gradients.conv2d(inputs, kernel, self.strides, self.padding.upper())
        return _activated(self, outputs + self.bias if self.use_bias else outputs)


class _Dense(keras.layers.Dense):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.matmul(inputs, self.kernel)
        return _activated(self, outputs + self.bias if self.use_bias else outputs)


class _Activation(keras.layers.Activation):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _activated(self, inputs)


class _ReLU(keras.layers.ReLU):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return gradients.relu(inputs)


class _LeakyReLU(keras.layers.LeakyReLU):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return gradients.leaky_relu(inputs, float(_slope(self.get_config())))


class _MaxPooling(keras.layers.MaxPooling2D):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return gradients.max_pool(inputs, self.pool_size[0], self.padding.upper())


class _AveragePooling(keras.layers.AveragePooling2D):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return gradients.average_pool(inputs, self.pool_size[0], self.padding.upper())


class _BatchNormalization(keras.layers.BatchNormalization):
    def call(self, inputs: tf.Tensor, training: bool = False, mask: None = None) -> tf.Tensor:
        if training and self.trainable:
            standard, mean, variance = gradients.standardize(inputs, self.epsilon)
            self._update_moving_averages(inputs, mean, variance)
        else:
            inverse = tf.math.rsqrt(self.moving_variance + self.epsilon)
            standard = (inputs - self.moving_mean) * inverse
        scaled = standard * self.gamma if self.scale else standard
        return scaled + self.beta if self.center else scaled

    def _update_moving_averages(
        self, inputs: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
    ) -> None:
        if getattr(self, "fused", False):  # Keras 2's fused kernel is unbiased: n/(n-1)
            count = inputs.shape.num_elements() // inputs.shape[-1]
            variance *= count / max(count - 1, 1)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1.0 - self.momentum) * now)


def _activated(layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
    return gradients.relu(outputs) if _activation(layer) == "relu" else outputs


def _activation(layer: keras.layers.Layer) -> Any:
    return keras.activations.serialize(layer.activation)


def _slope(config: dict[str, Any]) -> float:
    """The slope of LeakyReLU, which has different names in Keras 2 and Keras 3."""
    return config["alpha"] if "alpha" in config else config["negative_slope"]


# A condition that a layer must meet to be cloned, and its text for error messages.
_Condition = tuple[Callable[[Any], bool], str]


def _one_of(attribute: str, *allowed: Any) -> _Condition:
    words = " or ".join(map(str, allowed))
    return lambda layer: getattr(layer, attribute, allowed[0]) in allowed, f"{attribute} {words}"


_ACTIVATION: _Condition = (
    lambda layer: _activation(layer) in ("linear", "relu"),
    "activation linear or relu",
)
_PENALTY: _Condition = (lambda layer: not layer.losses, "no regularizer (use weight decay)")
_POOL: _Condition = (
    lambda layer: len({*layer.pool_size, *layer.strides}) == 1,
    "square windows with strides equal to their size",
)
_PLAIN_RELU: _Condition = (
    lambda layer: layer.max_value is None and not (layer.negative_slope or layer.threshold),
    "max_value, negative_slope and threshold left at their defaults",
)
_FLAT: _Condition = (lambda layer: len(layer.input.shape) == 2, "flat inputs [batch, units]")
_LAST_AXIS: _Condition = (
    lambda layer: layer.axis in (-1, [len(layer.input.shape) - 1], len(layer.input.shape) - 1),
    "the last axis",
)
_GIVEN: _Condition = (
    lambda layer: layer.get_config()["mean"] is not None,
    "mean and variance given, not adapted",
)
_CHANNELS_LAST = _one_of("data_format", "channels_last")
_PADDING = _one_of("padding", "valid", "same")
_NO_DILATION = _one_of("dilation_rate", (1, 1))
_ONE_GROUP = _one_of("groups", 1)
_NO_RENORM = _one_of("renorm", False)


def _copied(kind: type[keras.layers.Layer]) -> Callable[[Any], Any]:
    return lambda layer: kind.from_config(layer.get_config())


def _unchanged(layer: Any) -> Any:
    return type(layer).from_config(layer.get_config())


def _without_dropout(layer: Any) -> Any:
    # Replaced by its expectation: TFLite has no builtin random operations.
    return keras.layers.Activation("linear", name=layer.name)


# Layer -> how it is cloned, and under which conditions. The gradients of layers that are cloned
# unchanged use only builtin operations.
_CLONES: dict[str, tuple[Callable[[Any], Any], tuple[_Condition, ...]]] = {
    "Conv2D": (
        _copied(_Convolution),
        (_ACTIVATION, _PENALTY, _CHANNELS_LAST, _PADDING, _NO_DILATION, _ONE_GROUP),
    ),
    "Dense": (_copied(_Dense), (_ACTIVATION, _PENALTY, _FLAT)),
    "Activation": (_copied(_Activation), (_ACTIVATION,)),
    "ReLU": (_copied(_ReLU), (_PLAIN_RELU,)),
    "LeakyReLU": (_copied(_LeakyReLU), ()),
    "MaxPooling2D": (_copied(_MaxPooling), (_POOL, _CHANNELS_LAST)),
    "AveragePooling2D": (_copied(_AveragePooling), (_POOL, _CHANNELS_LAST)),
    "BatchNormalization": (_copied(_BatchNormalization), (_PENALTY, _LAST_AXIS, _NO_RENORM)),
    "Dropout": (_without_dropout, ()),
    "Normalization": (_unchanged, (_GIVEN,)),
    "InputLayer": (_unchanged, ()),
    "Flatten": (_unchanged, ()),
    "Reshape": (_unchanged, ()),
    "Permute": (_unchanged, ()),
    "ZeroPadding2D": (_unchanged, (_CHANNELS_LAST,)),
    "Add": (_unchanged, ()),
    "GlobalAveragePooling2D": (_unchanged, (_CHANNELS_LAST,)),
    "GlobalMaxPooling2D": (_unchanged, (_CHANNELS_LAST,)),
    "Rescaling": (_unchanged, ()),
}
# The models of this package that consist of these layers.
TRAINABLE_MODELS = ("small_cnn", "wide_resnet", "resnet", "resnet9")
_REMEDY = f"export a model of other layers, such as {', '.join(TRAINABLE_MODELS)}"


def trainable_clone(classifier: keras.Model) -> keras.Model:
    """Clone a classifier, with its weights, into layers whose gradients are builtin operations.

    Outputs and gradients equal those of the classifier, without dropout.

    Args:
        classifier: A functional or sequential Keras model.

    Returns:
        A model with the same layer names and its own weights.

    Raises:
        UserError: A layer has a type or settings that can't be cloned.
    """
    if not all(hasattr(classifier, attribute) for attribute in ("inputs", "outputs")):
        raise UserError("--trainable: allowed is a functional or sequential Keras model")
    for layer in _layers(classifier):
        _check(layer)
    clone = keras.models.clone_model(
        classifier, clone_function=lambda layer: _CLONES[type(layer).__name__][0](layer)
    )
    clone.set_weights(classifier.get_weights())
    return clone


def _layers(model: Any) -> Iterator[Any]:
    """Yield all layers; those of a nested model come before it, so that an error names them."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        yield layer


def _check(layer: Any) -> None:
    kind = type(layer).__name__
    # The layers of this package are cloned like those of Keras.
    own = kind in ("Conv2D", "Dropout") and isinstance(layer, getattr(keras.layers, kind))
    if kind not in _CLONES or not (own or type(layer) is getattr(keras.layers, kind, None)):
        raise UserError(
            f"--trainable: got the layer {layer.name!r} ({kind}); allowed: {', '.join(_CLONES)}; "
            f"{_REMEDY}"
        )
    for is_met, text in _CLONES[kind][1]:
        if not is_met(layer):
            raise UserError(
                f"--trainable: layer {layer.name!r} ({kind}): allowed: {text}; {_REMEDY}"
            )
