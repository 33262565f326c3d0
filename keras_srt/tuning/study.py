"""A search: its folder, keras-tuner's oracle and tuner, one process or several, the results."""

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
from keras_srt.core.tensorflow import tf
from keras_srt.pipeline.configs import COMPONENTS, load_config
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.tuning.journal import Journal
from keras_srt.tuning.oracles import OBJECTIVE, decode, make_oracle
from keras_srt.tuning.search_results import conclude
from keras_srt.tuning.trial import TrialFailed, Trials
from keras_srt.tuning.trial_config import (
    apply_values,
    check_space,
    trial_steps,
    tune_of,
    with_length,
)
from keras_srt.tuning.trial_results import Outcome, read_outcome, shown

Role = Literal["alone", "chief", "worker"]
_VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
_PAUSE = 1.0  # seconds between two questions where a worker has to wait


def read_role(environment: Mapping[str, str] = os.environ) -> Role:
    """What this process is in a search, by keras-tuner's own variables.

    Raises:
        UserError: some of them are missing.

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
    # As keras-tuner has it.
    return "chief" if "chief" in environment["KERASTUNER_TUNER_ID"] else "worker"


class Search(BaseTuner):
    """keras-tuner's loop, with trials that are runs.

    Args:
        oracle: says what to try.
        trials: does it.
        directory: for files of keras-tuner, which are never read.
    """

    def __init__(self, oracle: Any, trials: Trials, directory: str) -> None:
        super().__init__(oracle, directory=directory, project_name="search", overwrite=True)
        self._trials, self._asked = trials, 0

    def pre_create_trial(self) -> None:
        """Waits a little where the last question had no answer yet."""
        self._asked += 1
        if self._asked > 1:
            time.sleep(_PAUSE)

    def _try_run_and_update_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        # keras-tuner's own prints the traceback of a failure that is reported already.
        try:
            self._run_and_update_trial(trial)
            trial.status = TrialStatus.COMPLETED
        except keras_tuner.errors.FailedTrialError as error:
            trial.status, trial.message = TrialStatus.FAILED, str(error)

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trains and scores; only what is the fault of the values themselves fails a trial."""
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
            print(f"\ntrial {trial.trial_id}: {tried}", flush=True)
            return {OBJECTIVE: self._trials.run(trial.trial_id, values, config)}
        except TrialFailed as error:
            print(f"trial {trial.trial_id} failed: {error}", flush=True)
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        except Exception as error:
            # Others would fail as well, or the user wants the search to end.
            raise keras_tuner.errors.FatalError from error


def tune(
    config: Config,
    folder: Path,
    data_dir: Path | None,
    resume: bool = False,
) -> list[Outcome]:
    """Searches the settings of `config.tune`, and writes down what was found.

    Args:
        config: with the part `tune`.
        folder: of the search; `trials/` in it has a run folder for each trial.
        data_dir: where prepared datasets lie, or None.
        resume: whether to go on with the search that lies in the folder.

    Returns:
        The outcomes, the best first; none for a worker.

    Raises:
        InvalidSettings: the space has values that no trial can have.
        UserError: the folder can't be used, or too many trials in a row failed.
        Interrupted: after Ctrl-C, with the state of the trial saved.
    """
    role, config = read_role(), with_length(config)
    info = config.data.dataset.info(data_dir)
    check_space(config, COMPONENTS, lambda made: make_plan(made, info))
    own = RunFolder(folder)
    with contextlib.ExitStack() as until_the_end:
        if role != "worker":
            until_the_end.enter_context(own.held())
        if role != "worker" or own.config.is_file():
            own.claim(
                config.to_json(),
                resume or role == "worker",
                read=lambda path: load_config(str(path)).to_json(),
            )
        trials = Trials(config, folder / "trials", data_dir)
        return _run(config, folder, trials, role)


def _run(config: Config, folder: Path, trials: Trials, role: Role) -> list[Outcome]:
    """Searches to the end, and concludes."""
    oracle = make_oracle(tune_of(config), Journal(folder / "journal.jsonl"))
    with tempfile.TemporaryDirectory(prefix="keras-srt-tune-") as directory:
        search = Search(oracle, trials, directory)
        if role != "worker":
            oracle.replay()
        if role == "alone":
            oracle.hand_over()
        _search(search, role)
    if role == "worker":
        print(f"the search is over; the chief writes its results to {folder}", flush=True)
        return []
    read = (read_outcome(trials.folder / trial) for trial in oracle.end_order)
    outcomes = [outcome for outcome in read if outcome is not None]
    return conclude(config, folder, outcomes, oracle.gives_up)


def _search(search: Search, role: Role) -> None:
    """Runs to the end; raises what a trial raised."""
    address = ":".join(os.environ.get(name, "") for name in _VARIABLES[1:])
    if role != "alone":
        others = "workers" if role == "chief" else "the chief"
        print(f"{role} of the search: waiting for {others} at {address}", flush=True)
    try:
        with _without_retracing_hints():
            search.search()
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ or error from None
    except grpc.RpcError as error:
        raise UserError(
            f"{address}: the chief of the search is gone or failed ({error.code().name}); start it "
            "again with --resume, then this worker"
        ) from error
    except RuntimeError as error:
        if role != "chief":
            raise
        raise UserError(f"{address}: {error}; see KERASTUNER_ORACLE_IP and …_PORT") from error


@contextlib.contextmanager
def _without_retracing_hints() -> Iterator[None]:
    """TensorFlow wonders why each trial has a model of its own."""

    def keeps(record: logging.LogRecord) -> bool:
        return "retracing" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(keeps)
    try:
        yield
    finally:
        logger.removeFilter(keeps)
