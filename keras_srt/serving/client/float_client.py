"""A REST client that sends images as floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.serving.client.rest_model import RestModel

# The first of these signatures that takes floats is used, and the first of these outputs.
_SIGNATURES = ("logits", "image", "serving_default")
_OUTPUTS = ("logits", "probabilities")
# Limits of one request: number of pixel values and of images. A server may refuse more.
_MAX_VALUES = 500_000
_MAX_IMAGES = 256


class FloatClient:
    """Computes logits or probabilities of float images by the REST protocol of TF Serving.

    PNG and JPEG round pixels to 256 levels, which would change adversarial images. All requests
    use the version that is served at the time of construction.

    Args:
        address: `http://host:8501/v1/models/NAME[/versions/N]`.
        name: Name of the model, for addresses without one; by default the only model there.
        timeout: Seconds per request.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        output: "logits" or "probabilities", by the name of the signature or of its output; "" if
            the names don't tell.

    Raises:
        UserError: The address is invalid or unreachable, has no such model, or the model takes
            no floats.

    Example:
        >>> client = FloatClient("http://127.0.0.1:8501", "digits_pixel")  # doctest: +SKIP
        >>> client.predict(images).shape  # doctest: +SKIP
        (16, 10)
    """

    def __init__(self, address: str, name: str | None = None, timeout: float = 30.0) -> None:
        self._model = RestModel(address, name, timeout, connections=1)
        self.name, self.version = self._model.name, self._model.version
        if "/versions/" not in self._model.url:
            self._model.url += f"/versions/{self.version}"
        self._signature, self._input = self._choose_signature()
        outputs = self._model.signatures[self._signature].get("outputs", {})
        named = (name for name in _OUTPUTS if name in (*outputs, self._signature))
        self.output = next(named, "")

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Compute logits or probabilities.

        Args:
            images: Images float32 [n, height, width, channels] in [0, 1].

        Returns:
            The output of the model, float32 [n, classes].

        Raises:
            UserError: The server is unreachable, refuses the request, or its response is invalid.
        """
        size = max(1, int(np.prod(images.shape[1:])))
        count = max(1, min(_MAX_IMAGES, _MAX_VALUES // size))
        parts = [images[first : first + count] for first in range(0, len(images), count)]
        return np.concatenate([self._predict(part) for part in parts])

    def _choose_signature(self) -> tuple[str, str]:
        """Choose the signature and its only input."""
        for name in _SIGNATURES:
            inputs = self._model.inputs(name)
            if [info.get("dtype") for info in inputs.values()] == ["DT_FLOAT"]:
                return name, next(iter(inputs))
        raise UserError(
            f"{self._model.url}: has no signature among {', '.join(_SIGNATURES)} that takes images "
            "as floats; allowed: a model with one, as `keras-srt export` writes them"
        )

    def _predict(self, images: np.ndarray) -> np.ndarray:
        rows = [{self._input: image} for image in images.tolist()]
        response = self._model.predict(self._signature, rows)
        try:
            rows = response["predictions"]
            # The images are valid; if the server reports otherwise, the model output NaN.
            broken = any(isinstance(row, Mapping) and row.get("valid") is False for row in rows)
            values = np.asarray([_values(row) for row in rows], np.float32)
        except (KeyError, TypeError, ValueError) as error:  # rows of different lengths, text
            raise self._invalid_response(len(images)) from error
        if values.ndim != 2 or len(values) != len(images):
            raise self._invalid_response(len(images))
        if broken or not np.isfinite(values).all():
            raise UserError(
                f"{self._model.url}: outputs NaN or infinity for images in [0, 1]; the model is "
                "broken"
            )
        return values

    def _invalid_response(self, count: int) -> UserError:
        return UserError(
            f"{self._model.url}: its response to {count} images has no row of numbers for each; "
            f"allowed: outputs {' or '.join(_OUTPUTS)}, or a single output"
        )


def _values(row: Any) -> Any:
    """The output for one image; TF Serving names outputs if there are several."""
    if not isinstance(row, Mapping):
        return row
    # Of several outputs, only the name tells which to use.
    keys = (*_OUTPUTS, *row) if len(row) == 1 else _OUTPUTS
    return row[next((key for key in keys if key in row), _OUTPUTS[0])]
