"""Predictions of a server for encoded images, and the errors that all clients share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_srt.core.errors import UserError

SIGNATURE = "serving_default"
INPUT = "image_bytes"


class RequestRefused(UserError):
    """The server responded to this request with an error; other requests may succeed."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for a batch of images.

    Attributes:
        probabilities: Float32 [batch, classes]; 0 for an invalid image.
        valid: Whether the server could read the image, bool [batch].
        classes: Class names in the order of their ids.
    """

    probabilities: np.ndarray
    valid: np.ndarray
    classes: tuple[str, ...]


def make_predictions(
    count: int, probabilities: Any, valid: Any, classes: Sequence[str]
) -> Predictions:
    """Check the outputs of a server for `count` images.

    Raises:
        UserError: The outputs have the wrong shape or type.
    """
    try:
        predictions = Predictions(
            np.asarray(probabilities, np.float32), np.asarray(valid, bool), tuple(map(str, classes))
        )
    except ValueError as error:  # rows of different lengths, text
        raise invalid_response(f"{count} images") from error
    shape = (count, len(predictions.classes))
    if predictions.probabilities.shape != shape or predictions.valid.shape != (count,):
        raise invalid_response(f"{count} images")
    return predictions


def check_inputs(where: str, inputs: Sequence[str]) -> None:
    """Check that the signature takes encoded images and nothing else.

    Raises:
        UserError: It does not.
    """
    if list(inputs) != [INPUT]:
        raise UserError(
            f"{where}: its signature {SIGNATURE!r} takes {', '.join(inputs) or 'nothing'}; "
            f"allowed: {INPUT}, as in models that `keras-srt export` wrote"
        )


def invalid_response(where: str) -> UserError:
    """Make the error for a response without the expected outputs."""
    return UserError(
        f"{where}: the response lacks probabilities, valid and classes for each image; "
        "allowed: a model that `keras-srt export` wrote"
    )
