"""Attacked test images, kept in the run folder: each export is measured on the same ones."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.evaluation.runner import Robustness

_ATTACK = "attack:"


class Attacked(NamedTuple):
    """Test images and what each attack made of them on the Keras model.

    Attributes:
        images: float32 [n, height, width, channels] in [0, 1].
        labels: int32 [n], true class ids.
        found: the same images by name of the attack, tampered with.
    """

    images: np.ndarray
    labels: np.ndarray
    found: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, images: np.ndarray, robustness: Robustness, limit: int) -> Attacked:
        """The first images of an evaluation.

        Args:
            images: uint8 [n, height, width, channels], those that were attacked.
            robustness: how the evaluation ended.
            limit: how many images to take at most.
        """
        found = {name: verdict.images for name, verdict in robustness.verdicts.items()}
        return cls(np.float32(images / 255.0), robustness.labels, found).first(limit)

    def first(self, count: int) -> Attacked:
        """The same for the first `count` images."""
        found = {name: images[:count] for name, images in self.found.items()}
        return Attacked(self.images[:count], self.labels[:count], found)

    def save(self, path: Path) -> None:
        """Writes an .npz file; a kill leaves the old file or the new one."""
        draft = path.with_name(f".{path.name}.draft")
        with draft.open("wb") as file:
            found = {f"{_ATTACK}{name}": images for name, images in self.found.items()}
            np.savez_compressed(file, images=self.images, labels=self.labels, **found)
        os.replace(draft, path)

    @classmethod
    def load(cls, path: Path) -> Attacked:
        """Reads what `save` wrote.

        Raises:
            UserError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {
                    name.removeprefix(_ATTACK): arrays[name]
                    for name in arrays.files
                    if name.startswith(_ATTACK)
                }
                return cls(arrays["images"], arrays["labels"], found)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path}: is damaged ({error}); delete it, and the images are attacked anew"
            ) from error
