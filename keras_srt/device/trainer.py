"""SRT training steps with `model_train.tflite` in a TFLite interpreter."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.images import BadImage
from keras_srt.device.classify import check_pixels, open_interpreter
from keras_srt.device.model_file import SETTINGS, BadModel, read_labels

# Settings that can change from step to step: of every model, and by stage of the neighborhood.
_ALWAYS = ("learning_rate", "momentum", "weight_decay", "robust_weight")
_OF_STAGE = {
    "linf": ("epsilon", "step_size"),
    "l2": ("epsilon", "step_size"),
    "spatial": ("max_rotation", "max_translation"),
}
SCALARS = (*_ALWAYS, *_OF_STAGE["linf"], *_OF_STAGE["spatial"])
# The settings of files that are older than these settings.
_DEFAULTS: dict[str, Any] = {"stages": ["linf"], "num_samples": 1}
_SIGNATURES = {"infer", "train", "get_weights", "set_weights"}


def add_settings(path: str | Path, settings: Mapping[str, Any]) -> None:
    """Add the training settings to the archive in a .tflite file; see `add_labels`."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(SETTINGS, json.dumps(dict(settings), indent=2) + "\n")


def scalars_of(stages: Sequence[str]) -> tuple[str, ...]:
    """Return the settings that can change from step to step, for the stages of a neighborhood."""
    return (*_ALWAYS, *(name for stage in stages for name in _OF_STAGE[stage]))


def input_shapes(
    settings: Mapping[str, Any], shape: tuple[int, int, int]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the float32 arrays that a step takes, by name.

    Args:
        settings: The settings of `model_train.tflite`.
        shape: Height, width and channels of an image.
    """
    labeled, unlabeled, stages = (settings[key] for key in ("labeled", "unlabeled", "stages"))
    shapes: dict[str, tuple[int, ...]] = {"labeled": (labeled, *shape)}
    if unlabeled:
        shapes["unlabeled"] = (unlabeled, *shape)
    if "linf" in stages or "l2" in stages:
        shapes["noise"] = (labeled + unlabeled, *shape)
    if "spatial" in stages:
        shapes["draws"] = (settings["num_samples"], labeled + unlabeled, 3)
    return shapes


class Trainer:
    """A trainable classifier; it classifies like `keras_srt.device.Classifier`.

    Not thread-safe.

    Args:
        path: The `model_train.tflite` that `keras-srt export --trainable` wrote.
        num_threads: The number of interpreter threads, at least 1.
        interpreter: A key of `keras_srt.device.classify.INTERPRETERS`; None for the first one
            that is installed.

    Attributes:
        labels: The class names in the order of their ids.
        shape: Height, width and channels of an image.
        scalars: The settings that can change from step to step.
        settings: Batch sizes and defaults of a step; see
            `keras_srt.exporters.trainable_tflite.exporter.DeviceTrainingSettings`.
        checksum: The SHA-256 of the file, which is stored with saved weights.

    Raises:
        BadModel: The file is missing, damaged, or not trainable.
        ImportError: No interpreter is installed.

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
        self.settings = _DEFAULTS | _read_settings(path)
        self.scalars = scalars_of(self.settings["stages"])
        self.checksum = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        # Signature runners do not keep the interpreter alive.
        self._interpreter = open_interpreter(path, num_threads, interpreter)
        if set(self._interpreter.get_signature_list()) != _SIGNATURES:
            raise BadModel(f"{path}: lacks the signatures {', '.join(sorted(_SIGNATURES))}")
        self._run = {name: self._interpreter.get_signature_runner(name) for name in _SIGNATURES}
        image = self._run["infer"].get_input_details()["image"]
        height, width, channels = (int(size) for size in image["shape"][1:])
        self.shape = (height, width, channels)

    def classify(self, image: np.ndarray) -> np.ndarray:
        """Return the class probabilities of an image with the current weights.

        Args:
            image: float32 [height, width, channels] in [0, 1].

        Returns:
            float32 [classes].

        Raises:
            BadImage: The shape is wrong, or a value is NaN or out of range.
        """
        pixels = check_pixels(image, self.shape)
        return self._run["infer"](image=pixels[None])["probabilities"][0]

    def step(
        self,
        labeled: np.ndarray,
        labels: np.ndarray,
        unlabeled: np.ndarray | None = None,
        noise: np.ndarray | None = None,
        draws: np.ndarray | None = None,
        **scalars: float,
    ) -> dict[str, float]:
        """Update the weights with one step of SRT, or of RT without unlabeled images.

        Args:
            labeled: float32 [settings["labeled"], height, width, channels] in [0, 1].
            labels: Class ids, [settings["labeled"]].
            unlabeled: float32 [settings["unlabeled"], height, width, channels] in [0, 1]; None if
                that number is 0.
            noise: float32 [labeled + unlabeled, height, width, channels] in [-1, 1], the random
                start in the pixel ball in units of ε; zeros for no random start. None without a
                pixel ball.
            draws: float32 [settings["num_samples"], labeled + unlabeled, 3] in [-1, 1], rotations
                and translations right and down in units of their limits. None without a spatial
                stage.
            **scalars: Values of `scalars` that override `settings`.

        Returns:
            The loss before the update (`loss`), and its terms `labeled` and `robust`.

        Raises:
            BadImage: Images or labels have the wrong shape or are out of range; the weights are
                unchanged.
            TypeError: A scalar is unknown, or an array is missing or not used.
        """
        unknown = sorted(set(scalars) - set(self.scalars))
        if unknown:
            raise TypeError(f"got {unknown}; allowed: {', '.join(self.scalars)}")
        given = {"labeled": labeled, "unlabeled": unlabeled, "noise": noise, "draws": draws}
        given = {name: array for name, array in given.items() if array is not None}
        shapes = input_shapes(self.settings, self.shape)
        if set(given) != set(shapes):
            raise TypeError(f"got {', '.join(given)}; this model takes {', '.join(shapes)}")
        size, ids = self.settings["labeled"], np.asarray(labels, np.int32)
        if ids.shape != (size,) or not (ids.min() >= 0 and ids.max() < len(self.labels)):
            raise BadImage(
                f"labels: got {ids.tolist()}; allowed: {size} ids below {len(self.labels)}"
            )
        low = {"noise": -1.0, "draws": -1.0}
        values = {name: scalars.get(name, self.settings[name]) for name in self.scalars}
        losses = self._run["train"](
            labels=ids,
            **{
                name: _checked(name, given[name], shape, low.get(name, 0.0))
                for name, shape in shapes.items()
            },
            **{name: np.float32(value) for name, value in values.items()},
        )
        return {name: float(value) for name, value in losses.items()}

    def get_weights(self) -> dict[str, np.ndarray]:
        """Return the state by name: weights, BatchNorm statistics, SGD velocities."""
        return self._run["get_weights"]()

    def set_weights(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace the state.

        Args:
            state: The state, as returned by `get_weights`.

        Raises:
            ValueError: Names or shapes do not match the model; the state is unchanged.
        """
        expected = self._run["set_weights"].get_input_details()
        if set(state) != set(expected):
            different = sorted(set(state) ^ set(expected))
            raise ValueError(f"names do not match the model: {', '.join(different[:3])}")
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
            f"{path}: is not trainable (no {SETTINGS} inside); give a model_train.tflite, which "
            "`keras-srt export --trainable` writes"
        ) from error
