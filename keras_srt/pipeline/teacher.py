"""The teacher of a run: a standard classifier that labels the unlabeled images once."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_srt.config.schema import Config, ScheduleSettings, TrainingSettings
from keras_srt.core.errors import UserError
from keras_srt.core.files import atomic_write, write_json
from keras_srt.objectives import Standard
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import TrainingData
from keras_srt.pipeline.plan import Plan, make_plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.training_loop import VALIDATION_BATCH, train_classifier

logger = logging.getLogger(__name__)


def label_unlabeled(context: RunContext, data: TrainingData) -> np.ndarray:
    """Load the teacher's labels of the unlabeled images, or train a teacher and save them.

    The teacher is trained on the labeled images only. Of its checkpoints the one with the
    highest clean validation accuracy labels the images.

    Args:
        context: The run; with `resume`, saved labels are used.
        data: The run's training data.

    Returns:
        int32, one class id for each unlabeled image, in the order of the split.

    Raises:
        UserError: The saved labels or a checkpoint can't be used.
        Interrupted: Training was interrupted; its state is saved.
    """
    folder, count = context.folder, len(data.split.unlabeled)
    if context.resume and folder.pseudo_labels.is_file():
        logger.info("teacher   its labels are in %s", folder.pseudo_labels)
        return _load(folder, count, len(context.info.class_names))
    logger.info(
        "teacher   first, a standard classifier on the labeled images, in %s", folder.teacher.path
    )
    folder.teacher.checkpoints.mkdir(parents=True, exist_ok=True)
    teacher = teacher_context(context)
    train_classifier(teacher, lambda: data)
    batches = data.unlabeled_batches(VALIDATION_BATCH)
    labels = np.int32(teacher.best_classifier.predict(batches, verbose=0).argmax(axis=-1))
    summary = _summary(teacher, count)
    write_json(folder.teacher_summary, summary)
    with atomic_write(folder.pseudo_labels) as draft:
        np.save(draft, labels, allow_pickle=False)
    logger.info(describe_teacher(summary, len(labels)))
    if len(np.unique(labels)) == 1:
        logger.warning(
            "the teacher gave all unlabeled images one class, which teaches the student nothing; "
            "raise objective.teacher_steps or lower training.learning_rate"
        )
    return labels


def teacher_context(context: RunContext) -> RunContext:
    """Return the run that trains the teacher of a run."""
    config = teacher_config(context.config, context.plan)
    plan, folder = make_plan(config, context.info), context.folder.teacher
    return dataclasses.replace(context, config=config, plan=plan, folder=folder, callbacks=())


def teacher_config(config: Config, plan: Plan) -> Config:
    """Return the config of the teacher: standard training on the labeled images.

    Args:
        config: The student's configuration.
        plan: The student's plan.

    Returns:
        A config without a neighborhood; milestones keep their relative positions.
    """
    training = dataclasses.replace(
        config.training,
        steps=plan.teacher_steps,
        epochs=None,
        labeled_per_batch=None,
        strength_warmup=0.0,
        search_growth=0.0,
        weight_warmup=0.0,
        schedule=_schedule(config.training, plan),
    )
    return dataclasses.replace(config, neighborhood=None, objective=Standard(), training=training)


def _schedule(training: TrainingSettings, plan: Plan) -> ScheduleSettings:
    """Return the student's schedule, scaled to the teacher's steps."""
    schedule = training.schedule
    if schedule.name != "step":
        return schedule
    scaled = {round(m * plan.teacher_steps / training.length) for m in schedule.milestones}
    inside = tuple(sorted(m for m in scaled if 1 <= m < plan.teacher_steps))
    if not inside:
        return ScheduleSettings()
    return dataclasses.replace(schedule, milestones=inside)


def _summary(teacher: RunContext, num_unlabeled: int) -> dict[str, float | int | str]:
    """Describe the teacher for the reports."""
    rows = teacher.folder.read_history()
    # Of equal accuracies the later one, as for the best checkpoint.
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), int(row["step"])))
    return {
        "objective": Standard.name,
        "steps": teacher.plan.steps,
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


def _load(folder: RunFolder, count: int, num_classes: int) -> np.ndarray:
    """Read the saved labels and check that they belong to the split."""
    path, remedy = folder.pseudo_labels, "remove the file, and --resume labels the images again"
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: can't be read ({error}); {remedy}") from error
    if labels.shape != (count,) or labels.dtype != np.int32:
        raise UserError(
            f"{path}: got {labels.dtype} {list(labels.shape)}; allowed: int32 [{count}], one for "
            f"each unlabeled image; {remedy}"
        )
    if not ((labels >= 0) & (labels < num_classes)).all():
        raise UserError(
            f"{path}: got class ids from {labels.min()} to {labels.max()}; allowed: 0 to "
            f"{num_classes - 1}; {remedy}"
        )
    return labels
