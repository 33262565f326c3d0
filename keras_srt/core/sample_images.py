"""Sample images in a SavedModel, for users without an image of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

NUM_SAMPLES = 3
# TensorFlow's folder for files that belong to a model and aren't loaded with it.
_FOLDER = Path("assets.extra", "samples")
_MAX_BYTES = 2**20
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_NAME = 40  # characters


class SampleImages(NamedTuple):
    """Images and the names of their classes.

    Attributes:
        images: uint8 [n, height, width, channels]; 1 or 3 channels.
        names: The class name of each image.
    """

    images: np.ndarray
    names: Sequence[str]


class EncodedSample(NamedTuple):
    """A PNG and the name of its class, in which unusual characters are replaced."""

    name: str
    png: bytes


def choose_samples(images: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> SampleImages:
    """Choose the first images of different classes, then other images, at most `NUM_SAMPLES`.

    Args:
        images: uint8 [n, height, width, channels].
        labels: Class ids, int [n].
        names: Class names in the order of their ids.

    Returns:
        The chosen images.

    Example:
        >>> images = np.zeros((4, 8, 8, 1), np.uint8)
        >>> choose_samples(images, np.int32([1, 1, 0, 1]), ["cat", "dog"]).names
        ['dog', 'cat', 'dog']
    """
    firsts = np.sort(np.unique(labels, return_index=True)[1])
    others = np.setdiff1d(np.arange(len(labels)), firsts)
    chosen = np.concatenate([firsts, others])[:NUM_SAMPLES]
    return SampleImages(images[chosen], [names[label] for label in labels[chosen]])


def write_samples(folder: Path, samples: SampleImages) -> None:
    """Write `assets.extra/samples/NUMBER-CLASS.png` for each image.

    Args:
        folder: Folder of the SavedModel.
        samples: The images.
    """
    (folder / _FOLDER).mkdir(parents=True)
    for number, (image, name) in enumerate(zip(*samples, strict=True), start=1):
        channels = image[..., 0] if image.shape[-1] == 1 else image
        safe = re.sub(r"[^\w .-]", "_", name)[:_MAX_NAME]
        Image.fromarray(channels).save(folder / _FOLDER / f"{number}-{safe}.png", optimize=True)


def read_samples(folder: Path) -> list[EncodedSample]:
    """Read the sample images of a SavedModel.

    Args:
        folder: Folder of the SavedModel.

    Returns:
        At most `NUM_SAMPLES`; none if the model has none. Files that aren't PNG or have more than
        a megabyte are left out.
    """
    found = []
    for path in sorted((folder / _FOLDER).glob("*.png")):
        if path.is_file() and path.stat().st_size <= _MAX_BYTES:
            png = path.read_bytes()
            if png.startswith(_PNG):
                found.append(EncodedSample(path.stem.partition("-")[2], png))
    return found[:NUM_SAMPLES]
