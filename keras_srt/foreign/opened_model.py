"""A third-party model as it was saved, with what its structure defines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf

Range = tuple[float, float]


class OpenedModel(NamedTuple):
    """A model with its own inputs and outputs.

    Attributes:
        source: What messages begin with, such as "--model photos.keras".
        kind: "Keras model", "Keras file", "SavedModel", "TFLite file", "server" or "function".
        function: A batch of its own inputs, a tensor -> its own outputs.
        input_shape: Sizes of an input without the batch, None for unknown ones; None if unknown.
        dtype: Type of its inputs.
        outputs: "logits" or "probabilities"; "" if the structure doesn't tell.
        activation: "softmax" or "sigmoid" if `function` goes without this last activation.
        input_range: The range of its inputs; None if the structure doesn't tell.
        range_reason: How the structure tells the range.
        variables: Its variables; None to look for them when the function is traced.
        in_graph: Whether `function` can be called in a `tf.function`.
        labels: Names of the classes; empty if unknown.
        without_activation: Some of its inputs -> the model before its last activation, or None if
            its last operation is another one; None if `function` has no such activation.
    """

    source: str
    kind: str
    function: Callable[[tf.Tensor], Any]
    input_shape: tuple[int | None, ...] | None = None
    dtype: Any = "float32"
    outputs: str = ""
    activation: str = ""
    input_range: Range | None = None
    range_reason: str = ""
    variables: Sequence[Any] | None = ()
    in_graph: bool = True
    labels: tuple[str, ...] = ()
    without_activation: Callable[[tf.Tensor], OpenedModel | None] | None = None

    def refused(self, why: str) -> UserError:
        """Make the error for a model that can't be used."""
        return UserError(f"{self.source}: {why}")
