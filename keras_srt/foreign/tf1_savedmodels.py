"""SavedModels of TensorFlow 1, whose reference variables TensorFlow 2 can't save again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_srt.core.last_activation import remove_last_activation
from keras_srt.core.model_loading import load_session, without_deprecations
from keras_srt.core.tensorflow import tf

_REFERENCE_VARIABLES = ("Variable", "VariableV2")


def has_reference_variables(signature: Any) -> bool:
    """Return whether the graph of a loaded signature has variables of TensorFlow 1."""
    return any(each.type in _REFERENCE_VARIABLES for each in signature.graph.get_operations())


class FrozenSignature:
    """A signature of a SavedModel with constants in place of its variables.

    Args:
        path: Folder of the SavedModel.
        signature: The name of the signature.
        source: The name of its input.
        output: The name of its output.
        foreign: Whether to run a SavedModel with any operations, see `load_session`.

    Raises:
        UserError: The SavedModel can't be loaded.
    """

    def __init__(self, path: Path, signature: str, source: str, output: str, foreign: bool) -> None:
        session, self._meta = load_session(path, foreign)
        self._signature, self._source, self._output = signature, source, output
        result = self._meta.signature_def[signature].outputs[output].name.partition(":")[0]
        with without_deprecations(), session:
            graph = session.graph.as_graph_def()
            v1 = tf.compat.v1.graph_util
            frozen = v1.convert_variables_to_constants(session, graph, [result])
        self._meta.graph_def.CopyFrom(frozen)

    def function(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the signature as a function of its input."""
        about = self._meta.signature_def[self._signature]
        source, result = about.inputs[self._source].name, about.outputs[self._output].name

        def load() -> None:
            tf.import_graph_def(self._meta.graph_def, name="")

        wrapped = tf.compat.v1.wrap_function(load, [])
        return wrapped.prune(wrapped.graph.get_tensor_by_name(source), result)

    def remove_activation(self) -> str | None:
        """Remove a last softmax or sigmoids, see `remove_last_activation`."""
        return remove_last_activation(self._meta, self._signature, self._output)
