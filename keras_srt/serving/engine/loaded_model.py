"""A SavedModel version in memory, ready to answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.tensorflow import tf
from keras_srt.serving.http.protocol import RequestError
from keras_srt.serving.http.signatures import IMAGE_INPUT, IMAGE_SIGNATURE, Signatures


class LoadedModel:
    """One version of a model.

    Args:
        folder: of the version, with `saved_model.pb`.
        name: of the model.
        version: its number.

    Attributes:
        signatures: what it takes and gives.

    Raises:
        Exception: whatever TensorFlow raises for a folder that it can't load.
    """

    def __init__(self, folder: Path, name: str, version: int) -> None:
        self.version = version
        # The object has to be kept: its signatures alone don't keep its variables alive.
        self._model = tf.saved_model.load(str(folder))
        self.signatures = Signatures(_metadata(folder, name, version))
        self._warm_up()

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers a batch.

        Args:
            signature: its name.
            inputs: by name; strings as arrays of `bytes` objects.

        Returns:
            The outputs by name.

        Raises:
            RequestError: 400, the model refuses the inputs.
        """
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        try:
            outputs = self._model.signatures[signature](**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise RequestError(400, error.message) from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def _warm_up(self) -> None:
        """The first batch takes many times longer than the others: not a client's."""
        shape = self.signatures.image_shape
        if shape is not None:
            self.run(IMAGE_SIGNATURE, {IMAGE_INPUT: np.zeros((1, *shape), np.float32)})


def _metadata(folder: Path, name: str, version: int) -> dict[str, Any]:
    """What TF Serving answers to `GET /v1/models/NAME/metadata`."""
    from google.protobuf import json_format
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    serving = next(graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags)
    every_field = {_every_field(json_format.MessageToDict): True}
    signatures = {
        key: json_format.MessageToDict(signature, preserving_proto_field_name=True, **every_field)
        for key, signature in serving.signature_def.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _every_field(to_dict: Callable[..., Any]) -> str:
    """The option that shows fields with their default values; protobuf 5 renamed it."""
    known = inspect.signature(to_dict).parameters
    old, new = "including_default_value_fields", "always_print_fields_with_no_presence"
    return old if old in known else new
