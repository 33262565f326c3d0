"""A REST client that sends encoded images."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from keras_srt.serving.client.predictions import (
    INPUT,
    SIGNATURE,
    Predictions,
    check_inputs,
    invalid_response,
    make_predictions,
)
from keras_srt.serving.client.rest_model import RestModel


class RestClient:
    """Classifies encoded images by the REST protocol of TF Serving or `keras-srt serve`.

    Busy servers (503) and lost connections are retried with increasing pauses. Threads may share
    a client.

    Args:
        address: `http://host:8501`, or `http://host:8501/v1/models/NAME[/versions/N]`.
        name: Name of the model, for addresses without one; by default the only model there.
        timeout: Seconds per request.
        connections: Maximum number of persistent connections.

    Attributes:
        name: Name of the model.
        version: Version of the model at the time of construction.

    Raises:
        UserError: The address is invalid or unreachable, or has no such model.

    Example:
        >>> client = RestClient("http://127.0.0.1:8501", "digits_pixel")  # doctest: +SKIP
        >>> client.predict([Path("7.png").read_bytes()]).probabilities  # doctest: +SKIP
        array([[0.01, …]], dtype=float32)
    """

    def __init__(
        self, address: str, name: str | None = None, timeout: float = 30.0, connections: int = 4
    ) -> None:
        self._model = RestModel(address, name, timeout, connections)
        self.name, self.version = self._model.name, self._model.version
        check_inputs(self._model.url, list(self._model.inputs(SIGNATURE)))

    def predict(self, images: Sequence[bytes]) -> Predictions:
        """Classify encoded images.

        Args:
            images: Content of PNG or JPEG files; at least one.

        Returns:
            The predictions, in the order of the images.

        Raises:
            RequestRefused: The server refuses this request.
            UserError: The server is unreachable or busy, or the model is gone.
        """
        rows = [{INPUT: {"b64": base64.b64encode(image).decode("ascii")}} for image in images]
        response = self._model.predict(SIGNATURE, rows)
        try:
            found = response["predictions"]
            return make_predictions(
                len(images),
                [row["probabilities"] for row in found],
                [row["valid"] for row in found],
                found[0]["classes"],
            )
        except (KeyError, TypeError, IndexError) as error:
            raise invalid_response(self._model.url) from error

    def close(self) -> None:
        """Close the connections."""
        self._model.close()
