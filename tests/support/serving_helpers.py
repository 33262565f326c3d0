"""Servers for tests: a small SavedModel with the exported signatures, and `serve`."""

import asyncio
import atexit
import base64
import contextlib
import functools
import io
import json
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from helpers import ROOT, clean_environment, heed_ctrl_c
from PIL import Image

from keras_srt.serving.engine.gateway import Gateway
from keras_srt.serving.engine.local_models import LocalModels
from keras_srt.serving.engine.version_policy import LATEST
from keras_srt.serving.http.limits import Admission, Limits
from keras_srt.serving.http.metrics import Metrics
from keras_srt.serving.http.server import make_server

SHAPE = (8, 8, 1)
NAMES = ("dark", "gray", "light")


SHARPNESS = {1: 10.0, 2: 20.0}


@functools.cache
def _standins():
    """Versions 1 and 2 of a model that distinguishes dark, gray and light images."""
    import tensorflow as tf

    root = tempfile.TemporaryDirectory(prefix="standins-")
    atexit.register(root.cleanup)
    module = _standin_module(tf)
    for version, sharpness in SHARPNESS.items():
        module.sharpness.assign(sharpness)
        signatures = {
            "serving_default": module.image_bytes,
            "image": module.image,
            "logits": module.logits,
        }
        tf.saved_model.save(module, f"{root.name}/{version}", signatures=signatures)
    return Path(root.name)


def _standin_module(tf):
    batch = [None, *SHAPE]

    class Standin(tf.Module):
        def __init__(self):
            super().__init__()
            self.sharpness = tf.Variable(0.0)

        def answer(self, images):
            images, names = tf.ensure_shape(images, batch), tf.constant(NAMES)
            valid = tf.reduce_all((images >= 0) & (images <= 1), axis=[1, 2, 3])
            distance = tf.reduce_mean(images, [1, 2, 3])[:, None] - [0.0, 0.5, 1.0]
            probabilities = tf.nn.softmax(-self.sharpness * distance**2)
            probabilities = tf.where(valid[:, None], probabilities, 0.0)
            class_id = tf.argmax(probabilities, axis=1, output_type=tf.int32)
            return {
                "probabilities": probabilities,
                "class_id": tf.where(valid, class_id, -1),
                "class_name": tf.where(valid, tf.gather(names, class_id), ""),
                "score": tf.reduce_max(probabilities, axis=1),
                "valid": valid,
                "classes": tf.tile(names[None], [tf.shape(images)[0], 1]),
            }

        @tf.function(input_signature=[tf.TensorSpec(batch, name="image")], autograph=False)
        def image(self, image):
            return self.answer(image)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def image_bytes(self, image_bytes):
            # Not called by `serve`, which decodes itself; it would return "dark" for every image.
            return self.answer(tf.zeros([tf.shape(image_bytes)[0], *SHAPE]))

        @tf.function(input_signature=[tf.TensorSpec(batch, name="images")], autograph=False)
        def logits(self, images):
            return {"logits": tf.reduce_mean(images, [1, 2, 3])[:, None] * [1.0, 2.0, 3.0]}

    return Standin()


def publish(folder, version, of=1):
    """Publish fake model 1 or 2 under a version number by a rename, as `export` does."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".draft-{version}"
    shutil.copytree(_standins() / str(of), draft)
    draft.rename(folder / str(version))
    return folder


def probabilities(level, sharpness=SHARPNESS[1]):
    """Probabilities of a fake model for an image of one level in [0, 1]."""
    scores = np.exp(-sharpness * (level - np.array([0, 0.5, 1])) ** 2)
    return scores / scores.sum()


def png(level, size=(8, 8), mode="L", kind="PNG"):
    """An encoded image of one level, 0 to 255."""
    file = io.BytesIO()
    Image.new(mode, size, level).save(file, kind)
    return file.getvalue()


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def rows(*images, **more):
    """A predict request for encoded images."""
    return {"instances": [{"image_bytes": b64(image)} for image in images], **more}


def floats(*levels):
    """Images of one level each, as nested lists."""
    return np.stack([np.full(SHAPE, level, np.float32) for level in levels]).tolist()


def ask(url, document=None, method=None, data=None, headers=None, timeout=60):
    """Send JSON (or raw `data`) and return (status, parsed JSON or text, headers)."""
    body = data if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return _read(answer)
    except urllib.error.HTTPError as error:
        with error:
            return _read(error)


def _read(answer):
    text = answer.read().decode()
    is_json = answer.headers.get("content-type") == "application/json"
    return (
        answer.status,
        json.loads(text, parse_constant=_refuse) if is_json else text,
        (answer.headers),
    )


def _refuse(constant):
    raise ValueError(f"{constant} is not JSON")


class Running:
    """An application served in a thread of this process."""

    def __init__(self, models, limits, metrics, grpc=False, origins=()):
        self.models, self.metrics = models, metrics
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        admission = Admission(limits, metrics)
        others = []
        if grpc:  # imports TensorFlow, which other tests don't need
            from keras_srt.serving.rpc.server import GrpcServer

            others = [GrpcServer(models, admission, "127.0.0.1", 0)]
        self._server = make_server(models, admission, others, origins)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()
        wait_until(lambda: self._server.started)
        self.grpc = f"127.0.0.1:{others[0].port}" if grpc else None

    def stop(self):
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self.models.close()
        self._socket.close()


@contextlib.contextmanager
def running(folder, grpc=False, policy=LATEST, root=None, **limits):
    """Run `serve` for one model folder in this process."""
    chosen, metrics = Limits(**limits), Metrics()
    models = LocalModels([folder], chosen, metrics, policy=policy, root=root)
    server = Running(models, chosen, metrics, grpc)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def running_gateway(url, names=(), **limits):
    """Run a gateway in this process."""
    chosen, metrics = Limits(**limits), Metrics()
    server = Running(Gateway(url, names, chosen, metrics), chosen, metrics)
    try:
        yield server
    finally:
        server.stop()


def _prepare(files):
    heed_ctrl_c()
    if files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


class Process:
    """`keras-srt serve …` in a subprocess, on any free port, with at most `files` open files."""

    def __init__(self, *arguments, cwd=ROOT, files=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "keras_srt", "serve", "--port", "0", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=clean_environment(PYTHONUNBUFFERED="1"),
            preexec_fn=functools.partial(_prepare, files),
        )
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            found = re.match(r"(http://\S+?)/ is ready", line)
            if found:
                self.url = found[1]
                return
        raise RuntimeError(f"serve ended: {self.process.stderr.read()}")

    def memory(self):
        """Resident megabytes now, and the highest they have been."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        now, peak = (int(re.search(rf"{key}:\s+(\d+)", text)[1]) for key in ("VmRSS", "VmHWM"))
        return now / 1024, peak / 1024

    def alive(self):
        return self.process.poll() is None

    def end(self, how=signal.SIGTERM, timeout=60):
        """Send a signal; return (exit code, the rest of stdout, stderr)."""
        self.process.send_signal(how)
        output, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, output, errors


def wait_until(condition, seconds=20):
    """Wait until a condition is true; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("the condition did not become true")
        time.sleep(0.02)


class HeldModels:
    """Models whose responses wait until they are let go."""

    def __init__(self):
        self.waiting, self.go = 0, threading.Event()

    async def predict(self, target, body):
        self.waiting += 1
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        return b"{}"

    async def names(self):
        raise RuntimeError("a fault of ours")

    def close(self):
        self.go.set()
