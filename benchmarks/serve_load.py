"""Throughput and latency of `keras-srt serve` against a bare loop over the SavedModel.

    python benchmarks/serve_load.py --model saved_models/digits_pixel [--seconds 10] [--output FILE]

Encoded images go to a server in its own process over 1, 8 and 64 keep-alive connections. During
each run a new version is published (a copy of the newest); every response is verified. The bare
loop calls the signature `image` in one process, one image at a time, with and without decoding.
Load generator and server share the cores. Exit code 1 if a request failed or a version was not
loaded.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish, machine, parser, table
from PIL import Image

from keras_srt.core.images import decode_image
from keras_srt.serving.engine.loaded_model import LoadedModel
from keras_srt.serving.engine.model_folder import find_versions

CONNECTIONS = (1, 8, 64)


def main() -> int:
    """Measures and prints the table; 1 if a request failed or a version was not loaded."""
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--model", type=Path, required=True, help="folder saved_models/NAME")
    made.add_argument("--seconds", type=float, default=10, help="duration of each run")
    options = made.parse_args()
    described, seconds = machine(), 1 if options.quick else options.seconds
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / options.model.resolve().name
        newest = max(find_versions(options.model))
        shutil.copytree(options.model / str(newest), folder / "1")
        runs = measure(folder, seconds)
    document = {"machine": described, "model": folder.name, "seconds": seconds, "runs": runs}
    finish(document, to_markdown(document), options.output)
    served = [run for run in runs if "failed" in run]
    passed = all(
        not run["failed"] and run["version_after"] > run["version_before"] for run in served
    )
    return 0 if passed else 1


def measure(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """All runs: the bare loops without a server, then the server."""
    model = LoadedModel(folder / "1", folder.name, 1)
    shape = model.signatures.image_shape
    images = make_images(shape)
    floats = [decode_image(image, shape)[None] for image in images]
    expected = [bare(model, image) for image in images]
    runs = [
        {"what": "bare loop, decoding", **loop(lambda image: bare(model, image), images, seconds)},
        {
            "what": "bare loop, floats",
            **loop(lambda image: model.run("image", {"image": image}), floats, seconds),
        },
    ]
    with Server(folder) as server:
        for connections in CONNECTIONS:
            runs.append(load(server, folder, images, expected, connections, seconds))
    return runs


def make_images(shape: tuple[int, int, int], count: int = 64) -> list[bytes]:
    """Smooth random PNG images of the model's size."""
    height, width, channels = shape
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        rough = random.integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        (image if channels == 3 else image.convert("L")).save(file, "PNG")
        made.append(file.getvalue())
    return made


def bare(model: LoadedModel, image: bytes) -> int:
    """The class id that the SavedModel predicts, without a server."""
    floats = decode_image(image, model.signatures.image_shape)[None]
    return int(model.run("image", {"image": floats})["class_id"][0])


def loop(answer: Callable[[Any], Any], images: list[Any], seconds: float) -> dict[str, Any]:
    """Calls `answer` on one image after another."""
    times, end, index = [], time.perf_counter() + seconds, 0
    while (started := time.perf_counter()) < end:
        answer(images[index % len(images)])
        times.append(time.perf_counter() - started)
        index += 1
    return summary(times, seconds)


def summary(times: list[float], seconds: float) -> dict[str, Any]:
    """Throughput, and median and 99th percentile of the latency in milliseconds."""
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return {"per_second": len(times) / seconds, "p50_ms": p50, "p99_ms": p99}


class Server:
    """`keras-srt serve` in its own process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Server:
        command = [sys.executable, "-m", "keras_srt", "serve", "--port", "0", "--model"]
        self._process = subprocess.Popen(
            [*command, str(self._folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        for line in self._process.stdout:
            found = re.match(r"http://(\S+):(\d+)/ is ready", line)
            if found:
                self.host, self.port = found[1], int(found[2])
                return self
        raise RuntimeError("the server didn't start")

    def __exit__(self, *error: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=60)

    def version(self) -> int:
        """The version that the server uses."""
        link = http.client.HTTPConnection(self.host, self.port, timeout=60)
        link.request("GET", f"/v1/models/{self._folder.name}")
        states = json.loads(link.getresponse().read())["model_version_status"]
        link.close()
        return max(int(state["version"]) for state in states if state["state"] == "AVAILABLE")


def load(
    server: Server,
    folder: Path,
    images: list[bytes],
    expected: list[int],
    connections: int,
    seconds: float,
) -> dict[str, Any]:
    """One run with a number of connections; a new version is published during the run."""
    bodies = [
        json.dumps({"instances": [{"b64": base64.b64encode(image).decode()}]}) for image in images
    ]
    before = server.version()
    started, ended = time.perf_counter(), threading.Event()
    with ThreadPoolExecutor(connections + 1) as pool:
        publishing = pool.submit(publish, server, folder, before + 1, seconds, ended)
        path = f"/v1/models/{folder.name}:predict"
        clients = [
            pool.submit(client, server, path, bodies, expected, ended, first)
            for first in range(connections)
        ]
        publishing.result()
        results = [running.result() for running in clients]
    times = [one for times, _ in results for one in times]
    lasted = time.perf_counter() - started
    return {
        "what": f"serve, {connections} connection" + "s" * (connections > 1),
        "connections": connections,
        **summary(times, lasted),
        "requests": len(times),
        "failed": sum(failed for _, failed in results),
        "version_before": before,
        "version_after": server.version(),
    }


def publish(
    server: Server, folder: Path, version: int, seconds: float, ended: threading.Event
) -> None:
    """Publishes a copy of version 1 by a rename, as `export` does, and ends the run.

    Args:
        server: The server, which watches the folder.
        folder: The model's folder.
        version: The version to publish.
        seconds: Duration of the run; it is extended until the server has loaded the version.
        ended: Set at the end of the run.
    """
    end = time.perf_counter() + seconds
    time.sleep(seconds / 3)
    draft = folder / f".draft-{version}"
    shutil.copytree(folder / "1", draft)
    draft.rename(folder / str(version))
    try:
        while time.perf_counter() < end or (
            server.version() != version and time.perf_counter() < end + 60
        ):
            time.sleep(0.1)
    finally:
        ended.set()


def client(
    server: Server,
    path: str,
    bodies: list[str],
    expected: list[int],
    ended: threading.Event,
    first: int,
) -> tuple[list[float], int]:
    """Sends requests over one keep-alive connection until the end; returns times and failures."""
    link = http.client.HTTPConnection(server.host, server.port, timeout=60)
    times, failed, index = [], 0, first
    while not ended.is_set():
        began = time.perf_counter()
        which = index % len(bodies)
        try:
            link.request("POST", path, bodies[which])
            answer = link.getresponse()
            document = json.loads(answer.read())
            right = document["predictions"][0]["class_id"] == expected[which]
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            link.close()
            right = False
        failed += not right
        times.append(time.perf_counter() - began)
        index += 1
    link.close()
    return times, failed


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as a table."""
    rows = []
    for run in document["runs"]:
        numbers = [f"{run['per_second']:.0f}", f"{run['p50_ms']:.2f}", f"{run['p99_ms']:.2f}"]
        served = "failed" in run
        failed = f"{run['failed']} of {run['requests']:,}" if served else ""
        versions = f"{run['version_before']} → {run['version_after']}" if served else ""
        rows.append([run["what"], *numbers, failed, versions])
    header = ["what", "images/s", "p50 (ms)", "p99 (ms)", "failed", "version"]
    return f"{document['model']}, {document['seconds']:g} s each\n\n{table(header, rows)}"


if __name__ == "__main__":
    sys.exit(main())
