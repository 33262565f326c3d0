"""Training configs of the models at each scale: a base config and changes to it."""

from __future__ import annotations

import json
import math
from typing import Any

from keras_srt.config.schema import Config
from keras_srt.core.registry import settings_of
from keras_srt.data import batch_sizes
from keras_srt.objectives import OBJECTIVES
from keras_srt.pipeline.configs import load_config
from keras_srt.reproduce.specs import ModelSpec

CONFIGS = {"mnist": "mnist", "cifar10": "cifar", "digits": "digits"}
# The variant for the quick and cpu scales: the quick variants of the CIFAR-10 configs train with a
# teacher, which most of the compared objectives don't use.
_VARIANTS = {"mnist": "quick", "cifar10": "reproduce", "digits": "quick"}
# With at most this many labels, a proportional batch has hardly any labeled image.
_FEW_LABELS = 3_000
_LABELED_PER_BATCH = 32

# λ of srt and rt without a λ of the patent: that of the authors' code for pixels.
_ROBUST_WEIGHT = 1.0
# k of worst_of_k and klr if it is not 10.
_DRAWS = {("cifar10", "quick"): 5, ("cifar10", "cpu"): 5}
# TRADES, and RST with its loss, start the search at x + σ·N(0, 1).
_START_NOISE = 0.001
# β of TRADES (Zhang et al. 2019) and of RST, which has the same loss.
_BETA = {("mnist", "trades"): 1.0, ("cifar10", "trades"): 6.0, ("cifar10", "rst"): 6.0}

# UAT++ and, on MNIST, AT collapse to one class in short trainings with the configs' settings: a
# learning rate of 0.05 and no gradient clipping.
_STABLE = {"uat": {"learning_rate": 0.01}, "adversarial": {"gradient_clip": 1.0}}

# Share of the steps over which λ grows where a step has few labeled images: with the full λ from
# the start and 22 of 128 images labeled, SRT with λ = 0.4 collapsed to one class.
_WEIGHT_WARMUP = 0.3

# Steps and the interval of validations, by dataset and scale.
_LENGTHS = {
    ("mnist", "quick"): {"pixel": (1000, 250), "spatial": (1500, 250), "composite": (800, 200)},
    ("mnist", "cpu"): {"pixel": (4000, 500), "spatial": (6000, 500), "composite": (4000, 500)},
    ("cifar10", "quick"): {"pixel": (800, 200), "spatial": (800, 200), "composite": (800, 200)},
    ("cifar10", "cpu"): {"pixel": (3000, 500), "spatial": (3000, 500), "composite": (3000, 500)},
}

# Reference settings in epochs: unlabeled images, labels with and without those for validation,
# batch, and epochs with milestones.
_REFERENCE_UNLABELED = {"mnist": 50_000, "cifar10": 40_000}
_REFERENCE_LABELS, _REFERENCE_TRAINED, _REFERENCE_BATCH = 10_000, 9_000, 128
_REFERENCE_EPOCHS = {"mnist": (100, (55, 75, 90)), "cifar10": (120, (75, 90, 100))}


def make_config(spec: ModelSpec, dataset: str, scale: str, seed: int = 0) -> Config:
    """Make the training config of a model.

    Args:
        spec: The model.
        dataset: A key of `CONFIGS`.
        scale: One of `specs.SCALES`.
        seed: Seed of the split, the weights and all draws.

    Returns:
        A config with a readable name.

    Raises:
        InvalidSettings: The objective or a setting is unknown.

    Example:
        >>> make_config(ModelSpec("pixel", "srt", labeled=300), "mnist", "quick").name
        'mnist-pixel-300-srt-quick'
    """
    changes: dict[str, Any] = {
        "name": f"{dataset}-{spec.name}-{scale}" + (f"-seed{seed}" if seed else ""),
        "seed": seed,
        "data": _data(spec, scale),
        "objective": _objective(spec, dataset, scale),
        "training": _training(spec, dataset, scale),
        # These models are not exported.
        "evaluation": {"deployment": 0},
    }
    name = f"{CONFIGS[dataset]}_{_base_family(spec)}"
    variant = {"smoke": "smoke", "full": None}.get(scale, _VARIANTS[dataset])
    neighborhood = _neighborhood(spec, scale)
    if spec.family == "composite-t2":
        stages = settings_of(load_config(name, variant, ()).neighborhood)["stages"]
        neighborhood["stages"] = stages[::-1]
    if neighborhood:
        changes["neighborhood"] = neighborhood
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    return load_config(name, variant, overrides)


