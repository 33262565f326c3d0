"""A loaded SavedModel."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.model_loading import load_savedmodel
from keras_srt.core.tensorflow import tf
from keras_srt.serving.http.protocol import RequestError
from keras_srt.serving.http.signatures import IMAGE_INPUT, IMAGE_SIGNATURE, Signatures


class LoadedModel:
    """A loaded version of a model.

    Args:
        folder: Folder of the version, with `saved_model.pb`.
        name: Name of the model.
        version: Version number.
        foreign: Whether to load a SavedModel with any operations, see `load_savedmodel`.

    Attributes:
        version: Version number.
        signatures: Signatures of the model.

    Raises:
        Exception: Any exception of TensorFlow for a folder that can't be loaded.
    """

    def __init__(self, folder: Path, name: str, version: int, foreign: bool = False) -> None:
        self.version = version
        # Kept, because the signatures don't hold references to the variables.
        self._model = load_savedmodel(folder, foreign)
        self.signatures = Signatures(_metadata(folder, name, version))
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
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        try:
            outputs = self._model.signatures[signature](**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise RequestError(400, error.message) from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def _warm_up(self) -> None:
        """Run a first batch, which takes much longer than later ones."""
        shape = self.signatures.image_shape
        if shape is not None:
            self.run(IMAGE_SIGNATURE, {IMAGE_INPUT: np.zeros((1, *shape), np.float32)})


def _metadata(folder: Path, name: str, version: int) -> dict[str, Any]:
    """Make TF Serving's response to `GET /v1/models/NAME/metadata`."""
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
    """Name of the option that includes default values; renamed in protobuf 5."""
    known = inspect.signature(to_dict).parameters
    old, new = "including_default_value_fields", "always_print_fields_with_no_presence"
    return old if old in known else new
