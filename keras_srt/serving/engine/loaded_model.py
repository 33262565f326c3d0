"""A loaded SavedModel."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.model_loading import load_session
from keras_srt.core.sample_images import read_samples
from keras_srt.core.tensorflow import tf
from keras_srt.serving.http.protocol import RequestError
from keras_srt.serving.http.signatures import IMAGE_INPUT, IMAGE_SIGNATURE, Signatures


class LoadedModel:
    """A loaded version of a model.

    Args:
        folder: Folder of the version, with `saved_model.pb`.
        name: Name of the model.
        version: Version number.
        foreign: Whether to load a SavedModel with any operations, see `load_session`.

    Attributes:
        version: Version number.
        signatures: Signatures of the model.
        samples: Sample images, for the page.

    Raises:
        Exception: Any exception of TensorFlow for a folder that can't be loaded.
    """

    def __init__(self, folder: Path, name: str, version: int, foreign: bool = False) -> None:
        self.version = version
        session, graph = load_session(folder, foreign)
        self.signatures = Signatures(_metadata(graph, name, version))
        self.samples = read_samples(folder)
        self._calls = {
            name: _Call(session, signature)
            for name, signature in graph.signature_def.items()
            if signature.inputs
        }
        self._warm_up()

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a batch.

        Args:
            signature: Name of the signature.
            inputs: Arrays by name; strings are object arrays of bytes.

        Returns:
            The outputs by name.

        Raises:
            RequestError: 400, the model refuses the inputs.
        """
        try:
            return self._calls[signature](inputs)
        except tf.errors.InvalidArgumentError as error:
            raise RequestError(400, error.message) from error

    def _warm_up(self) -> None:
        """Run a first batch, which takes much longer than later ones."""
        shape = self.signatures.image_shape
        if shape is not None:
            self.run(IMAGE_SIGNATURE, {IMAGE_INPUT: np.zeros((1, *shape), np.float32)})


class _Call:
    """Runs a signature in a session.

    Args:
        session: The session, which is closed with the last reference to it.
        signature: `SignatureDef`, which names the tensors.
    """

    def __init__(self, session: Any, signature: Any) -> None:
        self._inputs, self._outputs = sorted(signature.inputs), sorted(signature.outputs)
        self._run = session.make_callable(
            [signature.outputs[name].name for name in self._outputs],
            [signature.inputs[name].name for name in self._inputs],
        )

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = self._run(*(inputs[name] for name in self._inputs))
        return dict(zip(self._outputs, values, strict=True))


def _metadata(graph: Any, name: str, version: int) -> dict[str, Any]:
    """Make TF Serving's response to `GET /v1/models/NAME/metadata` from a `MetaGraphDef`."""
    from google.protobuf import json_format

    every_field = {_every_field(json_format.MessageToDict): True}
    signatures = {
        key: json_format.MessageToDict(signature, preserving_proto_field_name=True, **every_field)
        for key, signature in graph.signature_def.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _every_field(to_dict: Callable[..., Any]) -> str:
    """Name of the option that includes default values; renamed in protobuf 5."""
    known = inspect.signature(to_dict).parameters
    old, new = "including_default_value_fields", "always_print_fields_with_no_presence"
    return old if old in known else new
