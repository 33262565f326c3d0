"""A trial: an ordinary run that is trained, and then scored on its validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from keras_srt.config.schema import Config
from keras_srt.core.errors import InvalidSettings, NotFinite
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import evaluation_batches
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import load_training_data
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.train import train
from keras_srt.pipeline.training_loop import VALIDATION_BATCH
from keras_srt.training.strategy import check_replicas
from keras_srt.tuning.trial_results import Outcome, read_outcome


class TrialFailed(Exception):
    """A training that can't be finished with its values; with others it may be."""


class Trials(NamedTuple):
    """Runs the trials of a search.

    Attributes:
        config: of the search; all trials are attacked in its neighborhood.
        folder: of the trials, each a run folder with its `trial.json`.
        data_dir: where prepared datasets lie, or None.
    """

    config: Config
    folder: Path
    data_dir: Path | None

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
        steps = 0
        try:
            context = RunContext.open(
                config, run, self.data_dir, strategy=config.training.strategy, resume=True
            )
            steps = context.plan.steps
            self._train(context)
            scores = self._score(context)
        except (NotFinite, InvalidSettings, tf.errors.ResourceExhaustedError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return Outcome(trial, values, steps, reason=reason)
        seconds = sum(float(row["seconds"]) for row in run.read_history())
        return Outcome(trial, values, steps, *scores, round(seconds, 1))

    def _train(self, context: RunContext) -> None:
        """Train as `keras-srt train` does, but without the test images."""
        replicas, plan, folder = context.distribution.num_replicas, context.plan, context.folder
        check_replicas(replicas, plan.sizes, plan.num_validation)
        with folder.held():
            folder.claim(
                context.config.to_json(),
                resume=True,
                read=lambda path: load_config(str(path)).to_json(),
            )
            train(context)

    def _score(self, context: RunContext) -> tuple[float, float]:
        """Return robust and clean accuracy of the best classifier on the validation images.

        The history's robust accuracy is that of the trial's own neighborhood, in which a weaker
        search or a smaller size would look better.
        """
        from keras_srt.training.model import RobustModel

        search = self.config
        model = RobustModel(
            context.best_classifier, search.neighborhood, search.objective, seed=search.seed
        )
        model.compile()
        images, labels = load_training_data(context).validation
        batches = evaluation_batches(images, labels, VALIDATION_BATCH)
        found = model.evaluate(batches, verbose=0, return_dict=True)
        # 32-bit floats have seven digits.
        return round(float(found["robust_accuracy"]), 6), round(float(found["accuracy"]), 6)
