"""Classifiers that were not trained here: SavedModels and `.keras` files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_srt.checks import UserError
from keras_srt.data import DatasetInfo
from keras_srt.lazy import keras, tf

# The first one that a model has is used.
_SIGNATURES = ("logits", "image", "serving_default")

Classifier = Callable[["tf.Tensor"], "tf.Tensor"]


def load_classifier(path: Path, info: DatasetInfo) -> Classifier:
    """Loads a classifier to attack it.

    A SavedModel's signature `logits` is used if it has one (ours have), else `image`, else
    `serving_default`; it must take one input, of floats. Answers that are probabilities are
    turned into log-probabilities, which have the same cross-entropy as the logits.

    Args:
        path: a SavedModel folder, or a `.keras` file (loaded in safe mode).
        info: of the dataset it will be attacked on.

    Returns:
        images float32 [batch, height, width, channels] in [0, 1] -> logits.

    Raises:
        UserError: it can't be loaded, or doesn't fit the dataset.
    """
    if (path / "saved_model.pb").is_file():
        answer = _savedmodel(path)
    elif path.suffix == ".keras" and path.is_file():
        answer = _keras_file(path)
    else:
        raise UserError(
            f"--model {path}: is neither a SavedModel folder (with saved_model.pb) nor a "
            ".keras file"
        )
    generator = np.random.default_rng(0)
    images = tf.constant(generator.random((16, *info.input_shape), dtype=np.float32))
    try:
        rows = answer(images).numpy()
    except (ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--model {path}: doesn't take images of {info.input_shape} ({reason[:120]})"
        ) from error
    if rows.shape != (len(images), len(info.class_names)):
        raise UserError(
            f"--model {path}: answers with shape {rows.shape} to {len(images)} images; allowed: "
            f"one value for each of the {len(info.class_names)} classes of {info.title}"
        )
    if rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1.0, atol=1e-3):
        print("the model answers with probabilities; attacks use their logarithm")
        return lambda images: tf.math.log(tf.maximum(answer(images), 1e-30))
    return answer


def _savedmodel(path: Path) -> Classifier:
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(f"--model {path}: can't be loaded ({error})") from error
    signatures = loaded.signatures
    name = next((name for name in _SIGNATURES if name in signatures), None)
    if name is None:
        raise UserError(f"--model {path}: has none of the signatures {', '.join(_SIGNATURES)}")
    signature = signatures[name]
    inputs = signature.structured_input_signature[1]
    if any(spec.dtype == tf.string for spec in inputs.values()):
        raise UserError(
            f"--model {path}: its signature {name!r} takes encoded images, through which attacks "
            "have no gradient; allowed: a signature 'logits' or 'image' that takes floats"
        )
    outputs = [key for key in ("logits", "probabilities") if key in signature.structured_outputs]
    outputs = outputs or list(signature.structured_outputs)
    if len(inputs) != 1 or not outputs:
        raise UserError(f"--model {path}: its signature {name!r} must have one input")
    (source,) = inputs

    def answer(images: tf.Tensor) -> tf.Tensor:
        return signature(**{source: images})[outputs[0]]

    # The function holds the signature, and not the object that owns its variables.
    answer.loaded = loaded
    return answer


def _keras_file(path: Path) -> Classifier:
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--model {path}: can't be loaded ({reason[:120]})") from error
    return lambda images: model(images, training=False)
