"""The time of a training step on this machine, for a config whose dataset isn't opened."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from keras_srt.config.loader import parse
from keras_srt.config.schema import Config
from keras_srt.core.tensorflow import tf
from keras_srt.data import DatasetInfo
from keras_srt.pipeline.classifiers import build_classifier, build_model
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.pipeline.cost import time_step
from keras_srt.pipeline.plan import make_plan

_IMAGES, _REPEATS = 16, 5


def estimate_step(content: dict[str, Any], info: DatasetInfo) -> float:
    """Estimate the seconds of a step from a forward pass, which compiles in a second or two.

    Args:
        content: The content of a config file.
        info: The sizes of its dataset.
    """
    config = _parsed(content)
    classifier = build_classifier(config, info, config.training.precision)
    forward = tf.function(lambda images: classifier(images, training=False), autograph=False)
    images = tf.zeros([_IMAGES, *info.input_shape])
    forward(images)
    # The fastest of several, because a candidate that the estimate rejects isn't timed again.
    seconds = min(_seconds(lambda: forward(images)) for _ in range(_REPEATS))
    return seconds / _IMAGES * make_plan(config, info).passes.relative_cost


def measure_step(content: dict[str, Any], info: DatasetInfo) -> float:
    """Time a step, see `keras_srt.pipeline.cost.time_step`."""
    config = _parsed(content)
    plan = make_plan(config, info)
    return time_step(build_model(config, info, plan), plan, info).seconds


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _parsed(content: dict[str, Any]) -> Config:
    return parse({key: value for key, value in content.items() if key != "variants"}, COMPONENTS)
