"""Two readings of the patent's λ and of its RT rows.

The patent's formula (15) has a mean over the labeled images and another over all images, and its
batches are proportional [0108]: RT, which has no unlabeled images, fills its batches with labeled
ones. The authors' published code differs from this in two points:

- The spatial training takes one mean over both loss terms, so λ there is relative to a batch in
  which SRT has |D'_L ∪ U|/|L| perturbed images for each labeled one and RT has one.
- RT keeps only the labeled part of SRT's batches, 21 of 128 images on MNIST and 25 on CIFAR-10.

Source: https://github.com/THUYimingLi/Semi-supervised_Robust_Training, `pixel_exps/SRTD.py`,
`pixel_exps/train.py`, `spatial_exps/mnist_train.py`, `spatial_exps/models/small_cnn.py`.
"""

from __future__ import annotations

from keras_srt.reproduce.specs import ModelSpec

READINGS = ("patent", "code")

_BATCH, _LABELED = 128, 10_000
_TRAINING_IMAGES = {"mnist": 60_000, "cifar10": 50_000, "digits": 60_000}


def with_weight(
    family: str, objective: str, weight: float, dataset: str, reading: str
) -> ModelSpec:
    """Make the spec of an SRT or RT model with the patent's λ.

    Args:
        family: A family of `ModelSpec`.
        objective: "srt" or "rt".
        weight: λ as the patent prints it.
        dataset: "mnist", "cifar10" or "digits".
        reading: One of `READINGS`.

    Returns:
        The spec, whose `robust_weight` weighs separate means.

    Example:
        >>> with_weight("spatial", "srt", 0.2, "cifar10", "code").robust_weight
        1.0
        >>> with_weight("spatial", "rt", 0.2, "cifar10", "code").batch_size
        25
    """
    if reading == "patent":
        return ModelSpec(family, objective, weight)
    images_per_label = _TRAINING_IMAGES[dataset] / _LABELED
    if objective == "rt":
        return ModelSpec(family, objective, weight, batch_size=int(_BATCH / images_per_label))
    if family == "spatial":
        weight = round(weight * images_per_label, 6)
    return ModelSpec(family, objective, weight)
