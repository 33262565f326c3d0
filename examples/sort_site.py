"""Sort the images of a site into classes, with constant memory.

    python examples/sort_site.py [--files 1000000] [--folder DIR]

Patent CN111401445A, [0095]: a site has a million images; some are deformed, or lost pixels, and a
robust model sorts them into classes. Here, a model learns scikit-learn's digits under lost pixels
and changes of pose. The "site" is a folder with hard links to 1,000 damaged digits, 1,000 files in
each subfolder. `keras-srt predict --sort-into` sorts it in a process of its own, whose memory is
measured (on Linux).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

import keras_srt as srt
from keras_srt import keras

DISTINCT = 1000
DAMAGE = srt.Composite(
    [srt.PixelDropout(0.1, num_samples=3), srt.Spatial(15, max_translation=2, num_samples=5)]
)


def train(epochs: int, export: Path) -> Path:
    """Train by SRT on 100 labeled digits; return the folder of the exported model."""
    keras.utils.set_random_seed(0)
    dataset = srt.Digits().open()
    data = dataset.load_train()
    images = np.float32(data.images / 255.0)
    labeled = tf.data.Dataset.from_tensor_slices((images[:100], data.labels[:100]))
    unlabeled = tf.data.Dataset.from_tensor_slices(images[100:])
    shape, names = dataset.info.input_shape, dataset.info.class_names
    model = srt.RobustModel(
        srt.SmallCNN(width=8, hidden=32, dropout=0.0, mean=(0.3,), std=(0.35,)).build(
            shape, len(names)
        ),
        DAMAGE,
        srt.SRT(1.0),
        strength_warmup=4 * epochs,
    )
    model.compile(keras.optimizers.Adam(2e-3))
    batches = srt.data.pair(
        labeled.shuffle(100, 0).batch(32, drop_remainder=True),
        unlabeled.shuffle(1000, 1).batch(96, drop_remainder=True),
    )
    model.fit(batches, epochs=epochs, verbose=0)
    srt.export(model, export, class_names=names)
    return export


def make_site(folder: Path, files: int) -> np.ndarray:
    """Write damaged test digits and links to them; return the label of each distinct file."""
    data = srt.Digits().open().load_test()
    choice = np.arange(DISTINCT) % len(data.images)
    images = tf.constant(np.float32(data.images[choice] / 255.0))
    damaged = DAMAGE.apply(images, DAMAGE.sample(images, (1, 2))).numpy()
    (folder / "distinct").mkdir(parents=True)
    for number, image in enumerate(np.uint8(np.round(damaged[..., 0] * 255))):
        Image.fromarray(image).save(folder / "distinct" / f"{number:04}.png")
    for number in range(files):
        part = folder / "site" / f"{number // 1000:04}"
        if number % 1000 == 0:
            part.mkdir(parents=True)
        source = folder / "distinct" / f"{number % DISTINCT:04}.png"
        os.link(source, part / f"{number:07}-{number % DISTINCT:04}.png")
    return data.labels[choice]


def sort(site: Path, model: Path, target: Path) -> list[tuple[int, float]]:
    """Sort in a process of its own; return pairs of sorted files and its memory in MiB."""
    command = [sys.executable, "-m", "keras_srt", "predict", "--json"]
    command += ["--tflite", str(model), "--sort-into", str(target), str(site)]
    measured: list[tuple[int, float]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        begin = time.monotonic()
        for done, _ in enumerate(process.stdout or (), start=1):
            if done % 10_000 == 0:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
                measured.append((done, memory))
                speed = done / (time.monotonic() - begin)
                print(f"{done:>9,} sorted  {memory:6.1f} MiB  {speed:,.0f} a second", flush=True)
    if process.returncode:
        raise SystemExit(process.returncode)
    return measured


def main() -> None:
    """Train, make the site, sort it, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=30, help="of training")
    parser.add_argument("--folder", type=Path, help="an empty folder; by default a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        exported = train(options.epochs, folder / "exported")
        labels = make_site(folder, options.files)
        model = next(exported.rglob("model_float32.tflite"))
        sort(folder / "site", model, folder / "sorted")
        right = total = 0
        for link in (folder / "sorted").glob("*/*.png"):
            total += 1
            right += int(link.parent.name) == labels[int(link.stem.split("-")[1])]
        print(f"{total:,} of {options.files:,} files sorted, {100 * right / total:.1f}% rightly")


if __name__ == "__main__":
    main()
