"""Estimates of the duration of a job, from finished trainings or a timed step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from keras_srt.core.registry import settings_of
from keras_srt.pipeline.classifiers import build_model
from keras_srt.pipeline.cost import time_step
from keras_srt.pipeline.plan import Plan
from keras_srt.reproduce.job_models import Model, Wanted
from keras_srt.reproduce.store import digest, train_seconds

# Short trainings spend most of their time on tracing, so they are not timed.
_SHORT_STEPS, _SHORT_TRAINING, _SHORT_ATTACK = 100, 15.0, 3.0


class Costs:
    """Estimated durations of the trainings and evaluations of a job on this machine.

    Args:
        models: The models of the job. For each architecture, the seconds per pass come from
            a finished model, else from one timed step.
        train: Whether missing models will be trained, so that timing a step is worthwhile.
    """

    def __init__(self, models: Sequence[Model], train: bool = True) -> None:
        self._pass_seconds: dict[str, float] = {}
        for model in models:
            if model.finished and _architecture(model) not in self._pass_seconds:
                seconds = train_seconds(model.started.run) / _passes(model.plan, model.plan.steps)
                self._pass_seconds[_architecture(model)] = seconds
        for model in models:
            known = _architecture(model) in self._pass_seconds
            if train and not known and model.plan.steps >= _SHORT_STEPS:
                self._pass_seconds[_architecture(model)] = _timed(model)

    def training(self, model: Model) -> float:
        """Estimate the seconds of the remaining training."""
        left = model.plan.steps - model.done
        if left <= 0:
            return 0.0
        if model.plan.steps < _SHORT_STEPS:
            return _SHORT_TRAINING
        return _passes(model.plan, left) * self._pass_seconds.get(_architecture(model), 0.0)

    def evaluation(self, model: Model, wanted: Wanted) -> float:
        """Estimate the maximum seconds of an evaluation."""
        images = min(wanted.limit or model.info.num_test, model.info.num_test)
        if model.plan.steps < _SHORT_STEPS:
            return _SHORT_ATTACK
        passes = wanted.passes * images
        return _SHORT_ATTACK + passes * self._pass_seconds.get(_architecture(model), 0.0)


def _architecture(model: Model) -> str:
    settings = settings_of(model.config.model)
    return digest({"model": settings, "shape": list(model.info.input_shape)})


def _passes(plan: Plan, steps: int) -> float:
    """Return the cost of the last steps in forward passes; for all steps, with the teacher's."""
    own = steps * plan.cost_ratio * plan.passes.relative_cost
    if plan.teacher is None or steps < plan.steps:
        return own
    return own + _passes(plan.teacher, plan.teacher.steps)


def _timed(model: Model) -> float:
    """Time one training step; return the seconds per forward pass of an image."""
    built: Any = build_model(model.config, model.info, model.plan)
    step = time_step(built, model.plan, model.info)
    return step.seconds / model.plan.passes.relative_cost


class Clock:
    """The remaining time of a job: estimates, corrected by the measured durations.

    Args:
        estimates: Kind ("train" or "attack") and estimated seconds of each step.
    """

    def __init__(self, estimates: Sequence[tuple[str, float]]) -> None:
        self.total, self.done = len(estimates), 0
        self._left = {"train": 0.0, "attack": 0.0}
        for kind, seconds in estimates:
            self._left[kind] += seconds
        self._estimated = dict.fromkeys(self._left, 0.0)
        self._took = dict.fromkeys(self._left, 0.0)
        self._began = 0.0

    def begin(self) -> str:
        """Start a step; return its number as `[3/41]`."""
        self._began = time.perf_counter()
        return f"[{self.done + 1}/{self.total}]"

    def end(self, kind: str, estimate: float) -> float:
        """End a step; return its duration in seconds."""
        seconds = time.perf_counter() - self._began
        self.done += 1
        self._left[kind] = max(0.0, self._left[kind] - estimate)
        self._estimated[kind] += estimate
        self._took[kind] += seconds
        return seconds

    @property
    def left(self) -> float:
        """Estimated seconds until the end of the job."""
        return sum(left * self._ratio(kind) for kind, left in self._left.items())

    def _ratio(self, kind: str) -> float:
        estimated = self._estimated[kind]
        return self._took[kind] / estimated if estimated else 1.0
