"""A thread that ends this process where another one of its cluster can't be reached any more.

TensorFlow's own service usually ends the sums over replicas that wait for a lost worker, within
about ten seconds; now and then one of them goes on waiting, and a training would for ever.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

# Connections are tried that often; TensorFlow gets this long to notice by itself.
_INTERVAL, _PATIENCE = 2.0, 18.0
_TIMEOUT = 2.0


@contextlib.contextmanager
def watching(
    addresses: Sequence[str],
    on_gone: Callable[[str], None],
    interval: float = _INTERVAL,
    patience: float = _PATIENCE,
) -> Iterator[None]:
    """Looks after other processes while the body runs.

    Args:
        addresses: "host:port" of each, where it accepts connections.
        on_gone: called once, in a thread of its own, with the address of a process that none
            could be made to for that long.
        interval: seconds between the trials.
        patience: seconds.
    """
    stop = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(addresses, on_gone, interval, patience, stop), daemon=True
    )
    if addresses:
        watch.start()
    try:
        yield
    finally:
        stop.set()


def _watch(
    addresses: Sequence[str],
    on_gone: Callable[[str], None],
    interval: float,
    patience: float,
    stop: threading.Event,
) -> None:
    last_seen = dict.fromkeys(addresses, time.monotonic())
    while not stop.wait(interval):
        for address in addresses:
            if _accepts(address):
                last_seen[address] = time.monotonic()
            elif time.monotonic() - last_seen[address] > patience and not stop.is_set():
                on_gone(address)
                return


def _accepts(address: str) -> bool:
    """Whether a connection can be made."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT):
            return True
    except OSError:
        return False
