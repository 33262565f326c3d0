"""One interface to classify images with a SavedModel, a TFLite file or a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from typing_extensions import override

from keras_srt.core.errors import UserError
from keras_srt.core.images import BadImage, decode_image
from keras_srt.core.model_loading import load_savedmodel
from keras_srt.core.model_safety import check_file_format
from keras_srt.core.tensorflow import load_tensorflow, tf
from keras_srt.foreign.adapt import open_classifier
from keras_srt.foreign.model_options import ModelOptions
from keras_srt.foreign.open_file import CONTENT, newest_savedmodel
from keras_srt.foreign.savedmodels import LABELS
from keras_srt.serving.client.grpc_client import GrpcClient
from keras_srt.serving.client.predictions import Predictions, RequestRefused
from keras_srt.serving.client.rest_client import RestClient

_DEFAULTS = ModelOptions()
# Pillow releases Python's lock while decoding; a thread may need 200 MB for a large image.
_DECODING_THREADS = min(4, os.cpu_count() or 1)
_CONCURRENT_REQUESTS = 4


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        probabilities: Float32 [classes]; None if the image failed.
        classes: Class names in the order of their ids.
        error: Why the image failed, or "".
    """

    probabilities: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    error: str = ""

    def top(self, count: int) -> list[int]:
        """Return the ids of the most probable classes in order; empty if the image failed.

        Example:
            >>> Prediction(np.float32([0.25, 0.5, 0.25]), ("a", "b", "c")).top(2)
            [1, 0]
        """
        if self.probabilities is None:
            return []
        return np.argsort(-self.probabilities, kind="stable")[:count].tolist()


class Classifier(Protocol):
    """A model that classifies batches of encoded images.

    Attributes:
        title: Name and version of the model, for display.
        concurrency: Maximum number of concurrent calls of `classify`.
    """

    title: str
    concurrency: int

    def classify(self, images: Sequence[bytes]) -> list[Prediction]:
        """Classify images; an unreadable image does not affect the others.

        Args:
            images: Content of image files; at least one.

        Returns:
            One prediction per image, in the same order.
        """


class LocalClassifier(Classifier):
    """A model in this process, with images decoded by Pillow.

    Args:
        title: Name of the model, for display.
        shape: Input shape (height, width, channels).
        run: Float32 [batch, height, width, channels] in [0, 1] -> probabilities float32
            [batch, classes], and class names.
        conversions: What `run` does to images and outputs of a third-party model.
    """

    concurrency = 1

    def __init__(
        self,
        title: str,
        shape: tuple[int, int, int],
        run: Callable[[np.ndarray], tuple[np.ndarray, tuple[str, ...]]],
        conversions: tuple[str, ...] = (),
    ) -> None:
        self.title, self.conversions = title, conversions
        self._shape = shape
        self._run = run
        self._decoders = ThreadPoolExecutor(_DECODING_THREADS)

    @override
    def classify(self, images: Sequence[bytes]) -> list[Prediction]:
        decoded = list(self._decoders.map(self._decode, images))
        readable = [image for image in decoded if isinstance(image, np.ndarray)]
        rows, classes = self._run(np.stack(readable)) if readable else ((), ())
        predictions = iter([_prediction(row, classes) for row in rows])
        return [
            next(predictions) if isinstance(image, np.ndarray) else Prediction(error=image)
            for image in decoded
        ]

    def _decode(self, data: bytes) -> np.ndarray | str:
        """Decode an image, or return why it can't be read."""
        try:
            return decode_image(data, self._shape)
        except BadImage as error:
            return str(error)


class ServedClassifier(Classifier):
    """A model on a server, which decodes the images.

    A refused batch is sent again image by image, because a single image may make TF Serving
    refuse the whole batch.

    Args:
        client: A client of the model.
        address: Address of the server, for display.
    """

    concurrency = _CONCURRENT_REQUESTS

    def __init__(self, client: RestClient | GrpcClient, address: str) -> None:
        self.title = f"{client.name}, version {client.version} ({address})"
        self._client = client

    @override
    def classify(self, images: Sequence[bytes]) -> list[Prediction]:
        try:
            predictions = self._client.predict(images)
        except RequestRefused as error:
            if len(images) == 1:
                return [Prediction(error=f"the server refuses it ({error})")]
            return [prediction for image in images for prediction in self.classify([image])]
        return [self._prediction(predictions, i, image) for i, image in enumerate(images)]

    @staticmethod
    def _prediction(predictions: Predictions, index: int, image: bytes) -> Prediction:
        if predictions.valid[index]:
            return _prediction(predictions.probabilities[index], predictions.classes)
        # The protocol does not transmit the reason; decoding here probably fails for the same one.
        try:
            decode_image(image, (8, 8, 3))
        except BadImage as error:
            return Prediction(error=str(error))
        return Prediction(
            error="the server can't read it (TF Serving reads PNG, gray and RGB JPEG)"
        )


