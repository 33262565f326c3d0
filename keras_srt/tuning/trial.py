"""A trial: a run that is trained, then scored on its validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from keras_srt.config.schema import Config
from keras_srt.core.errors import InvalidSettings, NotFinite
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import evaluation_batches
from keras_srt.pipeline.configs import claim
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import load_training_data
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.train import train
from keras_srt.pipeline.training_loop import VALIDATION_BATCH
from keras_srt.training.strategy import check_replicas
from keras_srt.tuning.trial_results import Outcome, read_outcome


class TrialFailed(Exception):
    """The training can't finish with the values of this trial."""


class Trials(NamedTuple):
    """Runs the trials of a search.

    Attributes:
        config: The configuration of the search; its neighborhood is used to score all trials.
        folder: The folder of the trials; each is a run folder with a `trial.json`.
        data_dir: The folder of prepared datasets, or None.
    """

    config: Config
    folder: Path
    data_dir: Path | None

    def run(self, trial: str, values: dict[str, Any], config: Config) -> float:
        """Train or resume a trial and score it; a finished trial is not repeated.

        Args:
            trial: The name of the trial.
            values: The values of the searched settings.
            config: The configuration with these values.

        Returns:
            The robust validation accuracy in the search's neighborhood.

        Raises:
            TrialFailed: The loss became NaN, memory ran out, or the settings are inconsistent.
            UserError: The folder belongs to another trial, or the dataset can't be used.
            Interrupted: Ctrl-C was pressed; the state is saved.
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
        # Resets the layer names to those of a separate run.
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
            claim(folder, context.config, resume=True)
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
        # float32 has seven digits.
        return round(float(found["robust_accuracy"]), 6), round(float(found["accuracy"]), 6)
