"""Per-example losses L(target, logits), for training objectives and attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras, tf

# log(0) is infinite, and 0·log(0) NaN.
_SMALLEST_PROBABILITY = 1e-8


class Target(NamedTuple):
    """The target that the logits of an image are compared with.

    Attributes:
        labels: int32 [batch], class ids: true labels or pseudo-labels C(x).
        logits: float32 [batch, classes], the logits f(x) of the unperturbed image or the
            log-probabilities of soft pseudo-labels, or None for true labels.
    """

    labels: tf.Tensor
    logits: tf.Tensor | None = None


def soft_target(probabilities: tf.Tensor) -> Target:
    """Make a target of probabilities, float32 [batch, classes]."""
    logits = tf.math.log(tf.maximum(probabilities, _SMALLEST_PROBABILITY))
    return Target(tf.argmax(probabilities, axis=-1, output_type=tf.int32), logits)


# (target, logits [batch, classes]) -> loss of each image, float32 [batch].
Loss = Callable[[Target, "tf.Tensor"], "tf.Tensor"]


def cross_entropy(target: Target, logits: tf.Tensor) -> tf.Tensor:
    """Compute the cross-entropy CE(f(x), y) = -log softmax(f(x))_y: float32 [batch]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(target.labels, logits)


def smoothed(label_smoothing: float) -> Loss:
    """Make the cross-entropy with the probabilities (1 - s)·one_hot(y) + s/classes.

    Args:
        label_smoothing: s, in [0, 1).
    """

    def per_example(target: Target, logits: tf.Tensor) -> tf.Tensor:
        uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        return (1 - label_smoothing) * cross_entropy(target, logits) + label_smoothing * uniform

    return per_example


def check_label_smoothing(clean_loss: Any, label_smoothing: float) -> None:
    """Refuse label smoothing with another loss than the cross-entropy.

    Raises:
        InvalidSettings: Label smoothing is on, and the loss is another.
    """
    if label_smoothing and clean_loss != "cross_entropy":
        raise InvalidSettings(
            [
                f"objective.label_smoothing: got {label_smoothing:g} with the clean_loss "
                f"{clean_loss!r}; allowed: 0, or the clean_loss 'cross_entropy'"
            ]
        )


def kl(target: Target, logits: tf.Tensor) -> tf.Tensor:
    """Compute KL(softmax f(x) ‖ softmax f(x')): float32 [batch]; requires `target.logits`."""
    if target.logits is None:
        raise InvalidSettings(
            ["loss: got 'kl'; allowed: a loss on true labels, such as 'cross_entropy'"]
        )
    log_p = tf.nn.log_softmax(target.logits)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - tf.nn.log_softmax(logits)), axis=-1)


def margin(target: Target, logits: tf.Tensor) -> tf.Tensor:
    """Compute max_{j≠y} f(x)_j - f(x)_y, positive if misclassified: float32 [batch]."""
    is_label = tf.one_hot(target.labels, tf.shape(logits)[-1], on_value=True, off_value=False)
    others = tf.where(is_label, logits.dtype.min, logits)
    return tf.reduce_max(others, -1) - tf.gather(logits, target.labels, batch_dims=1)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "kl": kl, "margin": margin}
_KERAS = "keras:"


def from_keras(loss: keras.losses.Loss) -> Loss:
    """Convert a Keras loss on probabilities to a per-example loss on logits.

    Args:
        loss: A Keras loss object. It is called with one-hot labels (class ids for Keras'
            `Sparse…` losses) and the softmax of the logits.

    Returns:
        The per-example loss; the reduction of the Keras object is ignored.
    """
    sparse = type(loss).__name__.startswith("Sparse")

    def per_example(target: Target, logits: tf.Tensor) -> tf.Tensor:
        labels = target.labels if sparse else tf.one_hot(target.labels, tf.shape(logits)[-1])
        return loss.call(labels, tf.nn.softmax(logits))

    return per_example


def get(loss: str | Loss | keras.losses.Loss, label_smoothing: float = 0.0) -> Loss:
    """Look up or convert a loss.

    Args:
        loss: "cross_entropy", "kl", "margin", "keras:" followed by the class name of a Keras
            loss ("keras:CategoricalHinge"), a Keras loss object, or a function
            (target, logits) -> [batch].
        label_smoothing: s of `smoothed`, for "cross_entropy" only.

    Returns:
        A per-example loss.

    Raises:
        InvalidSettings: Keras has no loss of this name.
    """
    if isinstance(loss, str) and loss.startswith(_KERAS):
        made = getattr(keras.losses, loss.removeprefix(_KERAS), None)
        if not (isinstance(made, type) and issubclass(made, keras.losses.Loss)):
            raise InvalidSettings(
                [f"loss: got {loss!r}; allowed: keras: and the class name of a Keras loss"]
            )
        return from_keras(made())
    if label_smoothing:
        return smoothed(label_smoothing)
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
# KL compares two predictions of the model; a true label is not a prediction.
is_loss_on_labels = _loss_validator(tuple(name for name in LOSSES if name != "kl"))
