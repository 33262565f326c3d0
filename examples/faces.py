"""Two classes of faces: glasses or not, with the model's two-element distribution.

    python examples/faces.py [--epochs 20]

Patent CN111401445A, [0094] and [0272]: faces in a database are manipulated (pixels changed, images
shifted), and a model with two classes still recognizes them. Its prediction is a distribution of
two elements that sum to 1; the class is that of the larger one. The faces are drawn by this script.
"""

from __future__ import annotations

import argparse

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

import keras_srt as srt
from keras_srt import keras

CLASSES = ("no glasses", "glasses")
SIZE, LABELED, UNLABELED, TEST = 32, 100, 1000, 200
NOISE = srt.LInf(0.05, num_steps=5, step_size=0.02)
POSE = srt.Spatial(15, max_translation=2, num_samples=5)


def draw_face(glasses: bool, generator: np.random.Generator) -> np.ndarray:
    """Draw a face of random tone, size and place: uint8 [SIZE, SIZE, 1]."""
    scale = 4  # drawn larger, so that lines are smooth
    skin, ground = int(generator.integers(120, 220)), int(generator.integers(30, 250))
    hair = int(generator.integers(10, 100))
    picture = Image.new("L", (SIZE * scale, SIZE * scale), ground)
    pen = ImageDraw.Draw(picture)
    x, y = generator.uniform(-2, 2, 2) + SIZE / 2
    radius = generator.uniform(9, 12)

    def ellipse(dx: float, dy: float, rx: float, ry: float, **style: int) -> None:
        box = (x + dx - rx, y + dy - ry, x + dx + rx, y + dy + ry)
        pen.ellipse([scale * value for value in box], **style)

    ellipse(0, -0.25 * radius, 1.05 * radius, 1.05 * radius, fill=hair)
    ellipse(0, 0, 0.85 * radius, radius, fill=skin)
    for side in (-1, 1):
        ellipse(side * 0.35 * radius, -0.2 * radius, 0.08 * radius, 0.08 * radius, fill=20)
        if glasses:
            ring = {"outline": 10, "width": scale}
            ellipse(side * 0.38 * radius, -0.2 * radius, 0.3 * radius, 0.26 * radius, **ring)
    ellipse(0, 0.5 * radius, generator.uniform(0.2, 0.4) * radius, 0.08 * radius, fill=90)
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX))[..., None]


def draw_faces(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw faces of both classes: float32 [count, SIZE, SIZE, 1] in [0, 1], int32 [count]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % 2
    images = np.stack([draw_face(bool(label), generator) for label in labels])
    return np.float32(images / 255.0), labels


def train(epochs: int) -> srt.RobustModel:
    """Train by SRT on 100 labeled and 1,000 unlabeled faces."""
    keras.utils.set_random_seed(0)
    from_arrays = tf.data.Dataset.from_tensor_slices
    images, labels = draw_faces(LABELED, seed=1)
    unlabeled, _ = draw_faces(UNLABELED, seed=2)
    first = from_arrays((images, labels)).shuffle(100, 0).batch(32, drop_remainder=True)
    rest = from_arrays(unlabeled).shuffle(1000, 1).batch(48, drop_remainder=True)
    steps = epochs * (UNLABELED // 48)
    model = srt.RobustModel(
        srt.SmallCNN(width=8, hidden=32, dropout=0.0, mean=(0.5,), std=(0.25,)).build(
            (SIZE, SIZE, 1), len(CLASSES)
        ),
        srt.Composite([NOISE, POSE]),
        srt.SRT(1.0),
        strength_warmup=steps // 2,
        weight_warmup=steps // 2,
    )
    model.compile(keras.optimizers.Adam(2e-3))
    model.fit(srt.data.pair(first, rest), epochs=epochs, verbose=0)
    return model


def main() -> None:
    """Train, attack, and print distributions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="passes over all faces")
    options = parser.parse_args()
    model = train(options.epochs)
    images, labels = draw_faces(TEST, seed=3)
    attacks = [
        srt.PGD(NOISE.epsilon, num_steps=20),
        srt.GridAdv(POSE.max_rotation, max_translation=2, grid=(3, 3, 7)),
    ]
    found = srt.evaluate_robustness(model.classifier, images, labels, attacks)
    shown = {"clean": images} | {name: one.images for name, one in found.outcomes.items()}
    for name, faces in shown.items():
        logits = np.asarray(model.classifier(faces, training=False))
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        right = np.mean(shares.argmax(axis=1) == labels)
        first = ", ".join(f"{share:.2f}" for share in shares[1])
        print(
            f"{name:<8} {100 * right:5.1f}% right; the first face with glasses: ({first}), "
            f"so {CLASSES[shares[1].argmax()]!r}"
        )


if __name__ == "__main__":
    main()
