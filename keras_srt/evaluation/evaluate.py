"""`evaluate`: the robustness of a Keras model on a dataset as Keras users have it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from keras_srt.attacks import Attack
from keras_srt.attacks.target_model import Precision
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.graph_checks import refuse_invalid
from keras_srt.core.tensorflow import tf
from keras_srt.data.batch_sources import as_batches, known_image_shape, known_num_outputs
from keras_srt.data.keras_datasets import to_unit_range
from keras_srt.evaluation.external.open_model import query_model
from keras_srt.evaluation.part_progress import Progress, progress_bars
from keras_srt.evaluation.runner import Robustness, evaluate_robustness
from keras_srt.foreign.adapt import adapt_keras
from keras_srt.foreign.adapted_model import AdaptedModel

_NUM_SAMPLES = 16  # images on which the outputs of an adapted model are examined


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Accuracies under attack.

    Attributes:
        robustness: Predictions before and after each attack, image by image.
        conversions: What was done to the inputs and outputs of the model, one line each.
    """

    robustness: Robustness
    conversions: tuple[str, ...] = ()

    @property
    def clean_accuracy(self) -> float:
        """The fraction of clean images that are correctly classified."""
        return float(self.report()["clean"]["accuracy"])

    @property
    def robust_accuracy(self) -> float:
        """The fraction of images that are correctly classified before and after all attacks."""
        return float(self.report()["worst_case"]["accuracy"])

    @property
    def confidence_interval(self) -> tuple[float, float]:
        """The 95% Wilson interval of the robust accuracy."""
        low, high = self.report()["worst_case"]["ci95"]
        return low, high

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to distrust the results, one line each; they are logged, too."""
        return self.robustness.warnings

    def report(self) -> dict[str, Any]:
        """Return accuracies, attacks and risks as in `report.json`."""
        converted = {"conversions": list(self.conversions)} if self.conversions else {}
        return {**self.robustness.report(), **converted}


def evaluate(
    model: Callable[..., Any],
    data: Any,
    attacks: Sequence[Attack],
    *,
    batch_size: int = 500,
    image_shape: tuple[int, int, int] | None = None,
    seed: int = 0,
    precision: Precision = "auto",
    progress: Progress | Literal["auto"] | None = "auto",
) -> EvaluationResult:
    """Attack a model on a dataset and count the images that remain correctly classified.

    Images with values from 0 to 255 are rescaled to [0, 1].

    Args:
        model: A `RobustModel`, a Keras model or a function, images float32 [batch, height,
            width, channels] in [0, 1] -> logits [batch, classes]; a `QueryModel`; or what
            `adapt_model` returns. Where the layers of a Keras model tell that it takes 0 to 255
            or channels first, or has one output for two classes, it is adapted.
        data: A `tf.data.Dataset` of batches `(images, labels)`; a tuple of two arrays, images [n,
            height, width, channels] and class ids [n]; the path of a folder of class folders; or a
            Hugging Face `datasets.Dataset` with an `Image` and a `ClassLabel` column.
        attacks: The attacks, each on all images.
        batch_size: Number of images to attack at once.
        image_shape: Height, width and channels to which folders and Hugging Face datasets are
            resized; None for those of the model.
        seed: Seed of the attacks' random draws.
        precision: "auto" queries transforms in bfloat16 where the processor is fast at it;
            float32 decides wherever rounding could change a verdict. "float32" doesn't.
        progress: "auto" shows a bar for each attack if stderr is a terminal; None shows nothing; a
            function is called with attack name, images done (those under attack count in
            proportion to the work done on them) and images in all.

    Returns:
        Clean and robust accuracy with a confidence interval.

    Raises:
        InvalidSettings: An argument is invalid, the data has another structure, or a photo can't
            be read.
        UserError: An attack needs gradients and the model has none.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> from keras_srt import FGSM
        >>> brightness = lambda x: tf.stack([0.5 + 0 * x[:, 0, 0, 0], x[:, 0, 0, 0]], axis=1)
        >>> images, labels = np.float32([[[[0.9]]], [[[0.55]]]]), np.int32([1, 1])
        >>> result = evaluate(brightness, (images, labels), [FGSM(0.1)])
        >>> result.clean_accuracy, result.robust_accuracy
        (1.0, 0.5)
    """
    _check_arguments(attacks, batch_size, seed)
    classifier = getattr(model, "classifier", model)
    outputs = known_num_outputs(classifier)
    # Arrays as they are: batches would copy them.
    if not isinstance(data, tuple):
        data = as_batches(
            data,
            "data",
            image_shape=image_shape or known_image_shape(classifier),
            num_classes=2 if outputs == 1 else outputs,
            batch_size=batch_size,
            shuffle=False,
        )
    images, labels = _arrays(to_unit_range(data, "data"))
    target: Any = adapt_keras(model, np.float32(images[:_NUM_SAMPLES]))
    conversions = target.conversions if isinstance(target, AdaptedModel) else ()
    if isinstance(target, AdaptedModel) and not target.opened.in_graph:
        target = query_model(target, batch_size)
    given = contextlib.nullcontext(progress) if progress != "auto" else progress_bars("image")
    with given as shown:
        found = evaluate_robustness(
            target,
            images,
            labels,
            attacks,
            batch_size=batch_size,
            seed=seed,
            precision=precision,
            progress=shown,
        )
    return EvaluationResult(found, conversions)


def _check_arguments(attacks: Any, batch_size: int, seed: int) -> None:
    if not isinstance(attacks, Sequence) or not all(isinstance(a, Attack) for a in attacks):
        raise InvalidSettings(
            [f"attacks: got {attacks!r}; allowed: a list of attacks, such as [srt.PGD(0.1)]"]
        )
    if batch_size < 1:
        raise InvalidSettings([f"batch_size: got {batch_size}; allowed: at least 1"])
    if seed < 0:
        raise InvalidSettings([f"seed: got {seed}; allowed: at least 0"])


def _arrays(data: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(data, tf.data.Dataset):
        data = _concatenated(data)
    if not isinstance(data, tuple) or len(data) != 2:
        raise InvalidSettings(
            [
                "data: got another structure; allowed: batches (images, labels) of a "
                "tf.data.Dataset, a tuple (images, labels), a folder of class folders, or a "
                "datasets.Dataset with an Image and a ClassLabel column"
            ]
        )
    images, labels = np.asarray(data[0]), np.asarray(data[1])
    return images, labels.reshape(-1) if labels.shape == (len(images), 1) else labels


def _concatenated(dataset: tf.data.Dataset) -> Any:
    """Return all images and labels of batches; None for another structure."""
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or not all(
        isinstance(part, tf.TensorSpec) and part.shape.rank != 0 for part in spec
    ):
        return None
    try:
        return tuple(np.concatenate(p) for p in zip(*dataset.as_numpy_iterator(), strict=True))
    except tf.errors.InvalidArgumentError as error:
        refuse_invalid(error)
        raise
