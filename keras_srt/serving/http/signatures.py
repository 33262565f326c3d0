"""Signatures of a model, parsed from the metadata format of TF Serving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_srt.serving.http.protocol import RequestError

DEFAULT_SIGNATURE = "serving_default"
BYTES_SIGNATURE, BYTES_INPUT = DEFAULT_SIGNATURE, "image_bytes"
IMAGE_SIGNATURE, IMAGE_INPUT = "image", "image"


class TensorInfo(NamedTuple):
    """Type and shape of an input or output.

    Attributes:
        dtype: TensorFlow's type name, such as DT_FLOAT.
        shape: Shape, with -1 for unknown sizes; None if the rank is unknown.
    """

    dtype: str
    shape: tuple[int, ...] | None

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Check that a tensor shape is compatible.

        Args:
            name: Name of the input, for the error message.
            shape: Shape of the tensor.

        Raises:
            RequestError: 400, the shape is not compatible.
        """
        if self.shape is not None and not (
            len(shape) == len(self.shape)
            and all(want in (-1, got) for want, got in zip(self.shape, shape, strict=True))
        ):
            got = ",".join(map(str, shape))
            expected = ",".join("?" if size < 0 else str(size) for size in self.shape)
            raise RequestError(
                400,
                f"Shape of tensor {name} [{got}] is not compatible with expected shape "
                f"[{expected}].",
            )


class Signature(NamedTuple):
    """Inputs and outputs of a signature, by name."""

    name: str
    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


class Signatures:
    """All signatures of a model version.

    Args:
        metadata: JSON object, the response to `GET /v1/models/NAME/metadata`.

    Attributes:
        metadata: As given.
        version: Version of the model.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.version = int(metadata["model_spec"]["version"])
        self._by_name = {
            name: Signature(name, _tensors(entry["inputs"]), _tensors(entry["outputs"]))
            for name, entry in metadata["metadata"]["signature_def"]["signature_def"].items()
        }

    def find(self, name: str) -> Signature:
        """Find a signature that takes inputs.

        Args:
            name: Name of the signature; "" for the default one.

        Returns:
            The signature.

        Raises:
            RequestError: 400, no such signature, or it takes no inputs.
        """
        name = name or DEFAULT_SIGNATURE
        if name not in self._by_name:
            raise RequestError(400, f'Serving signature name: "{name}" not found in signature def')
        if not self._by_name[name].inputs:
            raise RequestError(400, f"Failed to get input map for signature: {name}")
        return self._by_name[name]

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(height, width, channels) of the signature `image`; None if absent or unknown."""
        signature = self._by_name.get(IMAGE_SIGNATURE)
        info = signature.inputs.get(IMAGE_INPUT) if signature else None
        if info is None or info.shape is None or len(info.shape) != 4 or min(info.shape[1:]) < 1:
            return None
        return info.shape[1:]

    def is_encoded(self, signature: Signature) -> bool:
        """Whether a signature takes encoded images, and `image` takes the decoded ones."""
        return (
            signature.name == BYTES_SIGNATURE
            and set(signature.inputs) == {BYTES_INPUT}
            and self.image_shape is not None
        )


def _tensors(entries: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(entry["dtype"], _shape(entry["tensor_shape"]))
        for name, entry in entries.items()
    }


def _shape(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    if entry.get("unknown_rank"):
        return None
    return tuple(int(dimension["size"]) for dimension in entry.get("dim", []))
