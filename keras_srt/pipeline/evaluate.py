"""The evaluation of a classifier: attacks, curves, the search for gradient masking."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import Attack, QueryModel
from keras_srt.config.schema import Config
from keras_srt.core.tensorflow import tf
from keras_srt.data import Images
from keras_srt.evaluation.curves import accuracy_curves
from keras_srt.evaluation.masking import find_masking
from keras_srt.evaluation.robustness import Robustness
from keras_srt.evaluation.runner import Progress, evaluate_robustness


def evaluate(
    config: Config,
    classifier: Callable[[tf.Tensor], tf.Tensor] | QueryModel,
    test: Images,
    attacks: Sequence[Attack],
) -> Robustness:
    """Attacks a classifier on test images and shows progress."""
    with _progress_bars() as progress:
        return evaluate_robustness(
            classifier,
            *test,
            attacks,
            batch_size=config.evaluation.batch_size,
            seed=config.seed,
            progress=progress,
        )


class Measured(NamedTuple):
    """All that an evaluation found.

    Attributes:
        test: the test images.
        robustness: what the attacks did to them.
        parts: `masking` and `curves` of report.json, where they were asked for, and the cost.
    """

    test: Images
    robustness: Robustness
    parts: dict[str, Any]


def measure(config: Config, target_model: QueryModel, test: Images) -> Measured:
    """Attacks a classifier, looks for gradient masking and measures curves, as the config says."""
    began, asked = time.perf_counter(), target_model.queries
    robustness = evaluate(config, target_model, test, config.evaluation.attacks)
    parts = {}
    for name, function, count in (
        ("masking", find_masking, config.evaluation.masking),
        ("curves", accuracy_curves, config.evaluation.curves),
    ):
        if (
            count
            and (part := _of_the_first(function, count, config, target_model, test)) is not None
        ):
            parts[name] = part
    seconds = round(time.perf_counter() - began, 1)
    parts["cost"] = {"evaluation": {"queries": target_model.queries - asked, "seconds": seconds}}
    return Measured(test, robustness, parts)


def _of_the_first(
    function: Callable[..., dict[str, Any] | None],
    count: int,
    config: Config,
    target_model: QueryModel,
    test: Images,
) -> dict[str, Any] | None:
    """A part of report.json, measured on the first test images; shows progress."""
    images, labels = np.float32(test.images[:count] / 255.0), np.int32(test.labels[:count])
    with _progress_bars() as progress:
        return function(
            target_model,
            images,
            labels,
            config.evaluation.attacks,
            seed=config.seed,
            progress=progress,
        )


def load_test(config: Config, data_dir: Path | None, limit: int | None) -> Images:
    """Reads the test part, or its first `limit` images."""
    images, labels = config.data.dataset.load_test(data_dir)
    return Images(images[:limit], labels[:limit])


@contextmanager
def _progress_bars() -> Iterator[Progress]:
    """One bar for each attack, with ETA; gone when the attack is done."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def progress(name: str, done: int, total: int) -> None:
        if name not in bars:
            for bar in bars.values():
                bar.close()
            bars[name] = tqdm(
                total=total, desc=name, unit="image", leave=False, file=sys.stderr, disable=None
            )
        bars[name].update(done - bars[name].n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()
