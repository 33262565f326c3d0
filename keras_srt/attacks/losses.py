"""Losses that attacks raise: (logits, labels to leave, targets to reach or None) -> [n]."""

from __future__ import annotations

from collections.abc import Callable

from keras_srt.lazy import tf

# Logits float32 [n, classes], labels int32 [n], targets int32 [n] or None -> float32 [n].
AttackLoss = Callable[["tf.Tensor", "tf.Tensor", "tf.Tensor | None"], "tf.Tensor"]


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
    """CE(f(x), y), or -CE(f(x), t) for targets: float32 [n]."""
    if targets is None:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)


def margin(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
    """max_{j≠y} f_j - f_y, or f_t - max_{j≠t} f_j: above 0 just where the goal is reached."""
    wanted = labels if targets is None else targets
    is_wanted = tf.one_hot(wanted, tf.shape(logits)[-1], on_value=True, off_value=False)
    others = tf.reduce_max(tf.where(is_wanted, logits.dtype.min, logits), axis=-1)
    above = others - tf.gather(logits, wanted, batch_dims=1)
    return above if targets is None else -above
