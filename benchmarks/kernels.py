"""Which kernels of oneDNN a model's convolutions run on, and how long each takes.

`python benchmarks/kernels.py PRECISION` makes passes; with ONEDNN_VERBOSE=1 oneDNN names a kernel
a line, which `convolution_kernels` reads from a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

_PASSES = 10
_MARK = "warm"
_BATCH = (128, 28, 28, 1)


def convolution_kernels(precision: str) -> list[dict[str, Any]]:
    """The convolutions of a forward pass of SmallCNN on 128 images and of its input gradient.

    Args:
        precision: "float32", "mixed_bfloat16" or "mixed_float16".

    Returns:
        A row for each kernel and direction, see `read`; empty where oneDNN isn't used.
    """
    made = subprocess.run(
        [sys.executable, Path(__file__).resolve(), precision],
        env={**os.environ, "ONEDNN_VERBOSE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    return read(made.stdout.partition(_MARK)[2].splitlines(), _PASSES)


def read(lines: Iterable[str], passes: int) -> list[dict[str, Any]]:
    """Sums up what oneDNN says of its convolutions.

    Args:
        lines: of its log; others than those on convolutions are passed over.
        passes: over which the sums are averaged.

    Returns:
        Rows `{"direction", "kernel", "calls", "ms"}`, the last two for one pass.

    Example:
        >>> line = "onednn_verbose,exec,cpu,convolution,brgconv:avx2,backward_data,,,,,2.5"
        >>> read([line, line], passes=1)
        [{'direction': 'backward_data', 'kernel': 'brgconv:avx2', 'calls': 2.0, 'ms': 5.0}]
    """
    sums: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        fields = line.split(",")
        if fields[:4] == ["onednn_verbose", "exec", "cpu", "convolution"]:
            total = sums.setdefault((fields[5], fields[4]), [0, 0.0])
            total[0] += 1
            total[1] += float(fields[-1])
    return [
        {"direction": direction, "kernel": kernel, "calls": calls / passes, "ms": ms / passes}
        for (direction, kernel), (calls, ms) in sums.items()
    ]


def slower_by(kernels: dict[str, list[dict[str, Any]]], precision: str) -> float:
    """Milliseconds of a precision's convolutions by those of float32."""
    total = {name: sum(row["ms"] for row in rows) for name, rows in kernels.items()}
    return total[precision] / total["float32"]


def main(precision: str) -> None:
    """Makes passes, the first of them unmarked."""
    from keras_srt import SmallCNN
    from keras_srt.core.tensorflow import tf

    classifier = SmallCNN().build(_BATCH[1:], 10, precision)
    images = tf.constant(np.random.default_rng(0).random(_BATCH, np.float32))

    @tf.function(autograph=False)
    def gradient() -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = classifier(images, training=False)
        return tape.gradient(logits, images)

    gradient().numpy()
    print(_MARK, flush=True)
    for _ in range(_PASSES):
        gradient().numpy()


if __name__ == "__main__":
    main(sys.argv[1])
