"""Per-example losses L(target, logits): what an objective averages and an attack raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras, tf


class Target(NamedTuple):
    """What the answer for an image is compared with.

    Attributes:
        labels: int32 [batch], class ids: true labels or pseudo-labels C(x).
        logits: float32 [batch, classes], the model's own answer f(x) on the untampered
            image, or None for true labels.
    """

    labels: tf.Tensor
    logits: tf.Tensor | None = None


# (target, logits [batch, classes]) -> loss of each image, float32 [batch].
Loss = Callable[[Target, "tf.Tensor"], "tf.Tensor"]


def cross_entropy(target: Target, logits: tf.Tensor) -> tf.Tensor:
    """CE(f(x), y) = -log softmax(f(x))_y: float32 [batch]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(target.labels, logits)


def kl(target: Target, logits: tf.Tensor) -> tf.Tensor:
    """KL(softmax f(x) ‖ softmax f(x')): float32 [batch]; needs the model's own answer."""
    if target.logits is None:
        raise InvalidSettings(
            ["loss: got 'kl'; allowed: a loss on true labels, such as 'cross_entropy'"]
        )
    log_p = tf.nn.log_softmax(target.logits)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - tf.nn.log_softmax(logits)), axis=-1)


def margin(target: Target, logits: tf.Tensor) -> tf.Tensor:
    """max_{j≠y} f(x)_j - f(x)_y, above 0 just where the answer is wrong: float32 [batch]."""
    is_label = tf.one_hot(target.labels, tf.shape(logits)[-1], on_value=True, off_value=False)
    others = tf.where(is_label, logits.dtype.min, logits)
    return tf.reduce_max(others, -1) - tf.gather(logits, target.labels, batch_dims=1)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "kl": kl, "margin": margin}
_KERAS = "keras:"


def from_keras(loss: keras.losses.Loss) -> Loss:
    """Makes a per-example loss of a Keras loss on probabilities.

    Args:
        loss: a Keras loss object; it gets one-hot labels (class ids if its class is one
            of Keras' `Sparse…` losses) and the softmax of the logits.

    Returns:
        The loss for each image, whatever reduction the object asks for.
    """
    sparse = type(loss).__name__.startswith("Sparse")

    def per_example(target: Target, logits: tf.Tensor) -> tf.Tensor:
        labels = target.labels if sparse else tf.one_hot(target.labels, tf.shape(logits)[-1])
        return loss.call(labels, tf.nn.softmax(logits))

    return per_example


def get(loss: str | Loss | keras.losses.Loss) -> Loss:
    """The loss of that name, or the one given.

    Args:
        loss: "cross_entropy", "kl", "margin", "keras:" and the class name of a Keras loss
            ("keras:CategoricalHinge"), a Keras loss object, or a function
            (target, logits) -> [batch].

    Returns:
        A per-example loss.

    Raises:
        InvalidSettings: Keras has no loss of that name.
    """
    if isinstance(loss, str) and loss.startswith(_KERAS):
        made = getattr(keras.losses, loss.removeprefix(_KERAS), None)
        if not (isinstance(made, type) and issubclass(made, keras.losses.Loss)):
            raise InvalidSettings(
                [f"loss: got {loss!r}; allowed: keras: and the class name of a Keras loss"]
            )
        return from_keras(made())
    if isinstance(loss, str):
        return LOSSES[loss]
    return from_keras(loss) if isinstance(loss, keras.losses.Loss) else loss


def _loss_validator(names: Sequence[str]) -> BeforeValidator:
    def validate(loss: Any) -> Any:
        if isinstance(loss, str) and (loss in names or loss.startswith(_KERAS)):
            return loss
        if not isinstance(loss, str) and callable(loss):
            return loss
        allowed = f"{', '.join(names)}, keras:NAME{validation.did_you_mean(loss, names)}"
        raise PydanticCustomError("allowed", "{allowed}", {"allowed": allowed})

    return BeforeValidator(validate)


is_loss = _loss_validator(tuple(LOSSES))
# KL compares two answers of the model, and a true label is none.
is_loss_on_labels = _loss_validator(tuple(name for name in LOSSES if name != "kl"))
