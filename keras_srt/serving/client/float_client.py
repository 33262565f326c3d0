"""A client that sends images as floats, bit by bit as they are, and not encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.serving.client.rest_client import RestClient

# The first signature that takes floats is used, and of its outputs the first.
_SIGNATURES = ("logits", "image", "serving_default")
_OUTPUTS = ("logits", "probabilities")
# A request holds as many images as have these values together; a server may refuse more.
_VALUES = 500_000
_IMAGES = 256


class FloatClient(RestClient):
    """Asks for logits or probabilities of images that are given as floats.

    PNG and JPEG round pixels to 256 levels; an attacked image has to arrive as it is. The
    version that is there first answers every request, also after a newer one was published.

    Args:
        address: `http://host:8501/v1/models/NAME[/versions/N]`.
        name: of the model, where the address has none; by default the only one there.
        timeout: in seconds, for each request.

    Raises:
        UserError: the address can't be read or reached, has no such model, or the model takes
            no floats.

    Example:
        >>> client = FloatClient("http://127.0.0.1:8501", "digits_pixel")  # doctest: +SKIP
        >>> client.predict(images).shape  # doctest: +SKIP
        (16, 10)
    """

    def __init__(self, address: str, name: str | None = None, timeout: float = 30.0) -> None:
        super().__init__(address, name, timeout, connections=1)
        if "/versions/" not in self._url:
            self._url += f"/versions/{self.version}"

    def choose_signature(self, signatures: Mapping[str, Any]) -> None:
        """Picks the signature to ask; see `RestClient.choose_signature`."""
        for name in _SIGNATURES:
            inputs = signatures.get(name, {}).get("inputs", {})
            if [info.get("dtype") for info in inputs.values()] == ["DT_FLOAT"]:
                self._signature, (self._input,) = name, inputs
                return
        raise UserError(
            f"{self._url}: has no signature among {', '.join(_SIGNATURES)} that takes images as "
            "floats; allowed: a model with one, as `keras-srt export` writes them"
        )

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Asks about images.

        Args:
            images: float32 [n, height, width, channels] in [0, 1].

        Returns:
            Logits or probabilities, as the model gives them: float32 [n, classes].

        Raises:
            UserError: the server can't be reached, refuses, or answers with something else.
        """
        size = max(1, int(np.prod(images.shape[1:])))
        count = max(1, min(_IMAGES, _VALUES // size))
        parts = [images[first : first + count] for first in range(0, len(images), count)]
        return np.concatenate([self._ask(part) for part in parts])

    def _ask(self, images: np.ndarray) -> np.ndarray:
        rows = [{self._input: image} for image in images.tolist()]
        body = {"signature_name": self._signature, "instances": rows}
        answer = self._request("POST", f"{self._url}:predict", body)
        try:
            rows = answer["predictions"]
            # The images are all right; where one is said not to be, the model's answer isn't.
            broken = any(isinstance(row, Mapping) and row.get("valid") is False for row in rows)
            values = np.asarray([_values(row) for row in rows], np.float32)
        except (KeyError, TypeError, ValueError) as error:  # rows of different lengths, text
            raise self._strange(len(images)) from error
        if values.ndim != 2 or len(values) != len(images):
            raise self._strange(len(images))
        if broken or not np.isfinite(values).all():
            raise UserError(
                f"{self._url}: answers NaN or infinity to images in [0, 1]; the model is broken"
            )
        return values

    def _strange(self, count: int) -> UserError:
        return UserError(
            f"{self._url}: its answer to {count} images has no row of numbers for each; allowed: "
            f"outputs {' or '.join(_OUTPUTS)}, or one alone"
        )


def _values(row: Any) -> Any:
    """The answer to one image; TF Serving names outputs where there are several."""
    if not isinstance(row, Mapping):
        return row
    return row[next((key for key in (*_OUTPUTS, *row) if key in row), _OUTPUTS[0])]
