"""External models that run on tensors in this process: SavedModels and `.keras` files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.attacks.classifier_outputs import last_activation, without_last_activation
from keras_srt.core.errors import UserError
from keras_srt.core.model_loading import (
    load_keras_file,
    load_savedmodel,
    load_without_last_activation,
)
from keras_srt.core.tensorflow import tf

# The first of these that a model has is used.
SIGNATURES = ("logits", "image", "serving_default")
# The same for its outputs.
OUTPUTS = ("logits", "probabilities")

# Largest difference of probabilities that are the same, also in float16.
_SAME = 1e-3

# float32 images [batch, height, width, channels] in [0, 1] -> logits or probabilities.
Classifier = Callable[["tf.Tensor"], "tf.Tensor"]


@dataclasses.dataclass(frozen=True)
class SavedModelClassifier:
    """An output of a SavedModel's signature, as a function of its input.

    Attributes:
        loaded: The loaded SavedModel; a signature alone doesn't keep it alive.
        signature: The name of the signature.
        source: The name of the signature's input.
        output: The name of the signature's output.
    """

    loaded: Any
    signature: str
    source: str
    output: str

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Return logits or probabilities [batch, classes] of images."""
        return self.loaded.signatures[self.signature](**{self.source: images})[self.output]


def open_savedmodel(path: Path, foreign: bool = False) -> SavedModelClassifier:
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
    return SavedModelClassifier(loaded, name, source, outputs[0])


def savedmodel_logits(
    path: Path, classifier: SavedModelClassifier, samples: np.ndarray, foreign: bool = False
) -> tuple[Classifier, str] | None:
    """Return the logits of a SavedModel whose graph ends with a softmax or sigmoids.

    Args:
        path: Folder of the SavedModel.
        classifier: The SavedModel with its activation.
        samples: Some images, float32 [n, height, width, channels] in [0, 1], for which the
            activation of the logits must equal the outputs.
        foreign: Whether to run a SavedModel with any operations, see `load_savedmodel`.

    Returns:
        The classifier before the activation, and "softmax" or "sigmoid"; None if the graph ends
        with another operation.
    """
    found = load_without_last_activation(path, classifier.signature, classifier.output, foreign)
    if found is None:
        return None
    loaded, activation = found
    logits = dataclasses.replace(classifier, loaded=loaded)
    activate = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}[activation]
    images = tf.constant(samples)
    # The activation may be in a function that the graph also calls in other places.
    same = np.allclose(activate(logits(images)), classifier(images), atol=_SAME)
    return (logits, activation) if same else None


def open_keras_file(path: Path) -> tuple[Classifier, str]:
    """Load a `.keras` file, see `load_keras_file`.

    Args:
        path: The file.

    Returns:
        The classifier in inference mode, without a last softmax or sigmoids; and the name of that
        activation, or "".

    Raises:
        UserError: The file can't be loaded.
    """
    model = load_keras_file(path)
    logits = without_last_activation(model)
    return lambda images: logits(images, training=False), last_activation(model) or ""
