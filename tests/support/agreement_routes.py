"""The routes that lead to a published model, each asked for probabilities in the same way."""

from __future__ import annotations

import base64
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.images import decode_image
from keras_srt.core.stderr_filter import filter_stderr
from keras_srt.core.tensorflow import keras, tf
from keras_srt.device.classify import INTERPRETERS, Classifier
from keras_srt.exporters.tflite import QUANTIZATIONS

_SUPPORT = Path(__file__).resolve().parent
_TFLITE_NAMES = {"tensorflow": "tf.lite"}
_SECONDS = 300
# What the C++ loader says each time.
_LOADING_NOISE = r"tensorflow/cc/saved_model/"


class WayIn(NamedTuple):
    """What a model is asked with.

    Attributes:
        title: for the table.
        signature: of the SavedModel.
        input: of that signature.
    """

    title: str
    signature: str
    input: str


FLOATS = WayIn("floats", "image", "image")
PNGS = WayIn("PNG files", "serving_default", "image_bytes")


class Published(NamedTuple):
    """A classifier and what was exported of it.

    Attributes:
        classifier: images -> logits.
        savedmodel: `saved_models/<name>/<version>`.
        tflite: folder of its .tflite files.
    """

    classifier: keras.Model
    savedmodel: Path
    tflite: Path


class Answer(NamedTuple):
    """What a route says of a batch.

    Attributes:
        probabilities: [n, classes].
        classes: ids [n], -1 for an image that it calls invalid.
    """

    probabilities: np.ndarray
    classes: np.ndarray


class Unavailable(Exception):
    """A route that doesn't exist on this machine; the text says why."""


# A batch is float32 [n, height, width, channels] or, for PNGS, an array of n bytes objects.
Ask = Callable[[WayIn, np.ndarray], Answer]
# Runs `keras-srt serve --port 0` with two more arguments; gives its address.
Start = Callable[[str, str], AbstractContextManager[str]]


class Route(NamedTuple):
    """A route.

    Attributes:
        name: for the table.
        packages: what runs there, as pip names it.
        open: makes the route ready; raises `Unavailable`.
        ways: that it takes.
        precision: of its weights.
    """

    name: str
    packages: tuple[str, ...]
    open: Callable[[Published], AbstractContextManager[Ask]]
    ways: tuple[WayIn, ...] = (FLOATS, PNGS)
    precision: str = "float32"

    def software(self) -> str:
        """The packages and their versions."""
        return ", ".join(f"{package} {_version(package)}" for package in self.packages)


@contextmanager
def reference(model: Published) -> Iterator[Ask]:
    """The Keras model itself; PNG files are decoded by Pillow, as on a device."""

    def ask(way: WayIn, batch: np.ndarray) -> Answer:
        if way is PNGS:
            shape = tuple(model.classifier.input_shape[1:])
            batch = np.stack([decode_image(image, shape) for image in batch])
        logits = model.classifier(tf.constant(batch), training=False)
        probabilities = tf.nn.softmax(logits).numpy()
        return Answer(probabilities, probabilities.argmax(axis=1))

    yield ask


@contextmanager
def start_process(*arguments: str) -> Iterator[str]:
    """Runs `keras-srt serve` in a process of its own; see `Start`."""
    process = _from_tests("serving_helpers").Process(*arguments)
    try:
        yield process.url
    finally:
        process.end()


def all_routes(start: Start = start_process) -> list[Route]:
    """Every route there is, also those that this machine lacks.

    Args:
        start: how to run the servers.
    """
    serve = ("keras-srt", "uvicorn")
    return [
        Route("Keras", ("keras",), reference),
        Route("SavedModel, Python loader", ("tensorflow",), _python_loader),
        Route("SavedModel, `saved_model_cli run`", ("tensorflow",), _saved_model_cli),
        Route("SavedModel, C API (`libtensorflow_cc.so.2`)", ("tensorflow",), _c_api),
        Route("`keras-srt serve`, REST", serve, partial(_serve, start)),
        Route("`keras-srt serve --backend`, REST", serve, partial(_gateway, start)),
        Route("gRPC server", ("tensorflow-serving-api", "grpcio"), _grpc),
        *(
            Route(
                f"TFLite {quantization.name}, {_TFLITE_NAMES.get(interpreter, interpreter)}",
                (interpreter,),
                partial(_tflite, quantization.name, interpreter),
                (FLOATS,),
                quantization.name,
            )
            for quantization in QUANTIZATIONS
            for interpreter in INTERPRETERS
        ),
    ]


