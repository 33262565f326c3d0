"""One way to ask any model: a SavedModel, a TFLite file or a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.images import BadImage, decode_image
from keras_srt.core.model_safety import check_file_format, check_savedmodel
from keras_srt.core.tensorflow import tf
from keras_srt.serving.client.rest_client import GrpcClient, Predictions, Refused, RestClient

# Pillow decodes outside of Python's lock; each thread may need 200 MB for a large image.
_DECODING_THREADS = min(4, os.cpu_count() or 1)
_REQUESTS_AT_A_TIME = 4


@dataclass(frozen=True)
class Answer:
    """What a model says of one image.

    Attributes:
        probabilities: float32 [classes]; None where the image failed.
        classes: the names, in the order of their ids.
        error: why the image failed, else empty.
    """

    probabilities: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    error: str = ""

    def top(self, count: int) -> list[int]:
        """The ids of the most probable classes, the first one first; none where the image failed.

        Example:
            >>> Answer(np.float32([0.25, 0.5, 0.25]), ("a", "b", "c")).top(2)
            [1, 0]
        """
        if self.probabilities is None:
            return []
        return np.argsort(-self.probabilities, kind="stable")[:count].tolist()


class Classifier(Protocol):
    """Answers batches of encoded images.

    Attributes:
        title: names the model and its version, for people.
        concurrency: batches that may be asked for at the same time.
    """

    title: str
    concurrency: int

    def classify(self, images: Sequence[bytes]) -> list[Answer]:
        """Answers each image; a bad one fails alone.

        Args:
            images: files' content, at least one.

        Returns:
            An answer for each, in the same order.
        """


class LocalClassifier:
    """A model in this process: Pillow decodes, the model gets floats.

    Args:
        title: names the model.
        shape: (height, width, channels) that it takes.
        run: float32 [batch, height, width, channels] in [0, 1] -> probabilities float32
            [batch, classes] and the names of the classes.
    """

    concurrency = 1

    def __init__(
        self,
        title: str,
        shape: tuple[int, int, int],
        run: Callable[[np.ndarray], tuple[np.ndarray, tuple[str, ...]]],
    ) -> None:
        self.title = title
        self._shape = shape
        self._run = run
        self._decoders = ThreadPoolExecutor(_DECODING_THREADS)

    def classify(self, images: Sequence[bytes]) -> list[Answer]:
        """See `Classifier.classify`."""
        decoded = list(self._decoders.map(self._decode, images))
        good = [image for image in decoded if isinstance(image, np.ndarray)]
        rows, classes = self._run(np.stack(good)) if good else ((), ())
        answers = iter([_answer(row, classes) for row in rows])
        return [
            next(answers) if isinstance(image, np.ndarray) else Answer(error=image)
            for image in decoded
        ]

    def _decode(self, data: bytes) -> np.ndarray | str:
        """The image, or why it can't be read."""
        try:
            return decode_image(data, self._shape)
        except BadImage as error:
            return str(error)


class ServedClassifier:
    """A model behind a server, which decodes the images itself.

    A batch that the server refuses is sent again image by image, because one image may fail
    the others: TF Serving decodes a batch as a whole.

    Args:
        client: connected to the model.
        address: as the user gave it.
    """

    concurrency = _REQUESTS_AT_A_TIME

    def __init__(self, client: RestClient | GrpcClient, address: str) -> None:
        self.title = f"{client.name}, version {client.version} ({address})"
        self._client = client

    def classify(self, images: Sequence[bytes]) -> list[Answer]:
        """See `Classifier.classify`."""
        try:
            predictions = self._client.predict(images)
        except Refused as error:
            if len(images) == 1:
                return [Answer(error=f"the server refuses it ({error})")]
            return [answer for image in images for answer in self.classify([image])]
        return [self._answer(predictions, i, image) for i, image in enumerate(images)]

    @staticmethod
    def _answer(predictions: Predictions, index: int, image: bytes) -> Answer:
        if predictions.valid[index]:
            return _answer(predictions.probabilities[index], predictions.classes)
        # The protocol has no room for a reason; ours is most probably the server's, too.
        try:
            decode_image(image, (8, 8, 3))
        except BadImage as error:
            return Answer(error=str(error))
        return Answer(error="the server can't read it")


