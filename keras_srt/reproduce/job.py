"""The work of `keras-srt reproduce`: a plan, then what is missing, then the results."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from keras_srt.attacks import TargetModel
from keras_srt.core.errors import Interrupted
from keras_srt.core.formatting import format_duration
from keras_srt.data import Images
from keras_srt.evaluation.intervals import proportion
from keras_srt.pipeline.classifiers import load_best_classifier
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.evaluate import run_attacks
from keras_srt.pipeline.source import CachedDataset
from keras_srt.pipeline.train import train
from keras_srt.reproduce.evaluations import Outcome
from keras_srt.reproduce.job_costs import Clock, Costs
from keras_srt.reproduce.output import write_target
from keras_srt.reproduce.specs import Target
from keras_srt.reproduce.store import Store
from keras_srt.reproduce.target_results import make_results
from keras_srt.reproduce.trained_models import Model, Models, Wanted, count


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be done.

    Args:
        targets: tables and figures, in this order.
        runs: folder of the trained models.
        output: folder of the results.
        data_dir: where prepared datasets lie, or None.
        seeds: how many of each model.
        limit: test images of an attack, or None for what the scale says.
        train: whether missing models are trained.
    """

    targets: tuple[Target, ...]
    runs: Path
    output: Path
    data_dir: Path | None = None
    seeds: int = 1
    limit: int | None = None
    train: bool = True

    def command_for(self, target: Target) -> str:
        """The command that makes one target anywhere, for its page."""
        words = ["keras-srt reproduce", target.name, "--dataset", target.dataset]
        words += ["--scale", target.scale, "--data-dir", "DIR"]
        words += ["--seeds", str(self.seeds)] if self.seeds != 1 else []
        words += ["--limit", str(self.limit)] if self.limit is not None else []
        return " ".join(words)


def reproduce(request: Request) -> list[Path]:
    """Trains and evaluates what is missing, and writes the results of each target.

    Args:
        request: what is to be done.

    Returns:
        The files written.

    Raises:
        UserError: the dataset or a run can't be used.
        Interrupted: after Ctrl-C; what is done is kept.
    """
    try:
        return _Job(request).run()
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted from None


class _Job:
    """A request under way."""

    def __init__(self, request: Request) -> None:
        self._request = request
        store = Store(request.runs)
        for path in store.unreadable:
            print(f"left aside  {path} (its config can't be read)", flush=True)
        self._models = Models(store, request.data_dir, request.seeds, request.limit)
        self._store = store
        self._all = self._models.all(request.targets)
        self._costs = Costs(self._all, request.train)
        self._clock = Clock(self._estimates())
        self._tests: dict[str, Images] = {}

    def run(self) -> list[Path]:
        """The plan, then target by target."""
        self._print_plan()
        written: list[Path] = []
        for target in self._request.targets:
            for model in self._models.of(target):
                self._complete(model)
            results = make_results(target, self._models, self._request.command_for(target))
            files = write_target(results, target.file_name, self._request.output)
            print(f"written     {', '.join(map(str, files))}", flush=True)
            written += files
        return written

    def _runnable(self, model: Model) -> bool:
        return model.finished or self._request.train

    def _estimates(self) -> list[tuple[str, float]]:
        found = []
        for model in filter(self._runnable, self._all):
            if not model.finished:
                found.append(("train", self._costs.training(model)))
            for wanted in model.missing():
                found.append(("attack", self._costs.evaluation(model, wanted)))
        return found

    def _print_plan(self) -> None:
        finished, begun, missing = count(self._all)
        print(f"targets     {', '.join(target.file_name for target in self._request.targets)}")
        print(f"models      {finished} trained, {begun} begun, {missing} missing")
        for model in self._all:
            state = f"{model.done:,} of {model.plan.steps:,} steps"
            if not self._runnable(model):
                state += ", left out (--no-train)"
            name = model.config.name if model.stored is None else model.stored.run.path
            print(f"  {name}: {state}, {len(model.missing())} evaluations to make")
        left = f"about {format_duration(self._clock.left)} on this machine"
        print(f"time        {left if self._clock.total else 'nothing to do'}", flush=True)

    def _complete(self, model: Model) -> None:
        """Trains a model if it isn't, and makes the evaluations that it lacks."""
        if not self._runnable(model):
            return
        if not model.finished:
            self._train(model)
        missing = model.missing()
        if not missing:
            return
        run, config = model.begun
        # One for all attacks, so that the model is traced once.
        classifier = load_best_classifier(config, run, model.info)
        target_model = TargetModel(classifier, model.config.evaluation.batch_size)
        for wanted in missing:
            self._evaluate(model, target_model, wanted)

    def _train(self, model: Model) -> None:
        estimate = self._costs.training(model)
        if model.stored is None:
            model.stored = self._store.claim(model.config)
        run, config = model.stored
        print(f"{self._clock.begin()} train {run.path.name}{self._left()}", flush=True)
        train(RunContext.open(config, run, self._request.data_dir, resume=True))
        seconds = self._clock.end("train", estimate)
        print(f"    trained in {format_duration(seconds)}", flush=True)

    def _evaluate(self, model: Model, target_model: TargetModel, wanted: Wanted) -> None:
        estimate = self._costs.evaluation(model, wanted)
        head = self._clock.begin()
        attacks = [] if wanted.attack is None else [wanted.attack]
        test = self._test(model, wanted.limit)
        robustness = run_attacks(model.config, target_model, test, attacks)
        outcome = Outcome.of(robustness, wanted.attack, wanted.limit, model.config.seed)
        model.open().add(outcome)
        seconds = self._clock.end("attack", estimate)
        found = proportion(outcome.still_right)
        print(
            f"{head} {wanted.name} on {model.begun.run.path.name}: {100 * found['accuracy']:.1f}% "
            f"(n={found['n']:,}, {format_duration(seconds)}){self._left()}",
            flush=True,
        )

    def _left(self) -> str:
        return f", left: about {format_duration(self._clock.left)}"

    def _test(self, model: Model, limit: int | None) -> Images:
        name = model.config.data.dataset.name
        if name not in self._tests:
            dataset = CachedDataset(model.config.data.dataset, self._request.data_dir)
            self._tests[name] = dataset.test()
        images, labels = self._tests[name]
        return Images(images[:limit], labels[:limit])
