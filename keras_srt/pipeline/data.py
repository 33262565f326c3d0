"""The training of a run: its split, a teacher where the objective has one, the classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.config.schema import Config
from keras_srt.core.errors import Interrupted
from keras_srt.core.tensorflow import tf
from keras_srt.data import (
    DatasetInfo,
    Records,
    Split,
    load_labels,
    make_split,
    make_streamed_split,
    translate_read_errors,
)
from keras_srt.pipeline.distribution import Distribution
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.streamed import StreamedPart
from keras_srt.pipeline.teacher import ask_teacher
from keras_srt.pipeline.train import TrainingPart, train_stage


def train(
    config: Config,
    run: RunFolder,
    data_dir: Path | None,
    resume: bool = False,
    how_to_resume: str = "",
    distribution: Distribution | None = None,
) -> None:
    """Trains, from the start or from the last checkpoint, and leaves the best classifier.

    Args:
        config: of the run.
        run: its folder, claimed.
        data_dir: where prepared datasets lie, or None.
        resume: whether to go on from the last checkpoint, if there is one.
        how_to_resume: the command to print after Ctrl-C.
        distribution: the devices to train on; None for one.

    Raises:
        UserError: the dataset, the split, pseudo-labels or a checkpoint can't be used.
        Interrupted: after Ctrl-C, with the state saved.
    """
    if not tf.config.list_physical_devices("GPU"):
        # Equal seeds give equal results; on CPUs this costs nothing measurable.
        tf.config.experimental.enable_op_determinism()
    info = config.data.dataset.info(data_dir)

    def load() -> TrainingPart | StreamedPart:
        data = _load(config, run, info, data_dir)
        if not config.objective.uses_teacher:
            return data
        answers = ask_teacher(config, run, info, data, resume, how_to_resume, distribution)
        return data._replace(pseudo_labels=answers)

    with translate_read_errors() if config.data.shuffle_buffer is not None else nullcontext():
        train_stage(config, run, info, load, resume, how_to_resume, distribution)


def _load(
    config: Config, run: RunFolder, info: DatasetInfo, data_dir: Path | None
) -> TrainingPart | StreamedPart:
    """The training part, in memory or streamed, with the run's split."""
    source = config.data.dataset
    if config.data.shuffle_buffer is not None:
        records = source.records(data_dir)
        split = _split(run, info, lambda: draw_streamed_split(config, records, info))
        return StreamedPart.load(records, split)
    images, labels = source.load_train(data_dir)
    return TrainingPart(images, labels, _split(run, info, lambda: draw_split(config, labels, info)))


def _split(run: RunFolder, info: DatasetInfo, draw: Callable[[], Split]) -> Split:
    """The run's split: read if it was saved, else drawn and saved."""
    if run.split.is_file():
        split = Split.load(run.split)
        split.check(info.num_train, info.fingerprint)
        return split
    split = dataclasses.replace(draw(), fingerprint=info.fingerprint)
    split.save(run.split)
    return split


def draw_split(config: Config, labels: np.ndarray, info: DatasetInfo) -> Split:
    """Draws the split of a run, and saves nothing.

    Raises:
        InvalidSettings: it can't be drawn.
    """
    return make_split(labels, len(info.class_names), **_settings(config))


def draw_streamed_split(config: Config, records: Records, info: DatasetInfo) -> Split:
    """Draws the split of a streamed run from the labels of its first records.

    Raises:
        InvalidSettings: it can't be drawn.
        UserError: the records can't be read.
    """
    if records.known_labels is not None:
        return draw_split(config, records.known_labels, info)
    classes = len(info.class_names)
    return make_streamed_split(
        lambda count: load_labels(records, count), info.num_train, classes, **_settings(config)
    )


def _settings(config: Config) -> dict[str, Any]:
    names = ("labeled", "validation", "unlabeled", "selection")
    return {name: getattr(config.data, name) for name in names} | {"seed": config.seed}


def check_split(config: Config, info: DatasetInfo, data_dir: Path | None) -> None:
    """Draws the split for nothing but to see whether it can be drawn.

    Raises:
        InvalidSettings: it can't, as the labeled images lack a class.
    """
    source = config.data.dataset
    if config.data.shuffle_buffer is not None:
        draw_streamed_split(config, source.records(data_dir), info)
    else:
        draw_split(config, source.load_train(data_dir).labels, info)


__all__ = ["Interrupted", "check_split", "draw_split", "train"]
