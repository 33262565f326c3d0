"""Attacks of other libraries on the CIFAR-10 models in saved_models/, beside ours."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt import evaluate
from keras_srt.attacks import PGD, Attack, AutoAttack, GridAdv
from keras_srt.core.model_loading import load_savedmodel
from keras_srt.core.tensorflow import tf
from keras_srt.data import CIFAR10

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "saved_models"
_EPSILON, _STEPS, _STEP_SIZE = 8 / 255, 10, 0.007
_DEGREES, _PIXELS, _GRID = 30, 3, (5, 5, 31)
# Of `keras_srt.models.resnet9`.
_MEAN, _STD, _FEATURE_SCALE = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), 0.25
# Arrays of a block: kernel, gamma, beta, mean and variance.
_BLOCK, _NUM_BLOCKS = 5, 8


class ShippedModel:
    """A model of saved_models/ as the libraries need it.

    Args:
        name: Its folder, with a ResNet-9 as version 1.
    """

    def __init__(self, name: str) -> None:
        self._loaded = load_savedmodel(MODELS / name / "1")  # keeps the variables
        self.signature = self._loaded.signatures["logits"]

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Return the logits [batch, 10] of images float32 [batch, 32, 32, 3] in [0, 1]."""
        return self.signature(images=images)["logits"]

    @cached_property
    def twin(self) -> Any:
        """The same network in Torch, images [batch, 3, 32, 32] -> logits."""
        return resnet9_twin([variable.numpy() for variable in self.signature.variables])