def _from_tests(name: str) -> Any:
    """A module of the tests, which have the small servers and loaders already."""
    if str(_SUPPORT) not in sys.path:
        sys.path.append(str(_SUPPORT))
    return importlib.import_module(name)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _answer(outputs: Mapping[str, Any]) -> Answer:
    return Answer(np.asarray(outputs["probabilities"]), np.asarray(outputs["class_id"]))


@contextmanager
def _python_loader(model: Published) -> Iterator[Ask]:
    loaded = tf.saved_model.load(str(model.savedmodel))

    def ask(way: WayIn, batch: np.ndarray) -> Answer:
        outputs = loaded.signatures[way.signature](**{way.input: tf.constant(batch)})
        return _answer({name: tensor.numpy() for name, tensor in outputs.items()})

    yield ask


@contextmanager
def _saved_model_cli(model: Published) -> Iterator[Ask]:
    tool = Path(sys.executable).with_name("saved_model_cli")
    if not tool.is_file():
        raise Unavailable(f"no {tool.name} beside {sys.executable}")

    def ask(way: WayIn, batch: np.ndarray) -> Answer:
        # Fixed-width strings, so that no pickle is needed; PNG files don't end with a zero.
        batch = batch.astype("S") if way is PNGS else batch
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "batch.npy")
            np.save(source, batch)
            options = {
                "--dir": model.savedmodel,
                "--tag_set": "serve",
                "--signature_def": way.signature,
                "--inputs": f"{way.input}={source}",
                "--outdir": folder,
            }
            command = [tool, "run", *(word for option in options.items() for word in option)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
            if done.returncode:
                raise RuntimeError(f"saved_model_cli: {done.stderr}")
            names = ("probabilities", "class_id")
            return _answer({name: np.load(Path(folder, f"{name}.npy")) for name in names})

    yield ask


@contextmanager
def _c_api(model: Published) -> Iterator[Ask]:
    with filter_stderr(_LOADING_NOISE):
        session = _from_tests("c_api").CSession(model.savedmodel)
    try:
        yield lambda way, batch: _answer(session.run({way.input: batch}, way.signature))
    finally:
        session.close()


@contextmanager
def _serve(start: Start, model: Published) -> Iterator[Ask]:
    with start("--model", str(model.savedmodel.parent)) as address:
        yield partial(_ask_rest, f"{address}/v1/models/{model.savedmodel.parent.name}:predict")


@contextmanager
def _gateway(start: Start, model: Published) -> Iterator[Ask]:
    with start("--model", str(model.savedmodel.parent)) as backend:
        with start("--backend", backend) as address:
            yield partial(_ask_rest, f"{address}/v1/models/{model.savedmodel.parent.name}:predict")


def _ask_rest(url: str, way: WayIn, batch: np.ndarray) -> Answer:
    import requests

    def value(image: Any) -> Any:
        return {"b64": base64.b64encode(image).decode()} if way is PNGS else image.tolist()

    instances = [{way.input: value(image)} for image in batch]
    body = {"signature_name": way.signature, "instances": instances}
    response = requests.post(url, json=body, timeout=_SECONDS)
    response.raise_for_status()
    rows = response.json()["predictions"]
    return _answer({name: [row[name] for row in rows] for name in rows[0]})


@contextmanager
def _grpc(model: Published) -> Iterator[Ask]:
    tf.version  # noqa: B018 (quietly imported, before the stubs do it)
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    name = model.savedmodel.parent.name

    def ask(way: WayIn, batch: np.ndarray) -> Answer:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = way.signature
        request.inputs[way.input].CopyFrom(tf.make_tensor_proto(batch))
        outputs = stub.Predict(request, timeout=_SECONDS).outputs
        return _answer({name: tf.make_ndarray(tensor) for name, tensor in outputs.items()})

    with _from_tests("grpc_server").grpc_server({name: model.savedmodel}) as (address, _):
        with grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            yield ask


@contextmanager
def _tflite(quantization: str, interpreter: str, model: Published) -> Iterator[Ask]:
    path = model.tflite / f"model_{quantization}.tflite"
    if not path.is_file():
        raise Unavailable("`export` left this file out: it answers too differently")
    try:
        classifier = Classifier(path, interpreter=interpreter)
    except ImportError as error:
        raise Unavailable(str(error)) from error

    def ask(way: WayIn, batch: np.ndarray) -> Answer:
        probabilities = np.stack([classifier.classify(image) for image in batch])
        return Answer(probabilities, probabilities.argmax(axis=1))

    yield ask
