"""The graph of a SavedModel without the softmax or the sigmoids at its end."""

from __future__ import annotations

from typing import Any, NamedTuple

# TensorFlow's activations that keep the order of the classes, and the names of their results.
_ACTIVATIONS = {"Softmax": "softmax", "Sigmoid": "y"}
# Operations that change no value of a floating-point tensor except by rounding.
_COPIES = ("Identity", "Cast")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class _Body(NamedTuple):
    """The operations of a graph or of a function.

    Attributes:
        nodes: The operations by name.
        function: The function, or None for the graph itself.
    """

    nodes: dict[str, Any]
    function: Any = None


def remove_last_activation(graph: Any, signature: str, output: str) -> str | None:
    """Turn the softmax or sigmoids that make an output of a SavedModel into an identity.

    The output is then the logits, bit by bit as the model computes them.

    Args:
        graph: A `MetaGraphDef`, which is changed.
        signature: The name of a signature.
        output: The name of an output of the signature.

    Returns:
        "softmax" or "sigmoid"; None if the output is made by another operation, in which case
        nothing is changed.
    """
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    body = _Body({node.name: node for node in graph.graph_def.node})
    tensor = graph.signature_def[signature].outputs[output].name
    while (node := body.nodes.get(tensor.split(":")[0])) is not None:
        if node.op in _ACTIVATIONS:
            activation = str(node.op.lower())
            _make_identity(node, body)
            return activation
        if node.op in _COPIES:
            tensor = node.input[0]
        elif node.op in _CALLS and node.attr["f"].func.name in library:
            function = library[node.attr["f"].func.name]
            number = int(tensor.rpartition(":")[2]) if ":" in tensor else 0
            tensor = function.ret[function.signature.output_arg[number].name]
            body = _Body({inner.name: inner for inner in function.node_def}, function)
        else:
            break
    return None


def _make_identity(node: Any, body: _Body) -> None:
    """Turn an activation into an identity, and rename its result where the body refers to it."""
    before, after = f"{node.name}:{_ACTIVATIONS[node.op]}:0", f"{node.name}:output:0"
    node.op = "Identity"
    if body.function is None:  # a graph refers to results by their number alone
        return
    for other in body.function.node_def:
        for number, tensor in enumerate(other.input):
            if tensor == before:
                other.input[number] = after
    for name, tensor in body.function.ret.items():
        if tensor == before:
            body.function.ret[name] = after
