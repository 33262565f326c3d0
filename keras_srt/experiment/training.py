"""The training of a run: its split, a teacher where the objective has one, the classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_srt.config import Config
from keras_srt.data import DatasetInfo, Split, make_split
from keras_srt.experiment.stage import Interrupted, TrainingPart, train_stage
from keras_srt.experiment.teacher import ask_teacher
from keras_srt.lazy import tf
from keras_srt.runs import RunFolder


def train(
    config: Config,
    run: RunFolder,
    data_dir: Path | None,
    resume: bool = False,
    how_to_resume: str = "",
) -> None:
    """Trains, from the start or from the last checkpoint, and leaves the best classifier.

    Args:
        config: of the run.
        run: its folder, claimed.
        data_dir: where prepared datasets lie, or None.
        resume: whether to go on from the last checkpoint, if there is one.
        how_to_resume: the command to print after Ctrl-C.

    Raises:
        UserError: the dataset, the split, pseudo-labels or a checkpoint can't be used.
        Interrupted: after Ctrl-C, with the state saved.
    """
    if not tf.config.list_physical_devices("GPU"):
        # Equal seeds give equal results; on CPUs this costs nothing measurable.
        tf.config.experimental.enable_op_determinism()
    info = config.data.dataset.info(data_dir)

    def load() -> TrainingPart:
        images, labels = config.data.dataset.load_train(data_dir)
        data = TrainingPart(images, labels, _split(config, run, labels, info))
        if not config.objective.uses_teacher:
            return data
        answers = ask_teacher(config, run, info, data, resume, how_to_resume)
        return data._replace(pseudo_labels=answers)

    train_stage(config, run, info, load, resume, how_to_resume)


def _split(config: Config, run: RunFolder, labels: np.ndarray, info: DatasetInfo) -> Split:
    """The run's split: read if it was saved, else drawn and saved."""
    if run.split.is_file():
        split = Split.load(run.split)
        split.check(info.num_train)
        return split
    split = draw_split(config, labels, info)
    split.save(run.split)
    return split


def draw_split(config: Config, labels: np.ndarray, info: DatasetInfo) -> Split:
    """Draws the split of a run, and saves nothing.

    Raises:
        InvalidSettings: it can't be drawn.
    """
    data = config.data
    return make_split(
        labels,
        len(info.class_names),
        data.labeled,
        data.validation,
        data.unlabeled,
        data.selection,
        config.seed,
    )


__all__ = ["Interrupted", "draw_split", "train"]