def _prediction(probabilities: np.ndarray, classes: tuple[str, ...]) -> Prediction:
    if not np.isfinite(probabilities).all():
        return Prediction(error="the model outputs NaN or infinity")
    return Prediction(np.asarray(probabilities, np.float32), classes)


def open_model(
    path: Path, options: ModelOptions = _DEFAULTS, labels: Path | None = None
) -> LocalClassifier:
    """Open a model that `keras-srt export` or another program wrote.

    Args:
        path: Folder of a SavedModel, or `saved_models/<name>` for its newest version; a `.keras`
            or a `.tflite` file.
        options: What the user declares about a third-party model.
        labels: A file with its class names; None for those in the model, or for the class ids.

    Returns:
        The classifier; `conversions` names what is done to images and outputs.

    Raises:
        UserError: The model can't be opened, or must be declared, see `foreign.adapt`.
    """
    check_file_format(path)
    declares = labels is not None or options._replace(foreign=False) != _DEFAULTS
    if path.is_dir() and not declares:
        ours = _open_export(_newest_version(path), options.foreign)
        if ours is not None:
            return ours
    adapted, names = open_classifier(path, options, labels)

    def run(images: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        return tf.nn.softmax(adapted(tf.constant(images))).numpy(), names

    title = f"{path} ({adapted.opened.kind})"
    return LocalClassifier(title, adapted.image_shape, run, adapted.conversions)


def _open_export(folder: Path, foreign: bool) -> LocalClassifier | None:
    """Open a SavedModel with the signatures of `keras-srt export`; None if it has others."""
    loaded = load_savedmodel(folder, foreign)
    signature = loaded.signatures.get("image")
    if signature is None or "probabilities" not in signature.structured_outputs:
        return None
    labels = folder / LABELS
    names = tuple(labels.read_text("utf-8").splitlines()) if labels.is_file() else None

    def run(images: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        # Through `loaded`, because the signature doesn't hold references to the variables.
        outputs = loaded.signatures["image"](image=tf.constant(images))
        probabilities = outputs["probabilities"].numpy()
        if "valid" in outputs:
            # The images are valid, so the model output NaN.
            probabilities[~outputs["valid"].numpy()] = np.nan
        return probabilities, _class_names(outputs, names, probabilities.shape[1])

    return LocalClassifier(f"{folder} (SavedModel)", _image_shape(folder, signature), run)


def _newest_version(folder: Path) -> Path:
    found = newest_savedmodel(folder)
    if found is None:
        raise UserError(
            f"--model {folder}: not a SavedModel (with {CONTENT}) and without versions of "
            "one; allowed: saved_models/NAME or saved_models/NAME/VERSION"
        )
    return found


def _image_shape(folder: Path, signature: Any) -> tuple[int, int, int]:
    shape = signature.structured_input_signature[1]["image"].shape
    if shape.rank != 4 or None in shape[1:]:
        raise UserError(
            f"--model {folder}: its signature 'image' takes {shape}; allowed: [batch, height, "
            "width, channels] with a fixed size"
        )
    return tuple(shape[1:])


def _class_names(
    outputs: dict[str, Any], labels: tuple[str, ...] | None, count: int
) -> tuple[str, ...]:
    """Return the class names of the model, else of its labels file, else the class ids."""
    if "classes" in outputs:
        return tuple(name.decode("utf-8", "replace") for name in outputs["classes"][0].numpy())
    if labels is not None and len(labels) == count:
        return labels
    return tuple(map(str, range(count)))


def open_tflite(path: Path) -> LocalClassifier:
    """Open a .tflite file that `keras-srt export` wrote.

    Args:
        path: The file.

    Returns:
        The classifier.

    Raises:
        UserError: The file can't be loaded, or no interpreter is installed.
    """
    from keras_srt.device.classify import BadModel, installed_interpreter
    from keras_srt.device.classify import Classifier as DeviceClassifier

    try:
        if installed_interpreter() == "tensorflow":
            load_tensorflow()
        device = DeviceClassifier(path)
    except (BadModel, ImportError) as error:
        raise UserError(f"--tflite {error}") from error
    classes = tuple(device.labels)

    def run(images: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        return np.stack([device.classify(image) for image in images]), classes

    return LocalClassifier(f"{path} (TFLite)", device.shape, run)


def open_server(address: str, name: str | None = None, grpc: bool = False) -> ServedClassifier:
    """Connect to a model of TF Serving or `keras-srt serve`.

    Args:
        address: `http://host:8501[/v1/models/NAME]`; `host:8500` with `grpc`.
        name: Name of the model, for addresses without one.
        grpc: Whether to use gRPC instead of REST.

    Returns:
        The classifier.

    Raises:
        UserError: The server can't be reached, or has no such model.
    """
    if grpc:
        return ServedClassifier(GrpcClient(address, name), address)
    return ServedClassifier(RestClient(address, name, connections=_CONCURRENT_REQUESTS), address)
