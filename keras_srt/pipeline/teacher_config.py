"""The config of a teacher, derived from the config of its student."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_srt.config.overrides import merge
from keras_srt.config.schema import (
    AugmentationSettings,
    Config,
    ScheduleSettings,
    TeacherSettings,
    TrainingSettings,
)
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import settings_of
from keras_srt.models import MODELS
from keras_srt.objectives import OBJECTIVES


def teacher_config(config: Config, student_steps: int) -> Config:
    """Return the config of the teacher: training without a neighborhood.

    By default it is standard training on the labeled images with the student's settings; the
    milestones keep their relative positions. `training.freeze` applies to models with pretrained
    weights. The `teacher` section changes these settings.

    Args:
        config: The student's configuration.
        student_steps: The training steps of the student.

    Returns:
        A config without a neighborhood.

    Raises:
        InvalidSettings: The `teacher` section is invalid.
    """
    teacher = config.teacher or TeacherSettings()
    steps = config.objective.teacher_steps or student_steps
    model = _changed_model(config, teacher.model)
    training = dataclasses.replace(
        config.training,
        steps=steps,
        epochs=None,
        labeled_per_batch=None,
        initial_weights="random",
        search=None,
        strength_warmup=0.0,
        search_growth=0.0,
        weight_warmup=0.0,
        freeze=config.training.freeze if model.pretrained else 0.0,
        schedule=_schedule(config.training, steps),
    )
    augmentation = config.data.augmentation
    try:
        if teacher.augmentation:
            augmentation = AugmentationSettings(**settings_of(augmentation) | teacher.augmentation)
    except InvalidSettings as error:
        raise error.with_prefix("teacher.augmentation") from None
    made = dataclasses.replace(
        config,
        neighborhood=None,
        objective=_built(OBJECTIVES, teacher.objective, "teacher.objective"),
        model=model,
        training=_changed_training(training, teacher.training),
        data=dataclasses.replace(config.data, augmentation=augmentation),
        teacher=teacher.teacher,
    )
    _check(made)
    return made


def _built(registry: Any, settings: Any, path: str) -> Any:
    named = {"name": settings} if isinstance(settings, str) else settings
    try:
        return registry.build(named)
    except InvalidSettings as error:
        raise error.with_prefix(path) from None


def _changed_model(config: Config, change: Mapping[str, Any] | None) -> Any:
    if change is None:
        return config.model
    return _built(MODELS, merge(settings_of(config.model), change, "model."), "teacher.model")


def _changed_training(
    training: TrainingSettings, change: Mapping[str, Any] | None
) -> TrainingSettings:
    if change is None:
        return training
    try:
        return TrainingSettings(**merge(settings_of(training), change, "training."))
    except InvalidSettings as error:
        raise error.with_prefix("teacher.training") from None


def _check(teacher: Config) -> None:
    if teacher.objective.uses_neighborhood or teacher.training.search is not None:
        raise InvalidSettings(
            [
                f"teacher.objective: got {teacher.objective.name!r}; allowed: 'standard' or "
                "'noisy_student', because a teacher searches no neighborhood"
            ]
        )


def _schedule(training: TrainingSettings, steps: int) -> ScheduleSettings:
    """Return the student's schedule, scaled to a number of steps."""
    schedule = training.schedule
    if schedule.name != "step":
        return schedule
    scaled = {round(m * steps / training.length) for m in schedule.milestones}
    inside = tuple(sorted(m for m in scaled if 1 <= m < steps))
    if not inside:
        return ScheduleSettings()
    return dataclasses.replace(schedule, milestones=inside)
