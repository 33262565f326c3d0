"""Evaluate a classifier: attacks, and the other measurements of a report."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import Attack, QueryModel, TargetModel
from keras_srt.config.schema import Config
from keras_srt.core.files import sha256
from keras_srt.core.registry import settings_of
from keras_srt.core.tensorflow import tf
from keras_srt.data import Images
from keras_srt.evaluation.attacked_images import AttackedImages
from keras_srt.evaluation.corrupted_images import accuracy_on_corruptions
from keras_srt.evaluation.curves import accuracy_curves
from keras_srt.evaluation.finished_parts import FinishedParts
from keras_srt.evaluation.masking import find_masking
from keras_srt.evaluation.part_progress import progress_bars
from keras_srt.evaluation.per_image import fingerprint
from keras_srt.evaluation.robustness import Robustness
from keras_srt.evaluation.runner import evaluate_robustness
from keras_srt.evaluation.smoothing import certify
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import saved_split


class Evaluation(NamedTuple):
    """The results of an evaluation.

    Attributes:
        test: The test images.
        robustness: The results of the attacks.
        parts: The parts `masking`, `curves`, `corruptions`, `smoothing` and `cost` of report.json.
    """

    test: Images
    robustness: Robustness
    parts: dict[str, Any]


def evaluate(context: RunContext) -> Evaluation:
    """Evaluate the best classifier of a run, and keep attacked images for its deployment."""
    saved_split(context)  # the class ids must be those of the training
    settings = context.config.evaluation
    target_model = TargetModel(context.best_classifier, settings.batch_size, settings.precision)
    test = context.source.test(settings.limit)
    parts = FinishedParts(
        context.folder.evaluation,
        weights=sha256(context.folder.best_weights),
        test=fingerprint(*test),
    )
    evaluation = measure(context.config, target_model, test, parts)
    if settings.deployment:
        attacked = AttackedImages.of(
            evaluation.test.images, evaluation.robustness, settings.deployment
        )
        attacked.save(context.folder.attacked)
    return evaluation


def measure(
    config: Config,
    target_model: QueryModel,
    test: Images,
    finished: FinishedParts | None = None,
) -> Evaluation:
    """Attack a model and make the other measurements of the config's section `evaluation`.

    Args:
        config: The settings of the evaluation.
        target_model: The model.
        test: The test images.
        finished: Keeps finished parts on disk; None to keep nothing.
    """
    finished = finished or FinishedParts()
    began, queries = time.perf_counter(), target_model.queries
    settings = config.evaluation
    attacks = settings.attacks
    robustness = run_attacks(config, target_model, test, attacks, finished)
    parts: dict[str, Any] = {}
    for name, function, count in (
        ("masking", functools.partial(find_masking, attacks=attacks), settings.masking),
        ("curves", functools.partial(accuracy_curves, attacks=attacks), settings.curves),
        ("corruptions", functools.partial(accuracy_on_corruptions), settings.corruptions),
        (
            "smoothing",
            functools.partial(certify, sigma=settings.sigma, samples=settings.noise_samples),
            settings.smoothing,
        ),
    ):
        if count:
            about = {"count": count, "seed": config.seed, **settings_of(function.keywords)}
            run = functools.partial(
                _on_first_images, function, count, config.seed, target_model, test
            )
            part = finished.compute_json(name, about, target_model, run)
            parts |= {} if part is None else {name: part}
    seconds = round(time.perf_counter() - began + finished.seconds, 1)
    parts["cost"] = {"evaluation": {"queries": target_model.queries - queries, "seconds": seconds}}
    return Evaluation(test, robustness, parts)


def run_attacks(
    config: Config,
    classifier: Callable[[tf.Tensor], tf.Tensor] | QueryModel,
    test: Images,
    attacks: Sequence[Attack],
    finished: FinishedParts | None = None,
) -> Robustness:
    """Attack a classifier on test images, with progress bars.

    Args:
        config: The batch size and the seed.
        classifier: Images to logits, or a model under attack.
        test: The test images.
        attacks: The attacks.
        finished: Keeps finished parts on disk; None to keep nothing.
    """
    with progress_bars("image") as progress:
        return evaluate_robustness(
            classifier,
            *test,
            attacks,
            batch_size=config.evaluation.batch_size,
            seed=config.seed,
            progress=progress,
            parts=finished,
            precision=config.evaluation.precision,
        )


def _on_first_images(
    function: Callable[..., dict[str, Any] | None],
    count: int,
    seed: int,
    target_model: QueryModel,
    test: Images,
) -> dict[str, Any] | None:
    """Measure a part of report.json on the first test images, with progress bars."""
    images, labels = np.float32(test.images[:count] / 255.0), np.int32(test.labels[:count])
    with progress_bars("part") as progress:
        return function(target_model, images, labels, seed=seed, progress=progress)
