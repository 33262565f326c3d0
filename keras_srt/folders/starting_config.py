"""A starting config for a folder of images."""

from __future__ import annotations

import json
from typing import Any

from keras_srt.data import Folder
from keras_srt.folders.network_choice import Candidate
from keras_srt.folders.summary import FolderSummary

# From this size on, images count as photos.
_PHOTOS = 64
# Validations of a training, and test images that are attacked.
_VALIDATIONS, _EVALUATED = 20, 1000
# Larger datasets are streamed from disk, with a shuffle buffer of this many images.
_IN_MEMORY, _BUFFER = 2**30, 4096
# With pretrained weights: the share of the steps that train only the last layer, and λ.
_FREEZE, _ROBUST_WEIGHT = 0.15, 2.0


def starting_config(
    name: str,
    source: Folder,
    seen: FolderSummary,
    network: Candidate,
    steps: int,
    epsilon: float | str | None = None,
) -> dict[str, Any]:
    """Make a config that trains on the images of a folder.

    Args:
        name: The name of the run.
        source: The dataset, from `find_source`.
        seen: The summary, from `look`.
        network: The network, and the size of its images and batches.
        steps: The number of steps of the training.
        epsilon: The radius of the noise; None for that of the kind of image.

    Returns:
        A config for `keras-srt train`, with a `smoke` variant.
    """
    semi, pretrained = seen.num_unlabeled > 0, network.pretrained
    threat = {"epsilon": _epsilon(seen, network.size) if epsilon is None else epsilon}
    return {
        "name": name,
        "description": [
            f"keras-srt train --config {name}.json",
            "A starting point from `keras-srt init`; see docs/own-images.md for what to change.",
        ],
        "data": _data(source, seen, network),
        "model": network.model,
        "neighborhood": {"name": "linf", **threat, "num_steps": 5},
        "objective": {
            "name": "srt" if semi else "rt",
            "robust_weight": _ROBUST_WEIGHT if pretrained else 1.0,
        },
        "training": _training(seen, network, steps),
        "evaluation": _evaluation(threat, pretrained),
        "variants": {"smoke": _smoke_variant(semi)},
    }


def _data(source: Folder, seen: FolderSummary, network: Candidate) -> dict[str, Any]:
    """Return the section `data`."""
    found = {key: getattr(source, key) for key in ("labeled", "unlabeled", "csv", "test")}
    total = (seen.num_labeled + seen.num_unlabeled) * network.size**2 * seen.channels
    data = {
        "source": "folder",
        **{key: path for key, path in found.items() if path is not None},
        "size": network.size,
        "channels": seen.channels,
        "resize": source.resize,
        "shuffle_buffer": _BUFFER if total > _IN_MEMORY and seen.num_unlabeled else None,
    }
    if network.pretrained:
        data["augmentation"] = {"flip": True, "pad": network.size // 12}
    return data


def _training(seen: FolderSummary, network: Candidate, steps: int) -> dict[str, Any]:
    """Return the section `training`."""
    pretrained = network.pretrained
    training: dict[str, Any] = {
        "steps": steps,
        "batch_size": network.batch_size,
        # At 0.03, pretrained layers lost their features in the first steps after the frozen ones.
        "learning_rate": 0.01 if pretrained else 0.05,
        "schedule": {"name": "cosine"},
        "strength_warmup": 0.3,
        # Without these two settings, training can collapse to one class.
        "weight_warmup": 0.2,
        "gradient_clip": 1.0,
        "interval": max(1, steps // _VALIDATIONS),
    }
    if pretrained:
        training["freeze"] = _FREEZE
    if seen.num_unlabeled:
        # The proportional fraction would be too small with few labels.
        share = seen.num_labeled / (seen.num_labeled + seen.num_unlabeled)
        labeled = round(network.batch_size * min(0.75, max(0.25, share)))
        training["labeled_per_batch"] = labeled
    return training


def _evaluation(threat: dict[str, Any], pretrained: bool) -> dict[str, Any]:
    """Return the section `evaluation`."""
    # A training from pretrained weights takes minutes, and its evaluation shouldn't take longer.
    parts = 20 if pretrained else 50
    return {
        "attacks": [{"name": "fgsm", **threat}, {"name": "pgd", **threat, "num_steps": 20}],
        "limit": _EVALUATED,
        "batch_size": 100,
        "masking": parts,
        "curves": parts,
    }


def _smoke_variant(semi: bool) -> dict[str, Any]:
    """Return the variant `smoke`: a few steps that only show that the config works."""
    labeled = {"labeled_per_batch": 8} if semi else {}
    return {
        "neighborhood": {"num_steps": 2},
        "training": {"steps": 4, "batch_size": 16, "interval": 2, **labeled},
        "evaluation": {"limit": 16, "deployment": 0, "masking": 0, "curves": 0},
    }


def _epsilon(seen: FolderSummary, size: int) -> float | str:
    """Return the radius of the noise for a kind of image."""
    if seen.channels == 1 and size < _PHOTOS:
        return 0.1
    return "8/255" if size < _PHOTOS else "4/255"


def describe_threat(config: dict[str, Any]) -> str:
    """Describe the perturbations that a config of `starting_config` trains and tests against."""
    return (
        f"noise of up to {config['neighborhood']['epsilon']} in each pixel; rotation and other "
        "changes are not trained against, and not attacked"
    )


def as_text(config: dict[str, Any]) -> str:
    """Format the config as the text of its file."""
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"