def resnet9_twin(weights: list[np.ndarray]) -> Any:
    """Build a ResNet-9 in Torch.

    Args:
        weights: Five arrays of each block, and kernel and bias of the last layer, in Keras' order.

    Returns:
        A `torch.nn.Module` in inference mode.
    """
    import torch

    blocks = [_block(weights[first : first + _BLOCK]) for first in range(0, 40, _BLOCK)]
    kernel, bias = (torch.from_numpy(array) for array in weights[_BLOCK * _NUM_BLOCKS :])
    mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))

    class Twin(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            x = blocks[0]((images - mean) / std, pool=False)
            for number in (1, 4, 5):
                x = blocks[number](x, pool=True)
                if number != 4:
                    inner = blocks[number + 1](x, pool=False)
                    x = x + blocks[number + 2](inner, pool=False)
            return _FEATURE_SCALE * x.amax((2, 3)) @ kernel + bias

    return Twin().eval()


def _block(weights: list[np.ndarray]) -> Callable[..., Any]:
    """Convolution, optional max pooling, BatchNorm and ReLU."""
    import torch
    from torch.nn import functional

    kernel, gamma, beta, mean, variance = map(torch.from_numpy, weights)
    kernel = kernel.permute(3, 2, 0, 1).contiguous()

    def run(x: Any, pool: bool) -> Any:
        x = functional.conv2d(x, kernel, padding=1)
        x = functional.max_pool2d(x, 2) if pool else x
        return functional.relu(functional.batch_norm(x, mean, variance, gamma, beta, eps=1e-5))

    return run


# Model, images, labels -> whether each image is correctly classified before and after the attack.
Survival = Callable[[ShippedModel, np.ndarray, np.ndarray], np.ndarray]


def foolbox_pgd(model: ShippedModel, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Foolbox' LinfPGD from the image itself."""
    import foolbox

    wrapped = foolbox.TensorFlowModel(model.logits, bounds=(0, 1))
    made = foolbox.attacks.LinfPGD(steps=_STEPS, abs_stepsize=_STEP_SIZE, random_start=False)
    inputs = tf.constant(images), tf.constant(labels, tf.int32)
    _, _, success = made(wrapped, *inputs, epsilons=_EPSILON)
    return ~success.numpy()


def torch_autoattack(model: ShippedModel, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The authors' AutoAttack, standard version; its images are classified by the SavedModel."""
    import torch
    from pyautoattack import AutoAttack as TorchAutoAttack

    inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    made = TorchAutoAttack(model.twin, norm="Linf", eps=_EPSILON, seed=0)
    found, _ = made.run_standard_evaluation(inputs, torch.from_numpy(labels), batch_size=100)
    attacked = found.numpy().transpose(0, 2, 3, 1)
    return _correct(model, images, labels) & _correct(model, attacked, labels)


def scipy_grid(model: ShippedModel, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """All rotations and translations of the grid by `scipy.ndimage.affine_transform`."""
    survived = _correct(model, images, labels)
    for turned in _scipy_transforms(images):
        survived &= _correct(model, turned, labels)
    return survived


def _scipy_transforms(images: np.ndarray) -> Iterator[np.ndarray]:
    from scipy import ndimage

    down, right, turns = _GRID
    center = (np.array(images.shape[1:3]) - 1) / 2
    for degrees in np.linspace(-_DEGREES, _DEGREES, turns):
        angle = np.deg2rad(degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.eye(4)
        matrix[1:3, 1:3] = turn
        for dy in np.linspace(-_PIXELS, _PIXELS, down):
            for dx in np.linspace(-_PIXELS, _PIXELS, right):
                offset = np.zeros(4)
                offset[1:3] = center - turn @ (center + np.array([dy, dx]))
                yield ndimage.affine_transform(
                    images, matrix, offset, order=1, mode="grid-constant"
                )


def ours(attack: Attack) -> Survival:
    """An attack of this project."""

    def run(model: ShippedModel, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        result = evaluate(model.logits, (images, labels), [attack], batch_size=100)
        return result.robustness.surviving(attack.name)

    return run


def _correct(model: ShippedModel, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    parts = np.array_split(np.float32(images), max(1, len(images) // 100))
    logits = np.concatenate([model.logits(tf.constant(part)).numpy() for part in parts])
    return logits.argmax(axis=-1) == labels


_PGD = PGD(_EPSILON, num_steps=_STEPS, step_size=_STEP_SIZE, random_start=False)
_SPATIAL = GridAdv(max_rotation=_DEGREES, max_translation=_PIXELS, grid=_GRID)
# Model, their attack, their run, our run.
COMPARISONS: tuple[tuple[str, str, Survival, Survival], ...] = (
    ("cifar_pixel-record", "Foolbox LinfPGD, 10 steps of 0.007", foolbox_pgd, ours(_PGD)),
    ("cifar_pixel-record", "pyautoattack, standard", torch_autoattack, ours(AutoAttack(_EPSILON))),
    ("cifar_spatial-record", "SciPy, 5x5x31 grid, 30 deg, 3 px", scipy_grid, ours(_SPATIAL)),
)


def compare(name: str, title: str, theirs: Survival, own: Survival, data: Any) -> dict[str, Any]:
    """Run both attacks of a comparison; return a row of the results."""
    model, (images, labels) = ShippedModel(name), data
    row: dict[str, Any] = {"model": name, "attack": title, "n": len(images)}
    survived = {}
    for key, run in (("theirs", theirs), ("ours", own)):
        began = time.perf_counter()
        survived[key] = run(model, images, labels)
        row[key] = round(100 * float(np.mean(survived[key])), 2)
        row[f"{key}_seconds"] = round(time.perf_counter() - began, 1)
    row["same_verdict"] = round(100 * float(np.mean(survived["theirs"] == survived["ours"])), 2)
    return row


def main() -> None:
    """Run the comparisons and print or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder of prepared datasets")
    parser.add_argument("--limit", type=int, default=200, help="test images, the first ones")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    images, labels = CIFAR10().open(options.data_dir).load_test()
    data = np.float32(images[: options.limit] / 255), np.int64(labels[: options.limit])
    rows = []
    for comparison in COMPARISONS:
        rows.append(compare(*comparison, data))
        print(json.dumps(rows[-1]), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
