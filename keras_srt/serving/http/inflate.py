"""Decompression of request bodies, in parts of bounded size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from keras_srt.serving.http.protocol import RequestError

_GZIP = 16 + zlib.MAX_WBITS
_PART = 2**16


class Inflater:
    """Decompresses a gzip stream.

    Example:
        >>> import gzip
        >>> inflater = Inflater()
        >>> b"".join(inflater.parts(gzip.compress(b"{}")))
        b'{}'
        >>> inflater.check_end()
    """

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)

    def parts(self, data: bytes) -> Iterator[bytes]:
        """Decompress a chunk of the body.

        Yields:
            Parts of at most 64 kB, so that a small body that inflates to gigabytes takes no memory
            before the caller refuses it.

        Raises:
            RequestError: 400, the data are damaged.
        """
        while data:
            try:
                part = self._stream.decompress(data, _PART)
            except zlib.error as error:
                raise RequestError(400, f"The gzip body is damaged ({error})") from error
            if part:
                yield part
            data = self._stream.unconsumed_tail
            if self._stream.eof and self._stream.unused_data:
                raise RequestError(400, "The gzip body has data after its end")

    def check_end(self) -> None:
        """Check that the stream is complete.

        Raises:
            RequestError: 400, the body is truncated.
        """
        if not self._stream.eof:
            raise RequestError(400, "The gzip body is truncated")
