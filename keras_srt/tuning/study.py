"""A hyperparameter search in one or several processes."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import grpc
import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import TrialStatus

from keras_srt.config.schema import Config
from keras_srt.core.errors import UserError
from keras_srt.core.files import absolute
from keras_srt.core.scratch_folders import scratch_folder
from keras_srt.core.tensorflow import tf
from keras_srt.pipeline.configs import COMPONENTS, claim
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.tuning.journal import Journal
from keras_srt.tuning.oracles import OBJECTIVE, decode, make_oracle
from keras_srt.tuning.search_output import write_search
from keras_srt.tuning.trial import TrialFailed, Trials
from keras_srt.tuning.trial_config import (
    apply_values,
    check_space,
    trial_steps,
    tune_of,
    with_length,
)
from keras_srt.tuning.trial_results import Outcome, read_outcome, shown

_log = logging.getLogger(__name__)

Role = Literal["alone", "chief", "worker"]
_VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
_PAUSE = 1.0  # seconds between requests of a waiting worker


def read_role(environment: Mapping[str, str] = os.environ) -> Role:
    """Read the role of this process from keras-tuner's environment variables.

    Raises:
        UserError: Some of the variables are missing.

    Example:
        >>> read_role({})
        'alone'
    """
    if "KERASTUNER_ORACLE_IP" not in environment:
        return "alone"
    missing = [name for name in _VARIABLES if not environment.get(name)]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: missing beside KERASTUNER_ORACLE_IP; allowed: all of "
            f"{', '.join(_VARIABLES)}, the first being chief for one process, and tuner0, "
            "tuner1, … for the others"
        )
    # The same rule as in keras-tuner.
    return "chief" if "chief" in environment["KERASTUNER_TUNER_ID"] else "worker"


class Search(BaseTuner):
    """keras-tuner's search loop, with runs as trials.

    Args:
        oracle: Chooses the values of the next trial.
        trials: Trains and scores trials.
        directory: A folder for keras-tuner's files, which are never read.
    """

    def __init__(self, oracle: Any, trials: Trials, directory: str) -> None:
        super().__init__(oracle, directory=directory, project_name="search", overwrite=True)
        self._trials, self._asked = trials, 0

    def pre_create_trial(self) -> None:
        """Wait before a repeated request."""
        self._asked += 1
        if self._asked > 1:
            time.sleep(_PAUSE)

    def _try_run_and_update_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        # keras-tuner's own method prints a traceback for a failure that is already reported.
        try:
            self._run_and_update_trial(trial)
            trial.status = TrialStatus.COMPLETED
        except keras_tuner.errors.FailedTrialError as error:
            trial.status, trial.message = TrialStatus.FAILED, str(error)

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Train and score a trial; only errors caused by its values make the trial fail."""
        self._asked = 0
        search, numbers = self._trials.config, trial.hyperparameters.values
        tune = tune_of(search)
        values = decode(tune, numbers)
        length = trial_steps(tune, numbers.get("tuner/epochs"))
        name = f"{search.name}-trial-{trial.trial_id}"
        description = [f"trial {trial.trial_id} of the search {search.name}"]
        settings = {"name": name, "description": description}
        try:
            config = apply_values(search, values | length, COMPONENTS, **settings)
            tried = ", ".join(f"{key} {shown(value)}" for key, value in values.items())
            _log.info("\ntrial %s: %s", trial.trial_id, tried)
            return {OBJECTIVE: self._trials.run(trial.trial_id, values, config)}
        except TrialFailed as error:
            _log.warning("trial %s failed: %s", trial.trial_id, error)
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        except Exception as error:
            # Other trials would fail, too, or the user interrupted the search.
            raise keras_tuner.errors.FatalError from error


def tune(
    config: Config,
    folder: Path,
    data_dir: Path | None,
    resume: bool = False,
) -> list[Outcome]:
    """Search the settings of `config.tune` and write the results.

    Args:
        config: A configuration with a `tune` section.
        folder: The folder of the search; `trials/` in it has a run folder per trial.
        data_dir: The folder of prepared datasets, or None.
        resume: Whether to resume the search in the folder.

    Returns:
        The trials, best first; empty for a worker.

    Raises:
        InvalidSettings: The search space has invalid values.
        UserError: The folder can't be used, or too many consecutive trials failed.
        Interrupted: Ctrl-C was pressed; the state of the trial is saved.
    """
    # The working directory may be removed during the search.
    folder = absolute(folder, "search folder")
    data_dir = None if data_dir is None else absolute(data_dir, "data folder")
    role, config = read_role(), with_length(config)
    info = config.data.dataset.open(data_dir).info
    check_space(config, COMPONENTS, lambda made: make_plan(made, info))
    own = RunFolder(folder)
    with contextlib.ExitStack() as until_the_end:
        if role != "worker":
            until_the_end.enter_context(own.held())
        if role != "worker" or own.config.is_file():
            claim(own, config, resume or role == "worker")
        trials = Trials(config, folder / "trials", data_dir)
        return _run(config, folder, trials, role)


def _run(config: Config, folder: Path, trials: Trials, role: Role) -> list[Outcome]:
    """Run the search and write its results."""
    oracle = make_oracle(tune_of(config), Journal(folder / "journal.jsonl"))
    with scratch_folder(Path(tempfile.gettempdir()), "keras-srt-tune-") as directory:
        search = Search(oracle, trials, str(directory))
        if role != "worker":
            oracle.replay()
        if role == "alone":
            oracle.hand_over()
        _search(search, role)
    if role == "worker":
        _log.info("the search is finished; the chief writes the results to %s", folder)
        return []
    read = (read_outcome(trials.folder / trial) for trial in oracle.end_order)
    outcomes = [outcome for outcome in read if outcome is not None]
    return write_search(config, folder, outcomes, oracle.gives_up)


def _search(search: Search, role: Role) -> None:
    """Run the search loop; reraise the error of a trial."""
    address = ":".join(os.environ.get(name, "") for name in _VARIABLES[1:])
    if role != "alone":
        others = "workers" if role == "chief" else "the chief"
        _log.info("%s of the search: waiting for %s at %s", role, others, address)
    try:
        with _without_retracing_hints():
            search.search()
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ or error from None
    except grpc.RpcError as error:
        raise UserError(
            f"{address}: the chief of the search is not available ({error.code().name}); restart "
            "the chief with --resume, then this worker"
        ) from error
    except RuntimeError as error:
        if role != "chief":
            raise
        raise UserError(f"{address}: {error}; see KERASTUNER_ORACLE_IP and …_PORT") from error


@contextlib.contextmanager
def _without_retracing_hints() -> Iterator[None]:
    """Suppress TensorFlow's hints about retracing: each trial has a new model."""

    def keeps(record: logging.LogRecord) -> bool:
        return "retracing" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(keeps)
    try:
        yield
    finally:
        logger.removeFilter(keeps)
