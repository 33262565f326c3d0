"""The outputs of a model: logits or probabilities, and their conversion to logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_srt.core.classifier_outputs import FLOOR, are_probabilities
from keras_srt.core.tensorflow import tf
from keras_srt.foreign.model_options import ModelOptions
from keras_srt.foreign.opened_model import OpenedModel


def predict(opened: OpenedModel, inputs: tf.Tensor) -> np.ndarray:
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


def kind_of_outputs(opened: OpenedModel, options: ModelOptions, rows: np.ndarray) -> str:
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
            f"from {rows.sum(axis=1).min():g}; set --outputs logits if they are logits"
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
        f"its outputs {like}, and the model does not define what they are; set --outputs "
        "probabilities or --outputs logits (in Python, adapt_model(model, outputs=…))"
    )


def convert_outputs(
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
