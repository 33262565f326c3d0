"""Training data whose unlabeled images are streamed from disk."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_srt.config.schema import Config
from keras_srt.core.tensorflow import tf
from keras_srt.data import (
    ONE_REPLICA,
    Images,
    IndexRanges,
    Records,
    Replicas,
    Split,
    Streaming,
    load_records,
    ordered_batches,
    streamed_batches,
    training_batches,
)
from keras_srt.pipeline.plan import Plan


class StreamedData(NamedTuple):
    """Training data with streamed unlabeled images; labeled and validation images in memory.

    Attributes:
        records: The records of the training part.
        split: Which images are labeled, unlabeled and for validation.
        labeled: The labeled images.
        validation: The validation images.
        pseudo_labels: A teacher's class ids or probabilities of the unlabeled images, or None.
    """

    records: Records
    split: Split
    labeled: Images
    validation: Images
    pseudo_labels: np.ndarray | None = None

    @classmethod
    def load(cls, records: Records, split: Split) -> StreamedData:
        """Load the labeled and the validation images.

        Raises:
            UserError: They can't be read.
        """
        parts = (split.labeled, split.validation)
        return cls(records, split, *(load_records(records, part) for part in parts))

    def batches(
        self, config: Config, plan: Plan, first_step: int, replicas: Replicas = ONE_REPLICA
    ) -> tf.data.Dataset:
        """Make the training batches from a step on, see `streamed_batches`.

        Raises:
            ValueError: The config has no shuffle buffer.
        """
        data = config.data
        settings: dict[str, Any] = {
            "seed": config.seed,
            "first_step": first_step,
            "augmentation": data.augmentation,
            "balance": data.balance,
            "replicas": replicas,
        }
        if not plan.num_unlabeled:
            none = self.labeled.images[:0]
            return training_batches(*self.labeled, none, plan.sizes, **settings)
        if data.shuffle_buffer is None:
            raise ValueError("data.shuffle_buffer: got null; allowed: a number for streamed data")
        return streamed_batches(
            self.labeled,
            self.records,
            _as_ranges(self.split.unlabeled),
            plan.sizes,
            Streaming(data.shuffle_buffer, data.readers),
            pseudo_labels=self.pseudo_labels,
            **settings,
        )

    def unlabeled_batches(self, batch_size: int) -> tf.data.Dataset:
        """Make batches of the unlabeled images in the order of the split, float32 in [0, 1]."""
        return ordered_batches(self.records, _as_ranges(self.split.unlabeled), batch_size)

    def with_pseudo_labels(self, pseudo_labels: np.ndarray) -> StreamedData:
        """Return the same data with a class id or probabilities for each unlabeled image."""
        return self._replace(pseudo_labels=pseudo_labels)


def _as_ranges(indices: np.ndarray | IndexRanges) -> IndexRanges:
    return indices if isinstance(indices, IndexRanges) else IndexRanges.of(indices)
