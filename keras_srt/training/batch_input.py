"""Batches as `fit` gets them: checks of their parts, and conversion for the objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_srt.core.class_ids import assert_class_ids
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.graph_checks import check_unit_range
from keras_srt.core.tensorflow import tf
from keras_srt.objectives import Batch, Objective
from keras_srt.training import replicas


def check_batch(data: Any, objective: Objective) -> dict[str, Any]:
    """Return the parts of a batch, or of the specification of a dataset's batches, by name.

    Args:
        data: `{"labeled": (images, labels), "unlabeled": images, "pseudo_labels": labels}`, the
            last two only for objectives that use them; or `(images, labels)`.
        objective: The objective.

    Raises:
        InvalidSettings: Parts are missing or unknown, or the labels are not class ids.

    Example:
        >>> from keras_srt.objectives import Standard
        >>> list(check_batch((tf.zeros([2, 4, 4, 1]), tf.constant([0, 1])), Standard()))
        ['labeled']
    """
    parts = dict(data) if isinstance(data, Mapping) else {"labeled": data}
    problem = _problem(parts, objective)
    if problem is not None:
        raise InvalidSettings([f"batch: got {problem}"])
    shape = parts["labeled"][1].shape
    if len(shape) == 2 and shape[1] != 1:
        raise InvalidSettings(
            [f"labels: got shape {tuple(shape)}; allowed: class ids [batch], not one-hot vectors"]
        )
    return parts


def _problem(parts: Mapping[str, Any], objective: Objective) -> str | None:
    """Say what is wrong with the parts of a batch, and what is allowed."""
    if "labeled" not in parts or not parts.keys() <= {"labeled", "unlabeled", "pseudo_labels"}:
        return (
            f"the keys {sorted(parts)}; allowed: labeled and, for objectives that use them, "
            "unlabeled and pseudo_labels"
        )
    if not isinstance(parts["labeled"], tuple) or len(parts["labeled"]) != 2:
        return "another structure; allowed: (images, labels)"
    if objective.uses_unlabeled and parts.get("unlabeled") is None:
        return (
            "no unlabeled images; allowed: {'labeled': (images, labels), 'unlabeled': "
            f"images}}, because the objective is {objective.name!r} "
            f"({objective.without_unlabeled!r} is the same without unlabeled images)"
        )
    if objective.uses_teacher and parts.get("pseudo_labels") is None:
        return (
            "no pseudo_labels; allowed: class ids or probabilities of the unlabeled images, "
            f"because the objective {objective.name!r} uses the predictions of a teacher"
        )
    return None


def make_batch(data: Any, objective: Objective, num_classes: int | None) -> Batch:
    """Convert a batch for the objective, with the rows that this replica holds.

    Args:
        data: See `check_batch`.
        objective: The objective.
        num_classes: Number of classes; None before the classifier is built.

    Raises:
        InvalidSettings: See `check_batch`; in a graph, invalid values raise an
            `InvalidArgumentError`, see `keras_srt.core.graph_checks`.
    """
    parts = check_batch(data, objective)
    images, labels = parts["labeled"]
    unlabeled, pseudo_labels = parts.get("unlabeled"), parts.get("pseudo_labels")
    if unlabeled is not None:
        unlabeled = check_unit_range(unlabeled)
    if pseudo_labels is not None:
        pseudo_labels = _convert_pseudo_labels(pseudo_labels, objective, num_classes)
    labels = assert_class_ids(labels, num_classes)
    return with_rows(Batch(check_unit_range(images), labels, unlabeled, pseudo_labels))


def with_rows(batch: Batch) -> Batch:
    """Return the batch with the rows of the global batch that this replica holds."""
    parts = {"labeled": batch.images}
    if batch.unlabeled is not None:
        parts["unlabeled"] = batch.unlabeled
    counts = {name: tf.shape(images)[0] for name, images in parts.items()}
    return batch._replace(rows=replicas.held_rows(counts))


def _convert_pseudo_labels(
    pseudo_labels: tf.Tensor, objective: Objective, num_classes: int | None
) -> tf.Tensor:
    """Convert between class ids [batch] and probabilities [batch, classes]."""
    are_soft = len(pseudo_labels.shape) == 2 and pseudo_labels.shape[1] != 1
    if not objective.soft_pseudo_labels:
        ids = tf.argmax(pseudo_labels, -1) if are_soft else pseudo_labels
        return assert_class_ids(ids, num_classes)
    if are_soft:
        return tf.cast(pseudo_labels, tf.float32)
    return tf.one_hot(assert_class_ids(pseudo_labels, num_classes), num_classes)
