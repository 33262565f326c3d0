"""Learning with `model_train.tflite`: one SRT step at a time, in a TFLite interpreter."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.images import BadImage
from keras_srt.device.classify import check_pixels, open_interpreter
from keras_srt.device.model_file import BadModel, read_labels

SETTINGS = "training.json"
# Settings that may differ from step to step.
SCALARS = (
    "learning_rate",
    "momentum",
    "weight_decay",
    "epsilon",
    "step_size",
    "robust_weight",
)
_SIGNATURES = {"infer", "train", "get_weights", "set_weights"}


def add_settings(path: str | Path, settings: Mapping[str, Any]) -> None:
    """Puts the settings of a step beside the labels inside a .tflite file."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(SETTINGS, json.dumps(dict(settings), indent=2) + "\n")


class Trainer:
    """A classifier that learns; it answers like `keras_srt.device.Classifier`, too.

    One object serves one thread at a time.

    Args:
        path: `model_train.tflite`, as `keras-srt export --trainable` writes it.
        num_threads: threads of the interpreter, at least 1.
        interpreter: a key of `keras_srt.device.classify.INTERPRETERS`; by default the first
            that is installed.

    Attributes:
        labels: the class names in the order of their ids.
        shape: (height, width, channels) of an image.
        settings: sizes of the batches and defaults of a step, see
            `keras_srt.exporters.trainable_tflite.exporter.DeviceTrainingSettings`.
        checksum: SHA-256 of the file, which saved weights refer to.

    Raises:
        BadModel: the file is missing, damaged, or can't learn.
        ImportError: no interpreter is installed.

    Example:
        >>> trainer = Trainer("model_train.tflite")  # doctest: +SKIP
        >>> losses = trainer.step(labeled, labels, unlabeled, noise)  # doctest: +SKIP
        >>> losses["loss"]  # doctest: +SKIP
        1.25
    """

    def __init__(
        self, path: str | Path, num_threads: int = 1, interpreter: str | None = None
    ) -> None:
        self.labels: list[str] = read_labels(path)
        self.settings = _read_settings(path)
        self.checksum = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        # Runners borrow the interpreter: it has to live as long as they do.
        self._interpreter = open_interpreter(path, num_threads, interpreter)
        if set(self._interpreter.get_signature_list()) != _SIGNATURES:
            raise BadModel(f"{path}: lacks the signatures {', '.join(sorted(_SIGNATURES))}")
        self._run = {name: self._interpreter.get_signature_runner(name) for name in _SIGNATURES}
        image = self._run["infer"].get_input_details()["image"]
        height, width, channels = (int(size) for size in image["shape"][1:])
        self.shape = (height, width, channels)

    def classify(self, image: np.ndarray) -> np.ndarray:
        """The distribution over the classes for one image, by the weights as they are now.

        Args:
            image: float32 [height, width, channels] in [0, 1].

        Returns:
            Probabilities, float32 [classes].

        Raises:
            BadImage: another shape, NaN, or out of range.
        """
        pixels = check_pixels(image, self.shape)
        return self._run["infer"](image=pixels[None])["probabilities"][0]

    def step(
        self,
        labeled: np.ndarray,
        labels: np.ndarray,
        unlabeled: np.ndarray,
        noise: np.ndarray,
        **scalars: float,
    ) -> dict[str, float]:
        """One SRT step: the weights change.

        Args:
            labeled: float32 [settings["labeled"], height, width, channels] in [0, 1].
            labels: class ids, [settings["labeled"]].
            unlabeled: float32 [settings["unlabeled"], height, width, channels] in [0, 1].
            noise: float32 in [-1, 1], the random start of the inner maximization in units
                of ε: [labeled + unlabeled, height, width, channels]; zeros for none.
            **scalars: of `SCALARS`, where they are to differ from `settings`.

        Returns:
            `loss` and its terms `labeled` and `robust`, before the update.

        Raises:
            BadImage: images or labels of another shape or out of range; nothing changed.
            TypeError: an unknown scalar.
        """
        unknown = sorted(set(scalars) - set(SCALARS))
        if unknown:
            raise TypeError(f"got {unknown}; allowed: {', '.join(SCALARS)}")
        sizes = self.settings["labeled"], self.settings["unlabeled"]
        ids = np.asarray(labels, np.int32)
        if ids.shape != sizes[:1] or not (ids.min() >= 0 and ids.max() < len(self.labels)):
            raise BadImage(
                f"labels: got {ids.tolist()}; allowed: {sizes[0]} ids below {len(self.labels)}"
            )
        values = {name: scalars.get(name, self.settings[name]) for name in SCALARS}
        losses = self._run["train"](
            labeled=_checked("labeled", labeled, (sizes[0], *self.shape)),
            labels=ids,
            unlabeled=_checked("unlabeled", unlabeled, (sizes[1], *self.shape)),
            noise=_checked("noise", noise, (sum(sizes), *self.shape), low=-1.0),
            **{name: np.float32(value) for name, value in values.items()},
        )
        return {name: float(value) for name, value in losses.items()}

    def get_weights(self) -> dict[str, np.ndarray]:
        """The whole state by name: weights, BatchNorm statistics, velocities of SGD."""
        return self._run["get_weights"]()

    def set_weights(self, state: Mapping[str, np.ndarray]) -> None:
        """Replaces the whole state.

        Args:
            state: as `get_weights` gives it.

        Raises:
            ValueError: names or shapes that are not this model's; nothing changed.
        """
        expected = self._run["set_weights"].get_input_details()
        if set(state) != set(expected):
            different = sorted(set(state) ^ set(expected))
            raise ValueError(f"other names than the model's: {', '.join(different[:3])}")
        for name, details in expected.items():
            if np.shape(state[name]) != tuple(details["shape"]):
                raise ValueError(
                    f"{name}: got the shape {np.shape(state[name])}; allowed: "
                    f"{tuple(details['shape'])}"
                )
        self._run["set_weights"](**{k: np.asarray(v, np.float32) for k, v in state.items()})


def _checked(name: str, images: np.ndarray, shape: tuple[int, ...], low: float = 0.0) -> np.ndarray:
    try:
        return check_pixels(images, shape, low)
    except BadImage as error:
        raise BadImage(f"{name}: {error}") from error


def _read_settings(path: str | Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(SETTINGS))
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadModel(
            f"{path}: can't learn (no {SETTINGS} inside); give a model_train.tflite, which "
            "`keras-srt export --trainable` writes"
        ) from error
