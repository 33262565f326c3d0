"""The strategies of `tf.distribute` that a training can use."""

from __future__ import annotations

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import BatchSizes


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Make a strategy.

    Args:
        name: "one_device"; "mirrored" (all GPUs of this machine, or its logical CPUs if it has
            no GPU); or "multi_worker", which has to be made before TensorFlow computes
            anything, and blocks until all workers are connected.

    Raises:
        UserError: "mirrored" found only one device, or several workers are not supported.
    """
    if name == "multi_worker":
        _check_workers()
        return tf.distribute.MultiWorkerMirroredStrategy()
    return _mirrored() if name == "mirrored" else tf.distribute.get_strategy()


def _check_workers() -> None:
    """Refuse several workers with Keras 3, whose `fit` averages scalar losses over an axis."""
    if not keras.__version__.startswith("2."):
        raise UserError(
            f"--strategy multi_worker: got Keras {keras.__version__}; allowed: Keras 2, which is "
            "installed on Python 3.10 and 3.11, since Keras 3 can't train on several workers; "
            "here use --strategy one_device or mirrored"
        )


def _mirrored() -> tf.distribute.Strategy:
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    count = len(tf.config.list_logical_devices(kind))
    if count < 2:
        raise UserError(
            f"--strategy mirrored: got one device, {kind}:0; allowed: two or more GPUs or logical "
            "CPUs; use --strategy one_device, which can resume the same run"
        )
    devices = [f"{kind}:{index}" for index in range(count)]
    # On CPUs, TensorFlow's collective operations leak 2 KB per exchange.
    reduction = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def check_replicas(num_replicas: int, sizes: BatchSizes, num_validation: int) -> None:
    """Check that each replica gets an image of each batch.

    Args:
        num_replicas: Replicas that share a batch.
        sizes: Images of a training batch.
        num_validation: Validation images; 0 for a training without validation.

    Raises:
        InvalidSettings: There are fewer images than replicas.
    """
    kind, count = ("unlabeled", sizes.unlabeled) if sizes.unlabeled else ("labeled", sum(sizes))
    problems = []
    if count < num_replicas:
        problems.append(
            f"training.batch_size: got {count} {kind} images of a batch for {num_replicas} "
            f"replicas; allowed: at least {num_replicas}"
        )
    if 0 < num_validation < num_replicas:
        problems.append(
            f"data.validation: got {num_validation} images for {num_replicas} replicas; "
            f"allowed: at least {num_replicas}, or 0"
        )
    if problems:
        raise InvalidSettings(problems)
