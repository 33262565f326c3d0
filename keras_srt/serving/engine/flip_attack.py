"""Search for a small change of an image that flips its class, bounded so that others are served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.square import Square
from keras_srt.attacks.target_model import QueryModel
from keras_srt.serving.engine.batching import Outputs
from keras_srt.serving.http.limits import Budget, Limits
from keras_srt.serving.http.predict_request import read_request
from keras_srt.serving.http.predict_response import response_document
from keras_srt.serving.http.protocol import RequestError
from keras_srt.serving.http.signatures import IMAGE_INPUT, IMAGE_SIGNATURE, Signatures

_PROBABILITIES = "probabilities"
_FLOOR = np.finfo(np.float32).tiny
_SEED = np.zeros(2, np.int32)  # the same request gets the same response
# Submits float32 images [n, height, width, channels], and returns the outputs of the model.
Classify = Callable[[np.ndarray], "Future[Outputs]"]


class AttackRequest(NamedTuple):
    """A valid request.

    Attributes:
        image: float32 [1, height, width, channels] in [0, 1].
        epsilon: Largest change of a pixel value.
    """

    image: np.ndarray
    epsilon: float


def can_be_attacked(signatures: Signatures) -> bool:
    """Whether a model has the signature `image` with the output `probabilities`."""
    if signatures.image_shape is None:
        return False
    signature = signatures.find(IMAGE_SIGNATURE)
    return set(signature.inputs) == {IMAGE_INPUT} and _PROBABILITIES in signature.outputs


def read_attack(
    document: Mapping[str, Any], signatures: Signatures, limits: Limits
) -> AttackRequest:
    """Convert a parsed body to an attack request and check it.

    Args:
        document: A predict request for one image by the signature `image`, and `epsilon`.
        signatures: Signatures of the model.
        limits: Limits of the server.

    Returns:
        The request.

    Raises:
        RequestError: 400, the request is invalid; 403, attacks are off.
    """
    if not limits.attack_queries:
        raise RequestError(403, "Attacks are off; serve with --attack-queries to allow them")
    if not can_be_attacked(signatures):
        raise RequestError(400, "The model has no signature 'image' with 'probabilities'")
    epsilon: Any = document.get("epsilon")
    number = isinstance(epsilon, int | float) and not isinstance(epsilon, bool)
    if not number or not 0 < epsilon <= 1:
        raise RequestError(400, f"epsilon: got {epsilon!r:.40}; allowed: above 0, at most 1")
    request = read_request({**document, "signature_name": IMAGE_SIGNATURE}, signatures, limits)
    image = request.inputs[IMAGE_INPUT]
    if request.count != 1 or not (image.min() >= 0 and image.max() <= 1):
        raise RequestError(400, "image: allowed: one image with values from 0 to 1")
    return AttackRequest(image, float(epsilon))


def find_flip(
    classify: Classify, request: AttackRequest, queries: int, seconds: float
) -> dict[str, Any]:
    """Search by the Square attack for a change that flips the predicted class.

    Args:
        classify: The model.
        request: The image and the largest change.
        queries: Largest number of changed images to try.
        seconds: Time after which the search ends.

    Returns:
        A JSON object: `flipped`, `queries` and, if flipped, `image` and its `prediction`.
    """
    model = _BoundedModel(classify, time.monotonic() + seconds)
    attack = Square(request.epsilon, queries=queries, rescale_schedule=True)
    try:
        label = np.argmax(model.probabilities(request.image), axis=1).astype(np.int32)
        result = attack.run(model, request.image, Criterion(label), _SEED)
    except FutureTimeoutError:
        return {"flipped": False, "queries": model.queries}
    found: dict[str, Any] = {"flipped": bool(result.success[0]), "queries": model.queries}
    if found["flipped"]:  # by the last query, which ends the attack
        found["image"] = response_document({"image": result.images}, rows=True)["predictions"][0]
        found["prediction"] = response_document(model.outputs, rows=True)["predictions"][0]
    return found


class _BoundedModel(QueryModel):
    """A served model, which can be queried until a point in time."""

    def __init__(self, classify: Classify, end: float) -> None:
        super().__init__(lambda images: np.log(np.maximum(self.probabilities(images), _FLOOR)))
        self._classify, self._end = classify, end
        self.outputs: Outputs = {}

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities of a batch; `outputs` keeps all its outputs."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise FutureTimeoutError
        self.outputs = self._classify(images).result(left)
        return self.outputs[_PROBABILITIES]


class FlipAttacks:
    """Runs one attack at a time, in a thread of its own.

    Args:
        limits: Limits of the server.

    Attributes:
        places: Budget of one attack, to be held while an attack is read and run.
    """

    def __init__(self, limits: Limits) -> None:
        self._queries = limits.attack_queries
        self._seconds = min(limits.attack_seconds, limits.timeout / 2)  # ends before a 504
        self.places = Budget(1, "places for attacks")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attack")

    async def run(self, classify: Classify, request: AttackRequest) -> dict[str, Any]:
        """Attack an image, see `find_flip`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, find_flip, classify, request, self._queries, self._seconds
        )

    def close(self) -> None:
        """Stop the thread; a running attack ends with its next query, when the model is closed."""
        self._thread.shutdown(wait=False)
