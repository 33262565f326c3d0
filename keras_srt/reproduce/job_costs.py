"""How long a job will take: by what is on disk, else by a timed step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from keras_srt.core.registry import settings_of
from keras_srt.objectives import StepPasses
from keras_srt.pipeline.classifiers import build_model
from keras_srt.pipeline.cost import time_step
from keras_srt.pipeline.plan import Plan
from keras_srt.reproduce.store import digest, train_seconds
from keras_srt.reproduce.trained_models import Model, Wanted

# A training this short is over before it could be timed; tracing is most of it.
_SHORT_STEPS, _SHORT_TRAINING, _SHORT_ATTACK = 100, 15.0, 3.0


class Costs:
    """Estimates for the models of a job on this machine.

    Args:
        models: of the job. Of each architecture, a finished one tells how long a pass
            takes; where there is none, one step is timed.
        train: whether missing models will be trained, so that a step may be timed.
    """

    def __init__(self, models: Sequence[Model], train: bool = True) -> None:
        self._pass_seconds: dict[str, float] = {}
        for model in models:
            if model.finished and _architecture(model) not in self._pass_seconds:
                seconds = train_seconds(model.begun.run) / _passes(model.plan, model.plan.steps)
                self._pass_seconds[_architecture(model)] = seconds
        for model in models:
            known = _architecture(model) in self._pass_seconds
            if train and not known and model.plan.steps >= _SHORT_STEPS:
                self._pass_seconds[_architecture(model)] = _timed(model)

    def training(self, model: Model) -> float:
        """Seconds that the rest of a training takes."""
        left = model.plan.steps - model.done
        if left <= 0:
            return 0.0
        if model.plan.steps < _SHORT_STEPS:
            return _SHORT_TRAINING
        return _passes(model.plan, left) * self._pass_seconds.get(_architecture(model), 0.0)

    def evaluation(self, model: Model, wanted: Wanted) -> float:
        """Seconds that an evaluation takes at most."""
        images = min(wanted.limit or model.info.num_test, model.info.num_test)
        if model.plan.steps < _SHORT_STEPS:
            return _SHORT_ATTACK
        passes = wanted.passes * images
        return _SHORT_ATTACK + passes * self._pass_seconds.get(_architecture(model), 0.0)


def _architecture(model: Model) -> str:
    settings = settings_of(model.config.model)
    return digest({"model": settings, "shape": list(model.info.input_shape)})


def _passes(plan: Plan, steps: int) -> float:
    """Cost of the last steps in forward passes of one image; of all steps, with the teacher's."""
    teacher = StepPasses(0, 0, plan.teacher_steps * sum(plan.sizes)).relative_cost
    own = steps * plan.cost_ratio * plan.passes.relative_cost
    return own + (teacher if steps == plan.steps else 0.0)


def _timed(model: Model) -> float:
    """Seconds of a pass, by one step of a training that is to come."""
    built: Any = build_model(model.config, model.info, model.plan)
    step = time_step(built, model.plan, model.info)
    return step.seconds / model.plan.passes.relative_cost


class Clock:
    """What is left of a job: its estimates, corrected by how long the done steps took.

    Args:
        estimates: of each step, with its kind ("train" or "attack"), in any order.
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
        """Starts a step: the head of its line, `[3/41]`."""
        self._began = time.perf_counter()
        return f"[{self.done + 1}/{self.total}]"

    def end(self, kind: str, estimate: float) -> float:
        """Ends a step: the seconds that it took."""
        seconds = time.perf_counter() - self._began
        self.done += 1
        self._left[kind] = max(0.0, self._left[kind] - estimate)
        self._estimated[kind] += estimate
        self._took[kind] += seconds
        return seconds

    @property
    def left(self) -> float:
        """Seconds until the end of the job."""
        return sum(left * self._ratio(kind) for kind, left in self._left.items())

    def _ratio(self, kind: str) -> float:
        estimated = self._estimated[kind]
        return self._took[kind] / estimated if estimated else 1.0
