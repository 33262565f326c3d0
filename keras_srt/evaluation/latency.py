"""Latency of exported models, measured in a child process with one thread."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.model_loading import load_savedmodel
from keras_srt.core.tensorflow import tf
from keras_srt.device import Classifier

_ROUNDS, _FEWEST_ROUNDS, _WARM_UP, _SECONDS = 300, 30, 10, 10.0

Latencies = dict[str, dict[str, float]]


def measure_latency(savedmodel: Path, files: Mapping[str, Path], image: np.ndarray) -> Latencies:
    """Time a SavedModel and .tflite files on one CPU thread, one image at a time.

    Args:
        savedmodel: Folder of a version.
        files: .tflite files by name.
        image: float32 [height, width, channels] in [0, 1].

    Returns:
        For "savedmodel" and each name, `{"median": ms, "p99": ms, "rounds": n}`, from the array of
        an image to the array of its probabilities.
    """
    # Ctrl-C also reaches the child, which ignores it: its parent reports it and ends the child.
    # TensorFlow's threads can be set only once in a process.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    context = get_context("spawn")
    try:
        os.getcwd()  # where the child starts
    except FileNotFoundError:  # it was removed
        os.chdir(savedmodel)
    with ProcessPoolExecutor(1, context, initializer=signal.signal, initargs=ignore) as pool:
        return pool.submit(_measure_here, savedmodel, dict(files), image).result()


def _measure_here(savedmodel: Path, files: Mapping[str, Path], image: np.ndarray) -> Latencies:
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = load_savedmodel(savedmodel)
    signature = loaded.signatures["image"]
    calls: dict[str, Callable[[], Any]] = {
        "savedmodel": lambda: signature(image=tf.constant(image[None]))["probabilities"].numpy()
    }
    for name, path in files.items():
        classifier = Classifier(path)
        calls[name] = partial(classifier.classify, image)
    return interleaved(calls)


def interleaved(calls: Mapping[str, Callable[[], Any]]) -> Latencies:
    """Time functions in turns, so that other load on the machine affects all of them equally.

    Args:
        calls: Functions by name.

    Returns:
        For each name, `{"median": ms, "p99": ms, "rounds": n}`.

    Example:
        >>> interleaved({"nothing": lambda: None})["nothing"]["rounds"]
        300
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(_WARM_UP):
            call()
    stop = time.perf_counter() + _SECONDS
    for done in range(_ROUNDS):
        if done >= _FEWEST_ROUNDS and time.perf_counter() > stop:
            break
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            taken[name].append(1000 * (time.perf_counter() - began))
    return {
        name: {
            "median": float(np.median(times)),
            "p99": float(np.percentile(times, 99)),
            "rounds": len(times),
        }
        for name, times in taken.items()
    }
