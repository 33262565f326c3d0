"""Losses that attacks maximize: (logits, labels, targets or None) -> loss of each image.

Losses are computed in float32, on logits of any scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_srt.attacks.criterion import Criterion
from keras_srt.core.tensorflow import tf

# Logits float32 [n, classes], labels int32 [n], targets int32 [n] or None -> float32 [n].
AttackLoss = Callable[["tf.Tensor", "tf.Tensor", "tf.Tensor | None"], "tf.Tensor"]


# Cross-entropy below which float32 no longer resolves 1 - p_y to 1%: there it continues as a line.
_RESOLVED = 2.0**-16
_START_OF_LINE = float(np.log(np.expm1(_RESOLVED)))


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
    """CE(f(x), y), or -CE(f(x), t) for targets: float32 [n].

    With m = log Σ_{j≠y} exp(f_j) - f_y, CE = log(1 + e^m). Below CE = 2^-16, where p_y rounds to 1
    and both the loss and its gradient to 0, the loss is the tangent of log(1 + e^m): it can be
    negative, but it orders the perturbations of an image as CE does, and its gradient has CE's
    direction at any scale of the logits.
    """
    own = labels if targets is None else targets
    exact = tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits)
    above = log_odds(logits, own, None)
    line = _RESOLVED * (1 + (above - _START_OF_LINE))
    loss = tf.where(above < _START_OF_LINE, line, exact)
    return loss if targets is None else -loss


def log_odds(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
    """m = log Σ_{j≠y} exp(f_j) - f_y, or -m of the targets: float32 [n].

    It orders the perturbations of an image as `cross_entropy` does, and changes no more than the
    differences of the logits do.
    """
    own = labels if targets is None else targets
    is_own = tf.one_hot(own, tf.shape(logits)[-1], on_value=True, off_value=False)
    others = tf.reduce_logsumexp(tf.where(is_own, logits.dtype.min, logits), axis=-1)
    above = others - tf.gather(logits, own, batch_dims=1)
    return above if targets is None else -above


def margin(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
    """max_{j≠y} f_j - f_y, or f_t - max_{j≠t} f_j: positive exactly if adversarial."""
    own = labels if targets is None else targets
    is_own = tf.one_hot(own, tf.shape(logits)[-1], on_value=True, off_value=False)
    others = tf.reduce_max(tf.where(is_own, logits.dtype.min, logits), axis=-1)
    above = others - tf.gather(logits, own, batch_dims=1)
    return above if targets is None else -above


def logit_difference(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
    """f_t - f_y, positive beyond the boundary between both; `margin` without targets."""
    if targets is None:
        return margin(logits, labels, None)
    return tf.gather(logits, targets, batch_dims=1) - tf.gather(logits, labels, batch_dims=1)


def dlr(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
    """Difference of logits ratio, which is invariant to shift and scale of the logits.

    With π sorting the logits in descending order,

        (max_{j≠y} f_j - f_y) / (f_π1 - f_π3),  or for targets
        (f_t - max_{j≠t} f_j) / (f_π1 - (f_π3 + f_π4)/2).

    While y is still predicted, the latter equals the paper's, whose numerator is f_t - f_y. The
    ratio needs three classes, or four with targets. With three classes and targets the
    denominator is f_π1 - f_π3; with two classes the ratio would be ±1 everywhere, so the
    denominator is 1.

    Source: Croce & Hein 2020, section 4.
    """
    ranks = tf.minimum(tf.shape(logits)[-1], 3 if targets is None else 4)
    ordered = tf.math.top_k(logits, ranks).values
    below = ordered[:, 2:]
    count = tf.shape(below)[-1]
    mean = tf.math.divide_no_nan(tf.reduce_sum(below, axis=-1), tf.cast(count, logits.dtype))
    spread = tf.where(count > 0, ordered[:, 0] - mean, 1.0)
    return margin(logits, labels, targets) / (spread + 1e-12)


def evaluate_loss(loss: AttackLoss, logits: np.ndarray, criterion: Criterion) -> np.ndarray:
    """Evaluate a loss on logits [n, classes] as NumPy array: float32 [n]."""
    columns = criterion.checked_columns(logits.shape[1])
    labels, targets, *_ = (*map(tf.constant, columns), None)
    return loss(tf.constant(logits), labels, targets).numpy()