def _data(spec: ModelSpec, scale: str) -> dict[str, Any]:
    """Return the numbers of images; at scale full, they are drawn as in [0217] of the patent."""
    numbers: dict[str, Any] = {"labeled": spec.labeled, "unlabeled": spec.unlabeled}
    if scale == "full":
        # A tenth of the labeled images is for validation; all others are unlabeled.
        numbers |= {"selection": "random", "validation_from": "labeled", "validation": None}
    return numbers


def _base_family(spec: ModelSpec) -> str:
    return spec.family.partition("-")[0]


def _neighborhood(spec: ModelSpec, scale: str) -> dict[str, Any]:
    """Return changes to the neighborhood of the base config."""
    changes: dict[str, Any] = {}
    if spec.family == "pixel-0.1":
        changes = {"epsilon": 0.1}
        if scale != "full":
            changes |= {"num_steps": 5, "step_size": 0.04}
    if spec.objective in ("trades", "rst"):
        changes["random_start"] = _START_NOISE
    return changes


def _objective(spec: ModelSpec, dataset: str, scale: str) -> dict[str, Any]:
    """Return the objective with its settings that are not defaults."""
    weight = spec.robust_weight
    if weight is None and spec.objective in ("srt", "rt"):
        weight = _ROBUST_WEIGHT
    elif weight is None:
        weight = _BETA.get((dataset, spec.objective))
    settings: dict[str, Any] = {"name": spec.objective}
    if weight is not None:
        settings["robust_weight"] = weight
    if spec.objective in ("worst_of_k", "klr") and (dataset, scale) in _DRAWS:
        settings["num_samples"] = _DRAWS[dataset, scale]
    return settings


def _training(spec: ModelSpec, dataset: str, scale: str) -> dict[str, Any]:
    """Return changes to the training section of the base config and its variant."""
    changes: dict[str, Any] = {}
    unlabeled = OBJECTIVES[spec.objective].uses_unlabeled
    # Proportional batches, as in [0108] of the patent.
    changes["labeled_per_batch"] = None
    if unlabeled and spec.labeled is not None and spec.labeled <= _FEW_LABELS:
        # At most half of the smaller batch of the smoke variant.
        changes["labeled_per_batch"] = 8 if scale == "smoke" else _LABELED_PER_BATCH
    if spec.batch_size is not None:
        changes["batch_size"] = spec.batch_size
    if (dataset, scale) in _LENGTHS:
        steps, interval = _LENGTHS[dataset, scale][_base_family(spec)]
        changes |= {"steps": steps, "interval": interval, "precision": "auto"}
        if spec.objective == "srt" or spec.batch_size is not None:
            changes["weight_warmup"] = _WEIGHT_WARMUP
        changes |= _STABLE.get(spec.objective, {})
    if scale == "full" and _base_family(spec) != "spatial":
        changes |= _reference_length(spec, dataset, unlabeled)
    return changes


def _reference_length(spec: ModelSpec, dataset: str, unlabeled: bool) -> dict[str, Any]:
    """Use the steps of 10,000 labels for fewer labels: an epoch of 100 labels is one step."""
    if spec.labeled in (_REFERENCE_LABELS, None) or dataset not in _REFERENCE_EPOCHS:
        return {}
    others = _REFERENCE_UNLABELED[dataset] if unlabeled else 0
    labeled = batch_sizes(_REFERENCE_BATCH, _REFERENCE_TRAINED, others, None).labeled
    epoch = math.ceil(_REFERENCE_TRAINED / labeled)
    epochs, milestones = _REFERENCE_EPOCHS[dataset]
    return {
        "steps": epoch * epochs,
        "schedule": {"milestones": [epoch * milestone for milestone in milestones]},
        "interval": epoch,
    }
