"""The teacher of a run: a standard classifier that labels the unlabeled images once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_srt.config.schema import Config, ScheduleSettings, TrainingSettings
from keras_srt.core.errors import UserError
from keras_srt.core.files import atomic_write, write_json
from keras_srt.core.tensorflow import keras
from keras_srt.data import DatasetInfo
from keras_srt.objectives import Standard
from keras_srt.pipeline import plan as plans
from keras_srt.pipeline.classifiers import best_classifier
from keras_srt.pipeline.distribution import Distribution
from keras_srt.pipeline.plan import Plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.streamed import StreamedPart
from keras_srt.pipeline.train import VALIDATION_BATCH, TrainingPart, train_stage


def ask_teacher(
    config: Config,
    run: RunFolder,
    info: DatasetInfo,
    data: TrainingPart | StreamedPart,
    resume: bool,
    how_to_resume: str,
    distribution: Distribution | None = None,
) -> np.ndarray:
    """A teacher's answers to the unlabeled images of a run: read, or trained for and saved.

    The teacher sees the labeled images alone, and is the one of its checkpoints that is
    right on most validation images, untampered ones.

    Args:
        config: of the run.
        run: its folder; the teacher's is `teacher/` in it.
        info: of the dataset.
        data: images, labels and split.
        resume: whether to use what lies there.
        how_to_resume: the command to print after Ctrl-C.
        distribution: the devices to train on; None for one.

    Returns:
        int32, one class id for each unlabeled image, in the order of the split.

    Raises:
        UserError: the saved answers or a checkpoint can't be used.
        Interrupted: after Ctrl-C, with the state saved.
    """
    count = len(data.split.unlabeled)
    if resume and run.pseudo_labels.is_file():
        print(f"teacher   its answers are in {run.pseudo_labels}", flush=True)
        return _load(run, count, len(info.class_names))
    teacher = teacher_config(config, plans.make_plan(config, info))
    print(
        f"teacher   first, a standard classifier on the labeled images, in {run.teacher.path}",
        flush=True,
    )
    run.teacher.checkpoints.mkdir(parents=True, exist_ok=True)
    train_stage(teacher, run.teacher, info, lambda: data, resume, how_to_resume, distribution)
    answers = _answers(best_classifier(teacher, run.teacher, info), data)
    summary = _summary(run, plans.make_plan(teacher, info), count)
    write_json(run.teacher_summary, summary)
    _save(run, answers)
    print(conclusion(summary, answers), flush=True)
    return answers


def teacher_config(config: Config, plan: Plan) -> Config:
    """The config of the teacher: the student's, but standard training on labeled images.

    Args:
        config: of the student.
        plan: of the student.

    Returns:
        A config with no neighborhood; milestones keep their share of the length.
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
    """The student's schedule, stretched to the teacher's steps."""
    schedule = training.schedule
    if schedule.name != "step":
        return schedule
    stretched = {round(m * plan.teacher_steps / training.length) for m in schedule.milestones}
    inside = tuple(sorted(m for m in stretched if 1 <= m < plan.teacher_steps))
    if not inside:
        return ScheduleSettings()
    return dataclasses.replace(schedule, milestones=inside)


def _answers(classifier: keras.Model, data: TrainingPart | StreamedPart) -> np.ndarray:
    """The classes that a classifier gives the unlabeled images, int32."""
    batches = data.unlabeled_batches(VALIDATION_BATCH)
    return np.int32(classifier.predict(batches, verbose=0).argmax(axis=-1))


def _summary(run: RunFolder, plan: Plan, unlabeled: int) -> dict[str, float | int | str]:
    """What the teacher was, for the reports."""
    rows = run.teacher.read_history()
    # As the best checkpoint is chosen: of equal ones the later.
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), int(row["step"])))
    return {
        "objective": Standard.name,
        "steps": plan.steps,
        "best_step": int(best["step"]),
        "val_accuracy": round(float(best["val_accuracy"]), 6),
        "labeled": plan.num_labeled,
        "pseudo_labeled": unlabeled,
        "train_seconds": round(sum(float(row["seconds"]) for row in rows), 1),
    }


def conclusion(summary: Mapping[str, Any], answers: np.ndarray) -> str:
    """What came of the teacher, in lines; a warning if its answers are worth nothing.

    Args:
        summary: what `teacher.json` holds.
        answers: int32, its pseudo-labels.

    Returns:
        Text for the terminal.

    Example:
        >>> print(conclusion({"val_accuracy": 0.9, "best_step": 400}, np.int32([1, 0])))
        teacher   90.0% of the validation images right after step 400; it labeled 2 images
    """
    lines = [
        f"teacher   {100 * summary['val_accuracy']:.1f}% of the validation images right after "
        f"step {summary['best_step']:,}; it labeled {len(answers):,} images"
    ]
    if len(np.unique(answers)) == 1:
        lines.append(
            "warning: the teacher gave all of them one class, which teaches the student nothing; "
            "raise objective.teacher_steps or lower training.learning_rate"
        )
    return "\n".join(lines)


def _save(run: RunFolder, answers: np.ndarray) -> None:
    """Writes the answers so that a kill leaves a whole file or none."""
    with atomic_write(run.pseudo_labels) as draft:
        np.save(draft, answers, allow_pickle=False)


def _load(run: RunFolder, count: int, num_classes: int) -> np.ndarray:
    """Reads them, and checks that they belong to this split."""
    path = run.pseudo_labels
    try:
        answers = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path}: can't be read ({error}); remove it, and --resume asks the teacher again"
        ) from error
    if answers.shape != (count,) or answers.dtype != np.int32:
        raise UserError(
            f"{path}: got {answers.dtype} {list(answers.shape)}; allowed: int32 [{count}], one for "
            "each unlabeled image; remove it, and --resume asks the teacher again"
        )
    if not ((answers >= 0) & (answers < num_classes)).all():
        raise UserError(
            f"{path}: got class ids from {answers.min()} to {answers.max()}; allowed: 0 to "
            f"{num_classes - 1}; remove it, and --resume asks the teacher again"
        )
    return answers
