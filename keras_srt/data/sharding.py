"""Each replica's share of the batches of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_srt.core.tensorflow import tf
from keras_srt.data.batches import Replicas


def distribute(
    strategy: tf.distribute.Strategy, make: Callable[[Replicas], tf.data.Dataset]
) -> Any:
    """Make a dataset that gives each replica of a strategy its own elements.

    Args:
        strategy: The strategy that trains.
        make: Makes the dataset of a process: one element per step for each of its replicas,
            in turn.

    Returns:
        A dataset for `fit` and `evaluate` under the strategy.
    """
    total = strategy.num_replicas_in_sync

    def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = total // context.num_input_pipelines
        return make(Replicas(total, context.input_pipeline_id * local, local))

    return strategy.distribute_datasets_from_function(of_process)


def shared_batch_size(num_images: int, most: int, num_replicas: int = 1) -> int:
    """Return the largest batch size whose last batch has an image for each replica.

    Some TensorFlow layers fail on an empty batch.

    Args:
        num_images: Images of the dataset, at least one for each replica.
        most: The upper limit of the batch size.
        num_replicas: Replicas that share a batch.

    Example:
        >>> shared_batch_size(1001, most=250, num_replicas=2)
        249
    """
    sizes = range(most, 0, -1)
    return next(b for b in sizes if num_images % b == 0 or num_images % b >= num_replicas)


def split_rows(dataset: tf.data.Dataset, replicas: Replicas) -> tf.data.Dataset:
    """Split each global batch into the rows of this process' replicas.

    Args:
        dataset: Global batches; structures of tensors with equal first dimensions.
        replicas: The replicas of this process.

    Returns:
        A dataset with one element per batch and local replica.
    """
    if replicas.total == 1:
        return dataset

    def cut(*batch: Any) -> tf.data.Dataset:
        count = tf.cast(tf.shape(tf.nest.flatten(batch)[0])[0], tf.int64)

        def of_replica(number: tf.Tensor) -> Any:
            begin, end = replicas.share(count, replicas.first + number)
            return tf.nest.map_structure(lambda rows: rows[begin:end], batch)

        return tf.data.Dataset.range(replicas.local).map(of_replica)

    return dataset.flat_map(cut)