def _answer(probabilities: np.ndarray, classes: tuple[str, ...]) -> Answer:
    if not np.isfinite(probabilities).all():
        return Answer(error="the model answers with NaN or infinity")
    return Answer(np.asarray(probabilities, np.float32), classes)


def open_savedmodel(folder: Path, foreign: bool = False) -> LocalClassifier:
    """Opens a SavedModel that `keras-srt export` wrote.

    Args:
        folder: of the SavedModel, or `saved_models/<name>`, whose newest version is taken.
        foreign: whether one from elsewhere may be run, see `untrusted.check_savedmodel`.

    Returns:
        The classifier.

    Raises:
        UserError: it is no SavedModel, or has other signatures.
    """
    check_file_format(folder)
    folder = _newest_version(folder)
    if not foreign:
        check_savedmodel(folder)
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(f"--model {folder}: can't be loaded ({_first_line(error)})") from error
    signature = loaded.signatures.get("image")
    if signature is None or "probabilities" not in signature.structured_outputs:
        has = ", ".join(sorted(loaded.signatures)) or "none"
        raise UserError(
            f"--model {folder}: has no signature 'image' that gives 'probabilities' (it has: "
            f"{has}); export the run again with `keras-srt export`"
        )
    labels = folder / "assets" / "labels.txt"
    names = tuple(labels.read_text("utf-8").splitlines()) if labels.is_file() else None

    def run(images: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        # `loaded` owns the variables, which the signature doesn't keep alive.
        outputs = loaded.signatures["image"](image=tf.constant(images))
        probabilities = outputs["probabilities"].numpy()
        if "valid" in outputs:
            # The images are all right, so the model's answer isn't.
            probabilities[~outputs["valid"].numpy()] = np.nan
        return probabilities, _class_names(outputs, names, probabilities.shape[1])

    return LocalClassifier(f"{folder} (SavedModel)", _image_shape(folder, signature), run)


def _newest_version(folder: Path) -> Path:
    if (folder / "saved_model.pb").is_file():
        return folder
    if not folder.is_dir():
        raise UserError(f"--model {folder}: no such folder")
    versions = [
        path
        for path in folder.iterdir()
        if path.name.isdecimal() and (path / "saved_model.pb").is_file()
    ]
    if not versions:
        raise UserError(
            f"--model {folder}: is no SavedModel (with saved_model.pb) and has no versions of one; "
            "allowed: saved_models/NAME or saved_models/NAME/VERSION"
        )
    return max(versions, key=lambda path: int(path.name))


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
    """The names that the model gives, else those in its labels file, else the ids."""
    if "classes" in outputs:
        return tuple(name.decode("utf-8", "replace") for name in outputs["classes"][0].numpy())
    if labels is not None and len(labels) == count:
        return labels
    return tuple(map(str, range(count)))


def open_tflite(path: Path) -> LocalClassifier:
    """Opens a .tflite file that `keras-srt export` wrote.

    Args:
        path: the file.

    Returns:
        The classifier.

    Raises:
        UserError: it can't be loaded, or no interpreter is installed.
    """
    from keras_srt.device.classify import BadModel
    from keras_srt.device.classify import Classifier as DeviceClassifier

    try:
        device = DeviceClassifier(path)
    except (BadModel, ImportError) as error:
        raise UserError(f"--tflite {error}") from error
    classes = tuple(device.labels)

    def run(images: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        return np.stack([device.classify(image) for image in images]), classes

    return LocalClassifier(f"{path} (TFLite)", device.shape, run)


def open_server(address: str, name: str | None = None, grpc: bool = False) -> ServedClassifier:
    """Connects to a model behind TF Serving or `keras-srt serve`.

    Args:
        address: `http://host:8501[/v1/models/NAME]`; `host:8500` with `grpc`.
        name: of the model, where the address has none.
        grpc: whether to speak gRPC and not REST.

    Returns:
        The classifier.

    Raises:
        UserError: the server can't be reached, or has no such model.
    """
    if grpc:
        return ServedClassifier(GrpcClient(address, name), address)
    return ServedClassifier(RestClient(address, name, connections=_REQUESTS_AT_A_TIME), address)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
