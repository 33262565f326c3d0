"""Exporter of `model_train.tflite`."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.stderr_filter import filter_stderr
from keras_srt.core.tensorflow import keras, tf
from keras_srt.device.model_file import add_labels
from keras_srt.device.trainer import Trainer, add_settings
from keras_srt.exporters.agreement import check_agreement
from keras_srt.exporters.tflite import CONVERTER_NOISE

TRAIN_FILE = "model_train.tflite"
# The neighborhoods of a step on a device.
STAGES = (
    ("linf",),
    ("l2",),
    ("spatial",),
    ("linf", "spatial"),
    ("l2", "spatial"),
    ("spatial", "linf"),
    ("spatial", "l2"),
)
_TOLERANCE = 1e-5

# Log lines that saving and converting write for every model.
_NOISE = (
    r"Importing a function .* with ops with unsaved custom gradients"
    r"|op_stat_pass.* Unsupported data type"
    rf"|{CONVERTER_NOISE}"
)


@dataclasses.dataclass(frozen=True)
class DeviceTrainingSettings:
    """Settings of a training step on a device.

    Batch sizes, `stages`, `num_steps` and `num_samples` are fixed in the file; the other values are
    inputs of each step and the defaults of `python -m keras_srt.device.train`.

    Args:
        stages: The stages of the neighborhood in order: a pixel ball ("linf" or "l2"), "spatial",
            or both.
        num_steps: Gradient steps k in the pixel ball, at least 1.
        epsilon: Radius ε of the pixel ball, in units of pixel values in [0, 1].
        step_size: Step size in the pixel ball, in the same units.
        random_start: Whether the ascent starts at a random point of the ball.
        num_samples: Random transforms of each image in the spatial stage, at least 1.
        max_rotation: Largest rotation in degrees.
        max_translation: Largest translation in pixels.
        labeled: Images in a labeled batch, at least 1.
        unlabeled: Images in an unlabeled batch; 0 for RT.
        robust_weight: Weight λ of the robust loss.
        learning_rate: Learning rate of SGD.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.

    Example:
        >>> DeviceTrainingSettings(num_steps=5, epsilon=0.1, step_size=0.05).labeled
        8
    """

    stages: tuple[str, ...] = ("linf",)
    num_steps: int = 1
    epsilon: float = 0.0
    step_size: float = 0.0
    random_start: bool = True
    num_samples: int = 1
    max_rotation: float = 0.0
    max_translation: float = 0.0
    labeled: int = 8
    unlabeled: int = 24
    robust_weight: float = 1.0
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name, least in {"labeled": 1, "unlabeled": 0, "num_steps": 1, "num_samples": 1}.items():
            if getattr(self, name) < least:
                raise UserError(
                    f"{name}: got {getattr(self, name)}; allowed: a whole number of at least "
                    f"{least}"
                )
        if self.stages not in STAGES:
            listed = ", ".join(" -> ".join(stages) for stages in STAGES)
            raise UserError(
                f"neighborhood: got {' -> '.join(self.stages)}; allowed on a device: {listed}"
            )


def write_trainable(
    classifier: keras.Model,
    class_names: Sequence[str],
    path: Path,
    settings: DeviceTrainingSettings,
    samples: np.ndarray,
) -> float:
    """Write a file with the signatures infer, train, get_weights and set_weights.

    The file contains only builtin operations, so that every TFLite interpreter runs it.

    Args:
        classifier: Keras model, images -> logits.
        class_names: Class names in the order of their ids; stored in the file.
        path: The file.
        settings: Settings of a training step; stored in the file.
        samples: Images, float32, on which `infer` is compared with the classifier.

    Returns:
        The largest difference in probability over the samples.

    Raises:
        UserError: The classifier has a layer that can't be trained on a device.
        RuntimeError: The file doesn't agree with the classifier.
    """
    # Imported here, because defining layer classes imports TensorFlow.
    from keras_srt.exporters.trainable_tflite.layers import trainable_clone
    from keras_srt.exporters.trainable_tflite.step import SRTStep

    clone = trainable_clone(classifier)
    step = SRTStep(clone, settings)
    with filter_stderr(_NOISE):
        path.write_bytes(_convert(step))
    add_labels(path, class_names)
    add_settings(path, dataclasses.asdict(settings))
    expected = tf.nn.softmax(classifier(tf.constant(samples), training=False)).numpy()
    trainer = Trainer(path)
    actual = np.stack([trainer.classify(image) for image in samples])
    return check_agreement(path.name, expected, actual, _TOLERANCE)


def _convert(step: tf.Module) -> bytes:
    signatures = step.signatures()
    # The graphs already contain the gradients; traced again, they would have an unknown batch size.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(step, folder, signatures=signatures, options=options)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        return converter.convert()
