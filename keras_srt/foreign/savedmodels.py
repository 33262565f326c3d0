"""SavedModels of any program as classifiers of float images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.model_loading import load_savedmodel, load_without_last_activation
from keras_srt.core.tensorflow import tf
from keras_srt.foreign.opened_model import OpenedModel
from keras_srt.foreign.tf1_savedmodels import FrozenSignature, has_reference_variables

# The first of these that a model has is used.
SIGNATURES = ("logits", "image", "serving_default")
# The same for its outputs.
OUTPUTS = ("logits", "probabilities")
# Signatures and file of the exports of this package.
_OURS, LABELS = {"logits", "image"}, Path("assets", "labels.txt")

Function = Callable[["tf.Tensor"], "tf.Tensor"]

# Largest difference of probabilities that are the same, also in float16.
_SAME = 1e-3


@dataclasses.dataclass(frozen=True)
class Output:
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
        """Return the output for a batch."""
        return self.loaded.signatures[self.signature](**{self.source: images})[self.output]


def open_savedmodel(path: Path, foreign: bool = False) -> OpenedModel:
    """Load a SavedModel.

    The classifier is the model's signature `logits`, which exports of this package have, or else
    `image` or `serving_default`, or the only one.

    Args:
        path: Folder of the SavedModel.
        foreign: Whether to run a SavedModel with any operations, see `load_savedmodel`.

    Returns:
        The model.

    Raises:
        UserError: The model can't be loaded, or has no signature with one input of images and
            one output.
    """
    loaded = load_savedmodel(path, foreign)
    name = _signature(path, loaded.signatures)
    source, spec = _input(path, name, loaded.signatures[name])
    output = _output(path, name, loaded.signatures[name])
    function: Function = Output(loaded, name, source, output)
    variables = _variables(loaded)
    if has_reference_variables(loaded.signatures[name]):
        function, variables = FrozenSignature(path, name, source, output, foreign).function(), []
    is_ours = set(loaded.signatures) >= _OURS and (path / LABELS).is_file()

    def without_activation(inputs: tf.Tensor) -> OpenedModel | None:
        found = _remove_activation(path, Output(loaded, name, source, output), foreign)
        return None if found is None else _replaced(model, inputs, *found)

    known = (0.0, 1.0) if is_ours else (0.0, 255.0) if spec.dtype == tf.uint8 else None
    model = OpenedModel(
        source=f"--model {path}",
        kind="SavedModel",
        function=function,
        input_shape=None if spec.shape.rank is None else tuple(spec.shape[1:]),
        dtype=spec.dtype,
        outputs=output if output in OUTPUTS else "",
        input_range=known,
        range_reason="it takes uint8" if spec.dtype == tf.uint8 else "",
        variables=variables,
        labels=_labels(path),
        without_activation=without_activation,
    )
    return model


def _signature(path: Path, signatures: Any) -> str:
    name = next((name for name in SIGNATURES if name in signatures), None)
    if name is None and len(signatures) == 1:
        (name,) = signatures
    if name is None:
        raise UserError(f"--model {path}: has none of the signatures {', '.join(SIGNATURES)}")
    return str(name)


def _input(path: Path, name: str, signature: Any) -> tuple[str, Any]:
    """The name and the specification of a signature's only input."""
    inputs = signature.structured_input_signature[1]
    if any(spec.dtype == tf.string for spec in inputs.values()):
        raise UserError(
            f"--model {path}: its signature {name!r} takes encoded images; "
            "allowed: a signature 'logits' or 'image' that takes floats"
        )
    if len(inputs) != 1:
        raise UserError(
            f"--model {path}: its signature {name!r} has {len(inputs)} inputs "
            f"({', '.join(sorted(inputs))}); allowed: one, images"
        )
    ((source, spec),) = inputs.items()
    if not (spec.dtype.is_floating or spec.dtype == tf.uint8):
        raise UserError(
            f"--model {path}: its signature {name!r} takes {spec.dtype.name}; allowed: floats or "
            "uint8"
        )
    return source, spec


def _output(path: Path, name: str, signature: Any) -> str:
    """The name of the output of a signature that has the logits or the probabilities."""
    outputs = list(signature.structured_outputs)
    chosen = [key for key in OUTPUTS if key in outputs] or outputs
    if not chosen or (len(chosen) > 1 and chosen[0] not in OUTPUTS):
        raise UserError(
            f"--model {path}: its signature {name!r} has {len(outputs)} outputs "
            f"({', '.join(sorted(outputs)) or 'none'}); allowed: one, or one that is called "
            f"{' or '.join(OUTPUTS)}"
        )
    return chosen[0]


def _variables(loaded: Any) -> list[Any]:
    """All variables of a loaded SavedModel, by its graph if the objects were not saved."""
    return [*{id(v): v for s in loaded.signatures.values() for v in s.variables}.values()]


def _labels(path: Path) -> tuple[str, ...]:
    file = path / LABELS
    return tuple(file.read_text("utf-8").splitlines()) if file.is_file() else ()


def _remove_activation(
    path: Path, output: Output, foreign: bool
) -> tuple[Function, list[Any], str] | None:
    """Load an output of a SavedModel without the softmax or the sigmoids that make it.

    Returns:
        The output before the activation, its variables, and "softmax" or "sigmoid"; None if the
        graph ends with another operation.
    """
    name = output.signature
    if has_reference_variables(output.loaded.signatures[name]):
        frozen = FrozenSignature(path, name, output.source, output.output, foreign)
        activation = frozen.remove_activation()
        return None if activation is None else (frozen.function(), [], activation)
    found = load_without_last_activation(path, name, output.output, foreign)
    if found is None:
        return None
    loaded, activation = found
    return dataclasses.replace(output, loaded=loaded), _variables(loaded), activation


def _replaced(
    model: OpenedModel, inputs: tf.Tensor, function: Function, variables: list[Any], activation: str
) -> OpenedModel | None:
    """Return a model before its last activation, if the activation gives the same outputs."""
    activate = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}[activation]
    # The activation may be in a function that the graph also calls in other places.
    if not np.allclose(activate(function(inputs)), model.function(inputs), atol=_SAME):
        return None
    return model._replace(
        function=function, variables=variables, outputs="logits", activation=activation
    )
