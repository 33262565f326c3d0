"""Attacked test images, stored in the run folder to measure every export on the same ones."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.files import write_arrays
from keras_srt.evaluation.robustness import Robustness

_ATTACK = "attack:"


class AttackedImages(NamedTuple):
    """Test images before and after attacks on the Keras model.

    Attributes:
        images: Clean images, float32 [n, height, width, channels] in [0, 1].
        labels: True classes, int32 [n].
        attacked: Attacked images of the same shape, by name of the attack.
    """

    images: np.ndarray
    labels: np.ndarray
    attacked: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, images: np.ndarray, robustness: Robustness, limit: int) -> AttackedImages:
        """Collect the first images of an evaluation.

        Args:
            images: The images of the evaluation, uint8 [n, height, width, channels].
            robustness: Results of the evaluation.
            limit: Largest number of images.
        """
        attacked = {name: outcome.images for name, outcome in robustness.outcomes.items()}
        return cls(np.float32(images / 255.0), robustness.labels, attacked).first(limit)

    def first(self, count: int) -> AttackedImages:
        """Select the first `count` images."""
        attacked = {name: images[:count] for name, images in self.attacked.items()}
        return AttackedImages(self.images[:count], self.labels[:count], attacked)

    def save(self, path: Path) -> None:
        """Write an .npz file atomically."""
        attacked = {f"{_ATTACK}{name}": images for name, images in self.attacked.items()}
        write_arrays(path, images=self.images, labels=self.labels, **attacked)

    @classmethod
    def load(cls, path: Path) -> AttackedImages:
        """Read a file that `save` wrote.

        Raises:
            UserError: The file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                attacked = {
                    name.removeprefix(_ATTACK): arrays[name]
                    for name in arrays.files
                    if name.startswith(_ATTACK)
                }
                return cls(arrays["images"], arrays["labels"], attacked)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path}: is damaged ({error}); delete the file to attack the images again"
            ) from error
