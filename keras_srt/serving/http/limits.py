"""What a server takes on at most, so that no request can exhaust it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from keras_srt.core.images import MAX_BYTES, MAX_PIXELS
from keras_srt.serving.http.protocol import RequestError

MEGABYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        max_body: bytes of one request body.
        max_images: images of one request.
        max_queue: requests that may wait or run at a time; more are refused with 503.
        timeout: seconds for a request's head, for its body, and for its answer.
        max_batch: images that go through the model at once.
        max_image_bytes: bytes of one encoded image.
        max_pixels: pixels of one encoded image.

    Example:
        >>> Limits(max_body=MEGABYTE).max_values
        65536
    """

    max_body: int = 32 * MEGABYTE
    max_images: int = 1024
    max_queue: int = 256
    timeout: float = 30.0
    max_batch: int = 32
    max_image_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS

    @property
    def max_values(self) -> int:
        """Numbers and lists of one request: parsed, each takes some 70 bytes."""
        return self.max_body // 16

    @property
    def max_objects(self) -> int:
        """JSON objects of one request: one for an image, one for its base64."""
        return 4 * self.max_images

    @property
    def max_held(self) -> int:
        """Bytes of all request bodies together, from their arrival to their answers."""
        return 2 * self.max_body


class Budget:
    """Counts what is in use at the moment and refuses more than there is.

    Belongs to one event loop, so it needs no lock.

    Args:
        total: how much there is.
        what: its name, for the refusal.

    Example:
        >>> budget = Budget(2, "seats")
        >>> with budget.hold(2):
        ...     budget.used
        2
        >>> budget.used
        0
    """

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.used = total, what, 0

    def take(self, amount: int) -> None:
        """Takes some of it.

        Args:
            amount: how much.

        Raises:
            RequestError: 503, there isn't as much left.
        """
        if self.used + amount > self.total:
            raise RequestError(
                503, f"The server is busy: all its {self.what} are in use; try again in a second"
            )
        self.used += amount

    def give_back(self, amount: int) -> None:
        """Gives back what `take` took."""
        self.used -= amount

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Takes some of it for the length of a block."""
        self.take(amount)
        try:
            yield
        finally:
            self.give_back(amount)
