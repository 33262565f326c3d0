"""A run: everything that its stages share."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from keras_srt.config.schema import Config
from keras_srt.core.tensorflow import keras
from keras_srt.data import DatasetInfo
from keras_srt.pipeline.classifiers import build_model, load_best_classifier
from keras_srt.pipeline.plan import Plan, make_plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.source import CachedDataset
from keras_srt.pipeline.workers import Distribution

if TYPE_CHECKING:
    from keras_srt.training.model import RobustModel


@dataclasses.dataclass(frozen=True)
class RunContext:
    """Everything that the stages of a run share.

    Args:
        config: The run's configuration.
        source: The dataset.
        plan: The numbers that follow from the config and the dataset.
        folder: The run folder.
        distribution: The devices and workers that train.
        resume: Whether to continue from the last checkpoint in the folder.
        callbacks: Keras callbacks for the training, called after those of the run.
    """

    config: Config
    source: CachedDataset
    plan: Plan
    folder: RunFolder
    distribution: Distribution
    resume: bool = False
    callbacks: tuple[keras.callbacks.Callback, ...] = ()

    @classmethod
    def open(
        cls,
        config: Config,
        folder: RunFolder,
        data_dir: Path | None = None,
        *,
        strategy: str = "one_device",
        resume: bool = False,
    ) -> RunContext:
        """Open a run of one process.

        Args:
            config: The run's configuration.
            folder: The run folder.
            data_dir: The folder of prepared datasets, or None for the default.
            strategy: "one_device" or "mirrored".
            resume: Whether to continue from the last checkpoint in the folder.

        Raises:
            InvalidSettings: The config doesn't fit its dataset.
            UserError: The dataset can't be read, or there is only one device.
        """
        source = CachedDataset(config.data.dataset, data_dir)
        plan = make_plan(config, source.info)
        return cls(config, source, plan, folder, Distribution.make(strategy), resume)

    @property
    def info(self) -> DatasetInfo:
        """The sizes and names of the dataset."""
        return self.source.info

    @functools.cached_property
    def model(self) -> RobustModel:
        """The compiled model to train, with fresh weights at its first use."""
        with self.distribution.strategy.scope():
            return build_model(self.config, self.info, self.plan)

    @functools.cached_property
    def best_classifier(self) -> keras.Model:
        """The classifier with the best validation result, in float32.

        Raises:
            UserError: The run has none yet, or its file is damaged or of another model.
        """
        return load_best_classifier(self.config, self.folder, self.info)

    def with_learning_rate(self, rate: float) -> RunContext:
        """Return the same run with another learning rate and a model of its own."""
        training = dataclasses.replace(self.config.training, learning_rate=rate)
        return dataclasses.replace(self, config=dataclasses.replace(self.config, training=training))
