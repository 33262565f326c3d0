"""The models of a job: their configs, runs on disk and evaluations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_srt.attacks import ATTACKS, Attack
from keras_srt.config.schema import Config
from keras_srt.data import DatasetInfo
from keras_srt.pipeline.plan import Plan, make_plan
from keras_srt.reproduce.evaluation_cache import Evaluations, same_search
from keras_srt.reproduce.recipes import make_config
from keras_srt.reproduce.specs import AttackSpec, ModelSpec, Target
from keras_srt.reproduce.store import Store, Stored, fingerprint, steps_done


@dataclasses.dataclass(frozen=True)
class Wanted:
    """An evaluation that a target needs: an attack on the first test images.

    Args:
        attack: The attack, or None for clean accuracy.
        limit: Number of test images; None for all.
        passes: Maximum number of passes per image.
    """

    attack: Attack | None
    limit: int | None
    passes: int = 1

    @property
    def name(self) -> str:
        """The name to show in progress messages."""
        return "clean" if self.attack is None else self.attack.name


@dataclasses.dataclass
class Model:
    """A model of the job and its state.

    Args:
        config: The training configuration.
        info: The dataset.
        plan: The training plan.
        stored: The run on disk, or None if there is none yet.
        wanted: The evaluations that the targets need.
        evaluations: The finished evaluations, read on first use.
    """

    config: Config
    info: DatasetInfo
    plan: Plan
    stored: Stored | None
    wanted: list[Wanted] = dataclasses.field(default_factory=list)
    evaluations: Evaluations | None = None

    @property
    def started(self) -> Stored:
        """The run on disk.

        Raises:
            RuntimeError: There is none yet.
        """
        if self.stored is None:
            raise RuntimeError(f"{self.config.name}: its training has not started")
        return self.stored

    @property
    def done(self) -> int:
        """The number of finished training steps."""
        return 0 if self.stored is None else steps_done(self.stored.run, self.plan.steps)

    @property
    def finished(self) -> bool:
        """Whether the training is finished."""
        return self.done >= self.plan.steps

    def want(self, wanted: Wanted) -> None:
        """Add an evaluation that a target needs, unless there is one of the same search."""
        for known in self.wanted:
            if known.limit == wanted.limit and same_search(known.attack, wanted.attack):
                return
        self.wanted.append(wanted)

    def open(self) -> Evaluations:
        """Return the evaluations; they are read on first use."""
        if self.evaluations is None:
            self.evaluations = Evaluations(self.started.run)
        return self.evaluations

    def missing(self) -> list[Wanted]:
        """Return the evaluations that have not been run."""
        if not self.finished:
            return list(self.wanted)
        there, seed = self.open(), self.config.seed
        return [one for one in self.wanted if there.find(one.attack, one.limit, seed) is None]


class Models:
    """The distinct models of a set of targets.

    Args:
        store: The trained runs.
        data_dir: The folder of prepared datasets, or None.
        seeds: Number of seeds per model.
        limit: Test images per attack, or None for the defaults of the targets.
    """

    def __init__(
        self, store: Store, data_dir: Path | None, seeds: int = 1, limit: int | None = None
    ) -> None:
        self.store, self.data_dir = store, data_dir
        self.seeds, self.limit = range(seeds), limit
        # Different specs can describe the same training.
        self._models: dict[str, Model] = {}
        self._marks: dict[tuple[ModelSpec, str, str, int], str] = {}
        self._infos: dict[str, DatasetInfo] = {}

    def get(self, spec: ModelSpec, target: Target, seed: int) -> Model:
        """Return the model of a spec; it is created on first use."""
        place = (spec, target.dataset, target.scale, seed)
        if place not in self._marks:
            config = make_config(spec, target.dataset, target.scale, seed)
            self._marks[place] = fingerprint(config)
            if self._marks[place] not in self._models:
                self._models[self._marks[place]] = self._make(config, target.dataset)
        return self._models[self._marks[place]]

    def _make(self, config: Config, dataset: str) -> Model:
        if dataset not in self._infos:
            self._infos[dataset] = config.data.dataset.open(self.data_dir).info
        info = self._infos[dataset]
        plan = make_plan(config, info)
        return Model(config, info, plan, self.store.find(config, plan.steps))

    def of(self, target: Target) -> list[Model]:
        """Return all models of a target, and register the evaluations that the target needs."""
        found = []
        for spec in target.models():
            for seed in self.seeds:
                model = self.get(spec, target, seed)
                attacks = [self.wanted(attack, target) for attack in target.attacks_on(spec)]
                for wanted in (self.wanted(None, target), *attacks):
                    model.want(wanted)
                found.append(model)
        return found

    def all(self, targets: Iterable[Target]) -> list[Model]:
        """Return the models of all targets, each once, in the order of the targets."""
        return list({id(model): model for target in targets for model in self.of(target)}.values())

    def wanted(self, attack: AttackSpec | None, target: Target) -> Wanted:
        """Return the evaluation for an attack of a target, or for clean accuracy."""
        images = self.limit if self.limit is not None else target.images
        if attack is None:
            return Wanted(None, images)
        limits = [limit for limit in (images, attack.images) if limit is not None]
        built = ATTACKS.build(attack.settings)
        return Wanted(built, min(limits, default=None), attack.passes)


def count(models: Sequence[Model]) -> tuple[int, int, int]:
    """Count the finished, started and missing models."""
    finished = sum(model.finished for model in models)
    started = sum(not model.finished and model.done > 0 for model in models)
    return finished, started, len(models) - finished - started
