"""A thread that reports when another process of the cluster stops accepting connections.

TensorFlow usually ends a sum over replicas within ten seconds of losing a worker, but now and
then such a sum waits forever.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

# Seconds between connection attempts, seconds until a process counts as lost (TensorFlow should
# notice first), and the timeout of an attempt.
_INTERVAL, _PATIENCE, _TIMEOUT = 2.0, 18.0, 2.0


@contextlib.contextmanager
def watching(
    addresses: Sequence[str],
    on_lost: Callable[[str], None],
    interval: float = _INTERVAL,
    patience: float = _PATIENCE,
) -> Iterator[None]:
    """Watch other processes while the body runs.

    Args:
        addresses: The address of each process, "host:port".
        on_lost: Called once, in the watching thread, with the address of the first process
            that accepted no connection for `patience` seconds.
        interval: Seconds between connection attempts.
        patience: Seconds without a connection after which a process counts as lost.
    """
    stop = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(addresses, on_lost, interval, patience, stop), daemon=True
    )
    if addresses:
        watch.start()
    try:
        yield
    finally:
        stop.set()


def _watch(
    addresses: Sequence[str],
    on_lost: Callable[[str], None],
    interval: float,
    patience: float,
    stop: threading.Event,
) -> None:
    last_seen = dict.fromkeys(addresses, time.monotonic())
    while not stop.wait(interval):
        for address in addresses:
            if _accepts_connections(address):
                last_seen[address] = time.monotonic()
            elif time.monotonic() - last_seen[address] > patience and not stop.is_set():
                on_lost(address)
                return


def _accepts_connections(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT):
            return True
    except OSError:
        return False
