"""Models from elsewhere that run in this process on tensors: SavedModels, `.keras` files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.model_safety import check_keras_file
from keras_srt.core.tensorflow import keras, tf

# The first one that a model has is used.
SIGNATURES = ("logits", "image", "serving_default")
# So is the first of these outputs.
OUTPUTS = ("logits", "probabilities")

# float32 images [batch, height, width, channels] in [0, 1] -> logits or probabilities.
Classifier = Callable[["tf.Tensor"], "tf.Tensor"]


def open_savedmodel(path: Path) -> Classifier:
    """Loads a SavedModel.

    Its signature `logits` is used if it has one (ours have), else `image`, else
    `serving_default`; it must take one input, of floats.

    Args:
        path: its folder.

    Returns:
        The classifier.

    Raises:
        UserError: it can't be loaded, or has no such signature.
    """
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(f"--model {path}: can't be loaded ({error})") from error
    signatures = loaded.signatures
    name = next((name for name in SIGNATURES if name in signatures), None)
    if name is None:
        raise UserError(f"--model {path}: has none of the signatures {', '.join(SIGNATURES)}")
    signature = signatures[name]
    inputs = signature.structured_input_signature[1]
    if any(spec.dtype == tf.string for spec in inputs.values()):
        raise UserError(
            f"--model {path}: its signature {name!r} takes encoded images, through which attacks "
            "have no gradient; allowed: a signature 'logits' or 'image' that takes floats"
        )
    outputs = [key for key in OUTPUTS if key in signature.structured_outputs]
    outputs = outputs or list(signature.structured_outputs)
    if len(inputs) != 1 or not outputs:
        raise UserError(f"--model {path}: its signature {name!r} must have one input")
    (source,) = inputs

    def answer(images: tf.Tensor) -> tf.Tensor:
        # A signature alone doesn't keep the object that owns its variables.
        return loaded.signatures[name](**{source: images})[outputs[0]]

    return answer


def open_keras_file(path: Path) -> Classifier:
    """Loads a `.keras` file in safe mode, which runs no code of the file's, once it is checked.

    Args:
        path: the file.

    Returns:
        The classifier, in inference mode.

    Raises:
        UserError: it can't be loaded.
    """
    check_keras_file(path)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"--model {path}: can't be loaded ({reason[:120]})") from error
    return lambda images: model(images, training=False)
