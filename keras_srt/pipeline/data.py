"""The training data of a run: its split, and the batches of labeled and unlabeled images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from keras_srt.config.schema import Config
from keras_srt.core.tensorflow import tf
from keras_srt.data import (
    ONE_REPLICA,
    Images,
    Replicas,
    Split,
    evaluation_batches,
    load_labels,
    make_split,
    make_streamed_split,
    training_batches,
)
from keras_srt.pipeline.plan import Plan
from keras_srt.pipeline.source import CachedDataset
from keras_srt.pipeline.streamed import StreamedData

if TYPE_CHECKING:
    from keras_srt.pipeline.context import RunContext


class TrainingData(Protocol):
    """The training part of a dataset, split into labeled, unlabeled and validation images."""

    @property
    def split(self) -> Split:
        """Which images are labeled, unlabeled and for validation."""

    @property
    def validation(self) -> Images:
        """The validation images with their labels."""

    def batches(
        self, config: Config, plan: Plan, first_step: int, replicas: Replicas = ONE_REPLICA
    ) -> tf.data.Dataset:
        """Make the training batches from a step on.

        Args:
            config: The run's configuration.
            plan: The run's plan.
            first_step: The step of the first batch.
            replicas: The replicas of this process.
        """

    def unlabeled_batches(self, batch_size: int) -> tf.data.Dataset:
        """Make batches of the unlabeled images in the order of the split, float32 in [0, 1]."""

    def with_pseudo_labels(self, pseudo_labels: np.ndarray) -> TrainingData:
        """Return the same data with a class id or probabilities for each unlabeled image."""


class InMemoryData(NamedTuple):
    """Training data in memory.

    Attributes:
        images: uint8 [n, height, width, channels].
        labels: int32 [n]; the labels of unlabeled images are never read.
        split: Which images are labeled, unlabeled and for validation.
        pseudo_labels: A teacher's class ids or probabilities of the unlabeled images, or None.
    """

    images: np.ndarray
    labels: np.ndarray
    split: Split
    pseudo_labels: np.ndarray | None = None

    @property
    def validation(self) -> Images:
        """The validation images with their labels."""
        return Images(self.images[self.split.validation], self.labels[self.split.validation])

    def batches(
        self, config: Config, plan: Plan, first_step: int, replicas: Replicas = ONE_REPLICA
    ) -> tf.data.Dataset:
        """Make the training batches from a step on, see `training_batches`."""
        images, split = self.images, self.split
        return training_batches(
            images[split.labeled],
            self.labels[split.labeled],
            images[np.asarray(split.unlabeled)] if plan.num_unlabeled else images[:0],
            plan.sizes,
            seed=config.seed,
            first_step=first_step,
            augmentation=config.data.augmentation,
            pseudo_labels=self.pseudo_labels,
            balance=config.data.balance,
            replicas=replicas,
        )

    def unlabeled_batches(self, batch_size: int) -> tf.data.Dataset:
        """Make batches of the unlabeled images in the order of the split, float32 in [0, 1]."""
        images = self.images[np.asarray(self.split.unlabeled)]
        no_labels = np.zeros(len(images), np.int32)
        return evaluation_batches(images, no_labels, batch_size).map(lambda image, _: image)

    def with_pseudo_labels(self, pseudo_labels: np.ndarray) -> InMemoryData:
        """Return the same data with a class id or probabilities for each unlabeled image."""
        return self._replace(pseudo_labels=pseudo_labels)


def load_training_data(context: RunContext) -> TrainingData:
    """Load the training data of a run, with its saved split or a new one that is saved.

    Raises:
        InvalidSettings: The split can't be drawn.
        UserError: The images or the saved split can't be used.
    """
    config, source = context.config, context.source
    split = _saved_or_drawn(context, lambda: draw_split(config, source))
    if config.data.shuffle_buffer is not None:
        return StreamedData.load(source.records, split)
    return InMemoryData(*source.train, split)


def saved_split(context: RunContext) -> Split:
    """Load the split of a run, and check that the dataset is the one that the run started with.

    Raises:
        UserError: There is none, or images or class names have changed.
    """
    info = context.info
    split = Split.load(context.folder.split)
    split.check(info.num_train, info.fingerprint, info.class_names)
    return split


def _saved_or_drawn(context: RunContext, draw: Callable[[], Split]) -> Split:
    path, info = context.folder.split, context.info
    if path.is_file():
        return saved_split(context)
    names = info.class_names if info.fingerprint is not None else None
    split = dataclasses.replace(draw(), fingerprint=info.fingerprint, class_names=names)
    split.save(path)
    return split


def draw_split(config: Config, source: CachedDataset) -> Split:
    """Draw the split of a run. If the run is streamed, only its first records are read.

    Args:
        config: The run's configuration.
        source: The dataset.

    Raises:
        InvalidSettings: The split can't be drawn; the labeled images lack a class, for example.
        UserError: The records can't be read.
    """
    classes = len(source.info.class_names)
    if source.known_labels is not None:
        return split_of(config, source.known_labels, classes)
    if config.data.shuffle_buffer is None:
        return split_of(config, source.train.labels, classes)
    records = source.records
    return make_streamed_split(
        lambda count: load_labels(records, count),
        source.info.num_train,
        classes,
        **_split_settings(config),
    )


def split_of(config: Config, labels: np.ndarray, num_classes: int) -> Split:
    """Draw the split of a run from the labels of its training images, see `make_split`."""
    return make_split(labels, num_classes, **_split_settings(config))


def _split_settings(config: Config) -> dict[str, Any]:
    names = ("labeled", "validation", "unlabeled", "selection", "validation_from")
    return {name: getattr(config.data, name) for name in names} | {"seed": config.seed}


def check_split(config: Config, source: CachedDataset) -> None:
    """Check before a run that its split can be drawn.

    Images are read only for the selections "first" and "random", where their labels tell whether
    the labeled images have every class.

    Raises:
        InvalidSettings: The split can't be drawn.
        UserError: The records can't be read.
    """
    if config.data.selection != "stratified" or source.known_labels is not None:
        draw_split(config, source)
