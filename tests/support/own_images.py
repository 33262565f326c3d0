"""A folder of own images for tests: sixteen gray digits of two classes, and some without labels."""

import csv

import numpy as np
from PIL import Image

from keras_srt.data import Digits

NAMES = ("one", "seven")


def digits(count):
    """Images of the digits 1 and 7, uint8 [count, 12, 12], and their labels, 0 and 1."""
    images, labels = Digits(size=12).open().load_train()
    chosen = np.flatnonzero(np.isin(labels, (1, 7)))[:count]
    return images[chosen, :, :, 0], np.int32(labels[chosen] == 7)


def make_folder(root, labeled=40, unlabeled=30, suffixes=("png", "bmp", "gif")):
    """Writes `labeled/one`, `labeled/seven` and `unlabeled/deep/er`; gives the two folders."""
    images, labels = digits(labeled + unlabeled)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / "labeled" / NAMES[label] if number < labeled else root / "unlabeled/deep/er"
        folder.mkdir(parents=True, exist_ok=True)
        suffix = suffixes[number % len(suffixes)]
        Image.fromarray(image).save(folder / f"{number:03}.{suffix}")
    return root / "labeled", root / "unlabeled"


def write_csv(path, rows, header=("path", "label")):
    """Writes a CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def settings(root, **changes):
    """The `data` section of a config with the folders below `root`."""
    return {
        "source": "folder",
        "labeled": str(root / "labeled"),
        "unlabeled": str(root / "unlabeled"),
        "size": 12,
        "channels": 1,
        **changes,
    }
