"""A trial: an ordinary run that is trained, and then scored on its validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.config.schema import Config
from keras_srt.core.errors import InvalidSettings, NotFinite
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import DatasetInfo, Images, Split, evaluation_batches
from keras_srt.pipeline import plan as plans
from keras_srt.pipeline import run as pipeline
from keras_srt.pipeline.distribution import Distribution
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.streamed import StreamedPart
from keras_srt.pipeline.train import VALIDATION_BATCH
from keras_srt.tuning.trial_results import Outcome, read_outcome


class TrialFailed(Exception):
    """A training that can't be finished with its values; with others it may be."""


class Trials(NamedTuple):
    """Runs the trials of a search.

    Attributes:
        config: of the search; all trials are attacked in its neighborhood.
        folder: of the trials, each a run folder with its `trial.json`.
        data_dir: where prepared datasets lie, or None.
        how_to_resume: the command to print after Ctrl-C.
    """

    config: Config
    folder: Path
    data_dir: Path | None
    how_to_resume: str

    def run(self, trial: str, values: dict[str, Any], config: Config) -> float:
        """Trains a trial, from where it was left, and scores it; a finished one answers at once.

        Args:
            trial: its name.
            values: what it tries.
            config: with these values.

        Returns:
            The share of the validation images that stay right in the search's neighborhood.

        Raises:
            TrialFailed: the loss became NaN, the memory was too small, or its settings don't
                fit each other.
            UserError: the folder is another trial's, or the dataset can't be used.
            Interrupted: after Ctrl-C, with the state saved.
        """
        run = RunFolder(self.folder / trial)
        outcome = read_outcome(run.path)
        if outcome is None or outcome.values != values:
            outcome = self._train_and_score(run, trial, values, config)
            outcome.save(run.path)
        if outcome.robust is None:
            raise TrialFailed(outcome.reason)
        return outcome.robust

    def _train_and_score(
        self, run: RunFolder, trial: str, values: dict[str, Any], config: Config
    ) -> Outcome:
        """Trains and scores."""
        # Layers have the names, and so the files, of a run by itself.
        keras.backend.clear_session()
        info = config.data.dataset.info(self.data_dir)
        try:
            plan = plans.make_plan(config, info)
            self._train(config, run, plan)
            scores = self._score(config, run, info)
        except (NotFinite, InvalidSettings, tf.errors.ResourceExhaustedError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return Outcome(trial, values, plan.steps, reason=reason)
        seconds = sum(float(row["seconds"]) for row in run.read_history())
        return Outcome(trial, values, plan.steps, *scores, round(seconds, 1))

    def _train(self, config: Config, run: RunFolder, plan: plans.Plan) -> None:
        """As `keras-srt train`, but without the test images."""
        distribution = Distribution.make(config.training.strategy)
        distribution.check(plan.sizes, plan.num_validation)
        read = pipeline.load_config
        with run.held():
            run.claim(config.to_json(), resume=True, read=lambda path: read(str(path)).to_json())
            pipeline.train(
                config,
                run,
                self.data_dir,
                resume=True,
                how_to_resume=self.how_to_resume,
                distribution=distribution,
            )

    def _score(self, config: Config, run: RunFolder, info: DatasetInfo) -> tuple[float, float]:
        """Robust and clean accuracy of the best classifier on the validation images.

        The history's robust accuracy is of the trial's own neighborhood: a weaker search, or a
        smaller one, would look better.
        """
        from keras_srt.training.model import RobustModel

        search = self.config
        model = RobustModel(
            pipeline.best_classifier(config, run, info),
            search.neighborhood,
            search.objective,
            seed=search.seed,
        )
        model.compile()
        images, labels = _validation(config, run, self.data_dir)
        batches = evaluation_batches(images, labels, VALIDATION_BATCH)
        found = model.evaluate(batches, verbose=0, return_dict=True)
        # 32-bit floats have seven digits.
        return round(float(found["robust_accuracy"]), 6), round(float(found["accuracy"]), 6)


def _validation(config: Config, run: RunFolder, data_dir: Path | None) -> Images:
    """The validation images of a run."""
    split, source = Split.load(run.split), config.data.dataset
    if config.data.shuffle_buffer is not None:
        return StreamedPart.load(source.records(data_dir), split).validation
    images, labels = source.load_train(data_dir)
    return Images(images[np.asarray(split.validation)], labels[np.asarray(split.validation)])
