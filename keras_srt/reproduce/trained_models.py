"""The models of a job: which are there, which to train, what is known of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_srt.attacks import ATTACKS, Attack
from keras_srt.config.schema import Config
from keras_srt.data import DatasetInfo
from keras_srt.pipeline.plan import Plan, make_plan
from keras_srt.reproduce.evaluations import Evaluations
from keras_srt.reproduce.recipes import make_config
from keras_srt.reproduce.specs import AttackSpec, ModelSpec, Target
from keras_srt.reproduce.store import Store, Stored, fingerprint, steps_done


@dataclasses.dataclass(frozen=True)
class Wanted:
    """An attack on the first images of the test part.

    Args:
        attack: None for the images as they are.
        limit: how many images; None for all.
        passes: of an image, at most.
    """

    attack: Attack | None
    limit: int | None
    passes: int = 1

    @property
    def name(self) -> str:
        """For the lines of progress."""
        return "clean" if self.attack is None else self.attack.name


@dataclasses.dataclass
class Model:
    """A model of the job, with what is known of it by now.

    Args:
        config: how it is trained.
        info: its dataset.
        plan: what its config amounts to.
        stored: its run, or None before there is one.
        wanted: the evaluations that the tables need.
        evaluations: those there are, once it is trained.
    """

    config: Config
    info: DatasetInfo
    plan: Plan
    stored: Stored | None
    wanted: list[Wanted] = dataclasses.field(default_factory=list)
    evaluations: Evaluations | None = None

    @property
    def begun(self) -> Stored:
        """Its run.

        Raises:
            RuntimeError: there is none yet.
        """
        if self.stored is None:
            raise RuntimeError(f"{self.config.name}: its training hasn't begun")
        return self.stored

    @property
    def done(self) -> int:
        """Training steps done."""
        return 0 if self.stored is None else steps_done(self.stored.run, self.plan.steps)

    @property
    def finished(self) -> bool:
        """Whether it is trained."""
        return self.done >= self.plan.steps

    def open(self) -> Evaluations:
        """Its evaluations, read when they are first asked for."""
        if self.evaluations is None:
            self.evaluations = Evaluations(self.begun.run)
        return self.evaluations

    def missing(self) -> list[Wanted]:
        """The evaluations still to be made."""
        if not self.finished:
            return list(self.wanted)
        there, seed = self.open(), self.config.seed
        return [one for one in self.wanted if there.find(one.attack, one.limit, seed) is None]


class Models:
    """The models of some targets, each once.

    Args:
        store: trained models.
        data_dir: where prepared datasets lie, or None.
        seeds: how many of each model.
        limit: test images of an attack, or None for what the targets say.
    """

    def __init__(
        self, store: Store, data_dir: Path | None, seeds: int = 1, limit: int | None = None
    ) -> None:
        self.store, self.data_dir = store, data_dir
        self.seeds, self.limit = range(seeds), limit
        # Specs may differ and mean the same training.
        self._models: dict[str, Model] = {}
        self._marks: dict[tuple[ModelSpec, str, str, int], str] = {}
        self._infos: dict[str, DatasetInfo] = {}

    def get(self, spec: ModelSpec, target: Target, seed: int) -> Model:
        """The model of a spec, which is made at the first call."""
        place = (spec, target.dataset, target.scale, seed)
        if place not in self._marks:
            config = make_config(spec, target.dataset, target.scale, seed)
            self._marks[place] = fingerprint(config)
            if self._marks[place] not in self._models:
                self._models[self._marks[place]] = self._make(config, target.dataset)
        return self._models[self._marks[place]]

    def _make(self, config: Config, dataset: str) -> Model:
        if dataset not in self._infos:
            self._infos[dataset] = config.data.dataset.info(self.data_dir)
        info = self._infos[dataset]
        plan = make_plan(config, info)
        return Model(config, info, plan, self.store.find(config, plan.steps))

    def of(self, target: Target) -> list[Model]:
        """All models of a target, each with the evaluations that the target needs."""
        found = []
        for spec in target.models():
            for seed in self.seeds:
                model = self.get(spec, target, seed)
                attacks = [self.wanted(attack, target) for attack in target.attacks_on(spec)]
                for wanted in (self.wanted(None, target), *attacks):
                    if wanted not in model.wanted:
                        model.wanted.append(wanted)
                found.append(model)
        return found

    def all(self, targets: Iterable[Target]) -> list[Model]:
        """The models of all targets, each once, in the order of the targets."""
        return list({id(model): model for target in targets for model in self.of(target)}.values())

    def wanted(self, attack: AttackSpec | None, target: Target) -> Wanted:
        """The evaluation for an attack of a target, or for its untampered images."""
        images = self.limit if self.limit is not None else target.images
        if attack is None:
            return Wanted(None, images)
        limits = [limit for limit in (images, attack.images) if limit is not None]
        built = ATTACKS.build(attack.settings)
        return Wanted(built, min(limits, default=None), attack.passes)


def count(models: Sequence[Model]) -> tuple[int, int, int]:
    """How many are finished, begun, and not there at all."""
    finished = sum(model.finished for model in models)
    begun = sum(not model.finished and model.done > 0 for model in models)
    return finished, begun, len(models) - finished - begun
