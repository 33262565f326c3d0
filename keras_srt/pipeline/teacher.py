"""The teacher of a run: a standard classifier that labels the unlabeled images once."""

from __future__ import annotations

import dataclasses
import io
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.files import write_bytes, write_json
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import TrainingData
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.teacher_config import teacher_config
from keras_srt.pipeline.training_loop import VALIDATION_BATCH, train_classifier

logger = logging.getLogger(__name__)


def apply_teacher(context: RunContext, data: TrainingData) -> TrainingData:
    """Add the pseudo-labels of a run's teacher to its data, and set the initial weights.

    Args:
        context: The run; nothing changes if its objective uses no teacher.
        data: The run's training data.

    Returns:
        The data, with pseudo-labels.

    Raises:
        InvalidSettings: The initial weights are those of a teacher with another model.
        UserError: The saved labels or a checkpoint can't be used.
        Interrupted: Training of the teacher was interrupted; its state is saved.
    """
    if not context.config.objective.uses_teacher:
        return data
    data = data.with_pseudo_labels(label_unlabeled(context, data))
    is_new = int(context.model.optimizer.iterations.numpy()) == 0
    if is_new and context.config.training.initial_weights == "teacher":
        context.model.start_from(teacher_context(context).best_classifier)
        logger.info("starting from the weights of the teacher")
    return data


def label_unlabeled(context: RunContext, data: TrainingData) -> np.ndarray:
    """Load the teacher's labels of the unlabeled images, or train a teacher and save them.

    True labels of unlabeled images are not used. Of the teacher's checkpoints the one with the
    highest clean validation accuracy labels the images. A teacher that was trained with flipped
    images predicts the mean of an image and its mirror image.

    Args:
        context: The run; with `resume`, saved labels are used.
        data: The run's training data.

    Returns:
        One label for each unlabeled image, in the order of the split: a class id, int32, or for
        objectives with `soft_pseudo_labels` the probabilities of the classes, float16.

    Raises:
        UserError: The saved labels or a checkpoint can't be used.
        Interrupted: Training was interrupted; its state is saved.
    """
    folder, count = context.folder, len(data.split.unlabeled)
    soft, num_classes = context.config.objective.soft_pseudo_labels, len(context.info.class_names)
    if context.resume and folder.pseudo_labels.is_file():
        logger.info("teacher   its labels are in %s", folder.pseudo_labels)
        return _load(folder, count, num_classes, soft)
    teacher = teacher_context(context)
    logger.info(
        "teacher   first, a classifier with the objective %r, in %s",
        teacher.config.objective.name,
        folder.teacher.path,
    )
    folder.teacher.checkpoints.mkdir(parents=True, exist_ok=True)
    train_classifier(teacher, lambda: apply_teacher(teacher, data))
    temperature = context.config.teacher.temperature if context.config.teacher else 1.0
    probabilities = _predict(teacher, data, temperature)
    classes = np.int32(probabilities.argmax(axis=-1))
    labels = np.float16(probabilities) if soft else classes
    summary = _summary(teacher, count)
    write_json(folder.teacher_summary, summary)
    content = io.BytesIO()
    np.save(content, labels, allow_pickle=False)
    write_bytes(folder.pseudo_labels, content.getvalue())
    logger.info(describe_teacher(summary, count))
    if len(np.unique(classes)) == 1:
        logger.warning(
            "the teacher gave all unlabeled images one class, which teaches the student nothing; "
            "raise objective.teacher_steps or lower training.learning_rate"
        )
    return labels


def _predict(teacher: RunContext, data: TrainingData, temperature: float) -> np.ndarray:
    """Predict the probabilities of the unlabeled images: float32 [n, classes]."""
    batches, classifier = data.unlabeled_batches(VALIDATION_BATCH), teacher.best_classifier
    probabilities = _softmax(classifier.predict(batches, verbose=0))
    if teacher.config.data.augmentation.flip:
        mirrored = batches.map(lambda images: images[:, :, ::-1])
        probabilities = (probabilities + _softmax(classifier.predict(mirrored, verbose=0))) / 2
    if temperature != 1:
        probabilities = probabilities ** (1 / temperature)
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
    return probabilities


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def teacher_context(context: RunContext) -> RunContext:
    """Return the run that trains the teacher of a run."""
    config = teacher_config(context.config, context.plan.steps)
    plan, folder = make_plan(config, context.info), context.folder.teacher
    return dataclasses.replace(context, config=config, plan=plan, folder=folder, callbacks=())


def _summary(teacher: RunContext, num_unlabeled: int) -> dict[str, float | int | str]:
    """Describe the teacher for the reports."""
    rows = teacher.folder.read_history()
    # Of equal accuracies the later one, as for the best checkpoint.
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), int(row["step"])))
    return {
        "objective": teacher.config.objective.name,
        "steps": int(rows[-1]["step"]),
        "best_step": int(best["step"]),
        "val_accuracy": round(float(best["val_accuracy"]), 6),
        "labeled": teacher.plan.num_labeled,
        "pseudo_labeled": num_unlabeled,
        "train_seconds": round(sum(float(row["seconds"]) for row in rows), 1),
    }


def describe_teacher(summary: Mapping[str, Any], num_labels: int) -> str:
    """Describe a trained teacher in one line.

    Args:
        summary: The content of `teacher.json`.
        num_labels: The number of images that it labeled.

    Example:
        >>> describe_teacher({"val_accuracy": 0.9, "best_step": 400}, 2)
        'teacher   90.0% validation accuracy after step 400; it labeled 2 images'
    """
    return (
        f"teacher   {100 * summary['val_accuracy']:.1f}% validation accuracy after step "
        f"{summary['best_step']:,}; it labeled {num_labels:,} images"
    )


def _load(folder: RunFolder, count: int, num_classes: int, soft: bool) -> np.ndarray:
    """Read the saved labels and check that they belong to the split."""
    path, remedy = folder.pseudo_labels, "remove the file, and --resume labels the images again"
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: can't be read ({error}); {remedy}") from error
    shape, dtype = ((count, num_classes), np.float16) if soft else ((count,), np.int32)
    if labels.shape != shape or labels.dtype != dtype:
        raise UserError(
            f"{path}: got {labels.dtype} {list(labels.shape)}; allowed: {np.dtype(dtype)} "
            f"{list(shape)}, one for each unlabeled image; {remedy}"
        )
    if soft and not (np.isfinite(labels).all() and (labels >= 0).all() and (labels <= 1).all()):
        raise UserError(f"{path}: got values that are not probabilities; {remedy}")
    if not soft and not ((labels >= 0) & (labels < num_classes)).all():
        raise UserError(
            f"{path}: got class ids from {labels.min()} to {labels.max()}; allowed: 0 to "
            f"{num_classes - 1}; {remedy}"
        )
    return labels
