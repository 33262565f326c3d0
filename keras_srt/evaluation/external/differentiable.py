"""External models that run on tensors in this process: SavedModels and `.keras` files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keras_srt.attacks.classifier_outputs import without_last_activation
from keras_srt.core.errors import UserError
from keras_srt.core.model_loading import load_keras_file, load_savedmodel
from keras_srt.core.tensorflow import tf

# The first of these that a model has is used.
SIGNATURES = ("logits", "image", "serving_default")
# The same for its outputs.
OUTPUTS = ("logits", "probabilities")

# float32 images [batch, height, width, channels] in [0, 1] -> logits or probabilities.
Classifier = Callable[["tf.Tensor"], "tf.Tensor"]


def open_savedmodel(path: Path, foreign: bool = False) -> Classifier:
    """Load a SavedModel.

    The classifier is the model's signature `logits`, which exports of this package have, or else
    `image` or `serving_default`; the signature must have one float input.

    Args:
        path: Folder of the SavedModel.
        foreign: Whether to run a SavedModel with any operations, see `load_savedmodel`.

    Returns:
        The classifier.

    Raises:
        UserError: The model can't be loaded or has no such signature.
    """
    loaded = load_savedmodel(path, foreign)
    signatures = loaded.signatures
    name = next((name for name in SIGNATURES if name in signatures), None)
    if name is None:
        raise UserError(f"--model {path}: has none of the signatures {', '.join(SIGNATURES)}")
    signature = signatures[name]
    inputs = signature.structured_input_signature[1]
    if any(spec.dtype == tf.string for spec in inputs.values()):
        raise UserError(
            f"--model {path}: its signature {name!r} takes encoded images, which have no "
            "gradient; allowed: a signature 'logits' or 'image' that takes floats"
        )
    outputs = [key for key in OUTPUTS if key in signature.structured_outputs]
    outputs = outputs or list(signature.structured_outputs)
    if len(inputs) != 1 or not outputs:
        raise UserError(f"--model {path}: its signature {name!r} must have one input")
    (source,) = inputs

    def classifier(images: tf.Tensor) -> tf.Tensor:
        # The signature alone doesn't keep the loaded object alive.
        return loaded.signatures[name](**{source: images})[outputs[0]]

    return classifier


def open_keras_file(path: Path) -> Classifier:
    """Load a `.keras` file, see `load_keras_file`.

    Args:
        path: The file.

    Returns:
        The classifier, in inference mode; without a last softmax or sigmoids.

    Raises:
        UserError: The file can't be loaded.
    """
    model = load_keras_file(path)
    logits = without_last_activation(model)
    return lambda images: logits(images, training=False)
