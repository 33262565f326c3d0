"""The job of `keras-srt reproduce`: train and evaluate missing models, then write the results."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from keras_srt.attacks import TargetModel
from keras_srt.core.errors import Interrupted
from keras_srt.core.files import absolute
from keras_srt.core.formatting import format_duration
from keras_srt.data import Images
from keras_srt.evaluation.intervals import proportion
from keras_srt.pipeline.classifiers import load_best_classifier
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.evaluate import run_attacks
from keras_srt.pipeline.source import CachedDataset
from keras_srt.pipeline.train import train
from keras_srt.reproduce.evaluation_cache import Outcome
from keras_srt.reproduce.job_estimates import Clock, Costs
from keras_srt.reproduce.job_models import Model, Models, Wanted, count
from keras_srt.reproduce.output import write_target
from keras_srt.reproduce.specs import Target
from keras_srt.reproduce.store import Store
from keras_srt.reproduce.target_results import make_results

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of a job.

    Args:
        targets: Tables and figures, in this order.
        runs: The folder of the trained models.
        output: The folder for the results.
        data_dir: The folder of prepared datasets, or None.
        seeds: Number of seeds per model.
        limit: Test images per attack, or None for the default of the scale.
        train: Whether to train missing models.
    """

    targets: tuple[Target, ...]
    runs: Path
    output: Path
    data_dir: Path | None = None
    seeds: int = 1
    limit: int | None = None
    train: bool = True

    def command_for(self, target: Target) -> str:
        """Return the command that reproduces a single target, for its page."""
        words = ["keras-srt reproduce", target.name, "--dataset", target.dataset]
        words += ["--scale", target.scale, "--data-dir", "DIR"]
        words += ["--reading", target.reading] if target.reading != "patent" else []
        words += ["--seeds", str(self.seeds)] if self.seeds != 1 else []
        words += ["--limit", str(self.limit)] if self.limit is not None else []
        return " ".join(words)


def reproduce(request: Request) -> list[Path]:
    """Train and evaluate missing models, and write the results of each target.

    Args:
        request: The options of the job.

    Returns:
        The files written.

    Raises:
        UserError: The dataset or a run can't be used.
        Interrupted: Ctrl-C was pressed; finished work is kept.
    """
    # The working directory may be removed during the job.
    data_dir = None if request.data_dir is None else absolute(request.data_dir, "data folder")
    runs, output = absolute(request.runs, "--runs"), absolute(request.output, "--output")
    request = dataclasses.replace(request, runs=runs, output=output, data_dir=data_dir)
    try:
        return _Job(request).run()
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted from None


class _Job:
    """A running job."""

    def __init__(self, request: Request) -> None:
        self._request = request
        store = Store(request.runs)
        for path in store.unreadable:
            _log.warning("%s: skipped, because its config can't be read", path)
        self._models = Models(store, request.data_dir, request.seeds, request.limit)
        self._store = store
        self._all = self._models.all(request.targets)
        self._costs = Costs(self._all, request.train)
        self._clock = Clock(self._estimates())
        self._tests: dict[str, Images] = {}

    def run(self) -> list[Path]:
        """Log the plan, then complete and write one target after the other."""
        self._log_plan()
        written: list[Path] = []
        for target in self._request.targets:
            for model in self._models.of(target):
                self._complete(model)
            results = make_results(target, self._models, self._request.command_for(target))
            files = write_target(results, target.file_name, self._request.output)
            _log.info("written     %s", ", ".join(map(str, files)))
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

    def _log_plan(self) -> None:
        finished, started, missing = count(self._all)
        names = ", ".join(target.file_name for target in self._request.targets)
        _log.info("targets     %s", names)
        _log.info("models      %d trained, %d started, %d missing", finished, started, missing)
        for model in self._all:
            state = f"{model.done:,} of {model.plan.steps:,} steps"
            if not self._runnable(model):
                state += ", skipped (--no-train)"
            name = model.config.name if model.stored is None else model.stored.run.path
            _log.info("  %s: %s, %d evaluations to run", name, state, len(model.missing()))
        left = f"about {format_duration(self._clock.left)} on this machine"
        _log.info("time        %s", left if self._clock.total else "nothing to do")

    def _complete(self, model: Model) -> None:
        """Train a model if it is not finished, and run its missing evaluations."""
        if not self._runnable(model) or (model.finished and not model.missing()):
            return
        if model.stored is None:
            model.stored = self._store.claim(model.config)
        with model.started.run.held():
            self._train_and_evaluate(model)

    def _train_and_evaluate(self, model: Model) -> None:
        if not model.finished:
            self._train(model)
        missing = model.missing()
        if not missing:
            return
        run, config = model.started
        # Shared by all attacks, so that the model is traced once.
        classifier = load_best_classifier(config, run, model.info)
        settings = model.config.evaluation
        target_model = TargetModel(classifier, settings.batch_size, settings.precision)
        for wanted in missing:
            self._evaluate(model, target_model, wanted)

    def _train(self, model: Model) -> None:
        estimate = self._costs.training(model)
        run, config = model.started
        _log.info("%s train %s%s", self._clock.begin(), run.path.name, self._left())
        train(RunContext.open(config, run, self._request.data_dir, resume=True))
        seconds = self._clock.end("train", estimate)
        _log.info("    trained in %s", format_duration(seconds))

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
        accuracy = f"{100 * found['accuracy']:.1f}% (n={found['n']:,}, {format_duration(seconds)})"
        name = model.started.run.path.name
        _log.info("%s %s on %s: %s%s", head, wanted.name, name, accuracy, self._left())

    def _left(self) -> str:
        return f", about {format_duration(self._clock.left)} left"

    def _test(self, model: Model, limit: int | None) -> Images:
        name = model.config.data.dataset.name
        if name not in self._tests:
            dataset = CachedDataset(model.config.data.dataset, self._request.data_dir)
            self._tests[name] = dataset.test()
        images, labels = self._tests[name]
        return Images(images[:limit], labels[:limit])
