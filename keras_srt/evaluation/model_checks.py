"""Checks of a model and of the results of attacks that make a robust accuracy unreliable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_srt.attacks import QueryModel, TargetModel
from keras_srt.attacks.target_model import Precision, classes_of
from keras_srt.core.classifier_outputs import are_probabilities, last_activation

# Other ranges of images are tried on so many images if the model is right on fewer than that
# share; a range is reported if it gains so much.
_TRIED, _POOR, _GAIN = 100, 0.5, 0.2
# An attack is reported if so many of its gradients are 0.
_VANISHED = 0.05
# Outputs for the same images may differ by this share of the largest one.
_REPEATED = 1e-4
# AutoAttack is reported if Square takes more than this from the accuracy that its attacks with
# gradients leave.
_BY_QUERIES = 0.002
_RANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "0 to 255": lambda images: 255 * images,
    "-1 to 1": lambda images: 2 * images - 1,
}


def open_classifier(
    classifier: Callable[..., Any] | QueryModel,
    images: np.ndarray,
    batch_size: int,
    precision: Precision = "float32",
) -> tuple[QueryModel, np.ndarray]:
    """Return the model under attack, which outputs logits, and its logits of the images.

    Where the outputs for all images are distributions over the classes, their logarithms are
    attacked, as for external models.

    Args:
        classifier: See `evaluate_robustness`; a `QueryModel` is attacked as it is.
        images: float32 [n, height, width, channels] in [0, 1].
        batch_size: Images per query.
        precision: See `TargetModel`.
    """
    if isinstance(classifier, QueryModel):
        return classifier, classifier.logits(images)
    model = TargetModel(classifier, batch_size, precision)
    logits = model.logits(images)
    if last_activation(classifier) is None and are_probabilities(logits):
        model = model.of_log_probabilities()
        logits = model.logits(images)
    return model, logits


def output_warnings(logits: np.ndarray) -> list[str]:
    """Describe outputs [n, classes] of clean images that can't be logits, one line each.

    Example:
        >>> output_warnings(np.float32([[np.nan, 1], [0, 1]]))
        ['the outputs for 1 of 2 clean images are NaN, which counts as misclassified']
    """
    found = []
    for name, which in (("NaN", np.isnan(logits)), ("infinite", np.isinf(logits))):
        count = int(which.any(axis=1).sum())
        if count:
            effect = "which counts as misclassified" if name == "NaN" else "which has no gradient"
            text = f"the outputs for {count} of {len(logits)} clean images are {name}, {effect}"
            found.append(text)
    if not found and logits.shape[1] > 1 and logits.min() >= 0 and logits.max() <= 1:
        kind = "probabilities" if are_probabilities(logits) else "like those of sigmoids"
        found.append(
            f"all outputs are between 0 and 1, {kind}, and are attacked as if they were logits; "
            "the attacks are stronger on the values before the last activation"
        )
    return found


def randomness_warnings(model: QueryModel, images: np.ndarray, logits: np.ndarray) -> list[str]:
    """Report if the outputs for the same images change from query to query.

    Source: `check_randomized` of the original AutoAttack.

    Args:
        model: The model under attack.
        images: float32 [n, height, width, channels] in [0, 1].
        logits: Its outputs for the images, float32 [n, classes].
    """
    first = slice(0, model.batch_size)
    again, before = model.logits(images[first]), logits[first]
    scale = max(1.0, float(np.abs(before[np.isfinite(before)]).max(initial=0.0)))
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = float(np.nanmax(np.abs(again - before), initial=0.0))
    if difference <= _REPEATED * scale:
        return []
    return [
        f"the outputs for the same images change from query to query by up to {difference:.2g}: "
        "average the gradients of the attacks (eot_iter; autoattack: version rand)"
    ]


def range_warnings(
    model: QueryModel, images: np.ndarray, labels: np.ndarray, clean: np.ndarray
) -> list[str]:
    """Report if the model is much better on images of another range than 0 to 1.

    Args:
        model: The model under attack.
        images: float32 [n, height, width, channels] in [0, 1].
        labels: True classes, int32 [n].
        clean: Predicted classes of the images, int32 [n].
    """
    accuracy = float(np.mean(clean[:_TRIED] == labels[:_TRIED]))
    # Servers and files may refuse values beyond [0, 1].
    if accuracy >= _POOR or not isinstance(model, TargetModel) or (clean < 0).any():
        return []
    found = []
    for name, transform in _RANGES.items():
        predicted = classes_of(model.logits(np.float32(transform(images[:_TRIED]))))
        other = float(np.mean(predicted == labels[:_TRIED]))
        if other - accuracy > _GAIN:
            found.append(
                f"the model seems to expect values from {name}: {100 * other:.1f}% of those images "
                f"are correctly classified, and {100 * accuracy:.1f}% of images from 0 to 1; "
                f"give --input-range={name.replace(' to ', ',')} (in Python, adapt_model)"
            )
    return found


def gradient_warnings(name: str, computed: int, vanished: int) -> list[str]:
    """Report if many gradients of an attack were 0.

    Example:
        >>> gradient_warnings("pgd", 100, 2)
        []
    """
    if vanished <= _VANISHED * computed:
        return []
    return [
        f"{name}: {vanished:,} of {computed:,} gradients were 0, so that the attack had no "
        "direction; the accuracy under it may be far too high: use square"
    ]


def query_attack_warnings(name: str, surviving: Mapping[str, np.ndarray]) -> list[str]:
    """Report if Square succeeds where the attacks of AutoAttack with gradients fail.

    Source: `check_square_sr` of the original AutoAttack.

    Args:
        name: The name of the attack.
        surviving: Images [n] that survive up to each member; see `Robustness.surviving_members`.

    Example:
        >>> query_attack_warnings("autoattack", {"fab_t": np.ones(9), "square": np.ones(9)})
        []
    """
    accuracies = [float(np.mean(images)) for images in surviving.values()]
    if "square" not in surviving or accuracies[-2] - accuracies[-1] <= _BY_QUERIES:
        return []
    return [
        f"{name}: square, which uses no gradients, takes the accuracy from "
        f"{100 * accuracies[-2]:.1f}% to {100 * accuracies[-1]:.1f}%, so that the gradients may be "
        "masked; more queries may take it further"
    ]
