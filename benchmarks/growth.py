"""What grows with what: step time, memory, the input pipeline's share, and the start-up.

    python benchmarks/growth.py [--parts steps memory pipeline start_up] [--output FILE.json]

- steps: the time of an SRT step against k, images of a batch and pixels of an image, with the
  least-squares line and its R².
- memory: resident memory of `train.py` over 5,000 steps of a tiny model in 20 intervals, each with
  validation, a checkpoint and summaries.
- pipeline: steps on batches of the input pipeline, with augmentation, beside steps on one batch.
- start_up: seconds until `--help` and a config error are answered.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import (
    Progress,
    bound,
    describe_spread,
    finish,
    interleave,
    machine,
    parser,
    ratio,
    spread,
    table,
)
from passes import compiled, random_batch, whole_step

from keras_srt import SRT, LInf, RobustModel, SmallCNN
from keras_srt.core.tensorflow import tf
from keras_srt.data import Augmentation, BatchSizes, training_batches
from keras_srt.pipeline.run_folder import RunFolder

ASKED_MEMORY, ASKED_PIPELINE, ASKED_SECONDS = 0.02, 0.03, 1.0
_K, _BATCH, _SIDE = 5, 64, 28
_AGAINST = {
    "k": (1, 2, 5, 10, 20),
    "images of a batch": (16, 32, 64, 128, 256),
    "pixels of an image": (20**2, 28**2, 36**2, 44**2),
}
_ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "train.py --help": ("train.py", "--help"),
    "keras-srt --help": ("-m", "keras_srt", "--help"),
    "a config error": ("train.py", "--config", "mnist_pixel", "--set", "training.step=1"),
}
_LONG_TURN = 20


class Line(NamedTuple):
    """A least-squares line.

    Attributes:
        slope: of it.
        intercept: its value at 0.
        r_squared: 1 - (sum of squared residuals) / (sum of squares about the mean).
    """

    slope: float
    intercept: float
    r_squared: float


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line through points with the smallest sum of squared residuals.

    Args:
        x: at least two different values.
        y: as many, not all the same.

    Example:
        >>> fit_line([0, 1, 2], [1.0, 3.0, 5.0])
        Line(slope=2.0, intercept=1.0, r_squared=1.0)
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    far = x - x.mean()
    slope = far @ y / (far @ far)
    intercept = y.mean() - slope * x.mean()
    residuals, about = y - (slope * x + intercept), y - y.mean()
    r_squared = 1.0 - residuals @ residuals / (about @ about)
    return Line(float(slope), float(intercept), float(r_squared))


def grown(resident: Sequence[float]) -> float:
    """How much larger the last quarter of a series is than its second quarter, as a share.

    The first quarter is left out: caches fill.

    Example:
        >>> grown([1.0, 2.0, 2.0, 2.02])
        0.01
    """
    quarter = len(resident) // 4
    before = np.median(resident[quarter : 2 * quarter])
    return round(float(np.median(resident[-quarter:]) / before - 1.0), 6)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints tables; 0."""
    options = _options().parse_args(arguments)
    document: dict[str, Any] = {"machine": machine()}
    for part in options.parts:
        print(part, file=sys.stderr)
        document[part] = PARTS[part](options.quick)
    return finish(document, to_markdown(document), options.output)


def measure_steps(quick: bool) -> list[dict[str, Any]]:
    """Seconds of a step against each quantity, the others held."""
    # Each program is traced on its own, which TensorFlow warns of.
    tf.get_logger().setLevel("ERROR")
    rows = []
    for against, values in _AGAINST.items():
        values = values[:3] if quick else values
        programs = {str(value): _step(against, value) for value in values}
        seconds = interleave(programs, 2 if quick else 7)
        medians = [spread(seconds[str(value)]).median for value in values]
        line = fit_line(values, medians)
        rows.append({"against": against, "values": values, "seconds": seconds, **line._asdict()})
    return rows


def _step(against: str, value: int) -> Callable[[], Any]:
    """A step with one quantity set, the others as they stand above."""
    k = value if against == "k" else _K
    m = value if against == "images of a batch" else _BATCH
    side = round(value**0.5) if against == "pixels of an image" else _SIDE
    batch = random_batch(m // 4, m - m // 4, (side, side, 1))
    return whole_step(_model(side, k, width=16, hidden=64), batch)


def _model(side: int, k: int, width: int, hidden: int) -> RobustModel:
    classifier = SmallCNN(width=width, hidden=hidden).build((side, side, 1), 10)
    return compiled(RobustModel(classifier, LInf(epsilon=0.3, num_steps=k), SRT()))


def measure_memory(quick: bool) -> dict[str, Any]:
    """MiB of resident memory of a training by `train.py`, after each of its intervals."""
    steps, intervals = (40, 4) if quick else (5000, 20)
    with tempfile.TemporaryDirectory(prefix="keras-srt-growth-") as scratch:
        run = RunFolder(Path(scratch) / "run")
        settings = [f"training.steps={steps}", f"training.interval={steps // intervals}"]
        command = [sys.executable, "train.py", "--config", "digits_pixel.json"]
        command += ["--variant", "smoke", "--run-dir", str(run.path)]
        command += [word for setting in settings for word in ("--set", setting)]
        with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL) as training:
            try:
                resident = _after_each_interval(training, run, intervals)
            finally:
                training.kill()
    today = datetime.date.today().isoformat()
    return {"steps": steps, "resident": resident, "date": today}


def _after_each_interval(
    training: subprocess.Popen[bytes], run: RunFolder, intervals: int
) -> list[float]:
    """MiB that a training holds whenever its history has got a row more."""
    progress, resident = Progress(intervals), []
    while len(resident) < intervals:
        if training.poll() is not None:
            sys.exit(f"the training ended with exit code {training.returncode}")
        if len(run.read_history()) > len(resident):
            resident.append(_resident(training.pid))
            progress.tell(len(resident), "intervals of a training")
        time.sleep(0.05)
    return resident


def measure_pipeline(quick: bool) -> dict[str, Any]:
    """Seconds of steps on one batch, on batches of the pipeline, and of its batches alone.

    A turn is long, because the pipeline works ahead by a few batches in the others' turns.
    """
    sizes, turn = BatchSizes(21, 107), 2 if quick else _LONG_TURN
    images, labels = _pictures(2000 if quick else 60_000, _SIDE)
    made = training_batches(
        images[:1000],
        labels[:1000],
        images[1000:],
        sizes,
        seed=0,
        augmentation=Augmentation(pad=4, flip=True),
    )
    model = _model(_SIDE, 10, width=32, hidden=200)
    function = model.make_train_function()
    fixed = iter(tf.data.Dataset.from_tensors(random_batch(*sizes, (_SIDE, _SIDE, 1))).repeat())
    fed, alone = iter(made), iter(made)

    def several(one: Callable[[], Any]) -> Callable[[], None]:
        return lambda: [one() for _ in range(turn)] and None

    programs = {
        "fixed": several(lambda: function(fixed)["loss"].numpy()),
        "pipeline": several(lambda: function(fed)["loss"].numpy()),
        "batches alone": several(lambda: next(alone)["unlabeled"].numpy()),
    }
    seconds = interleave(programs, 1 if quick else 5, warm_up=1)
    return {"steps": turn, "seconds": seconds}


def measure_start_up(quick: bool) -> dict[str, list[float]]:
    """Seconds of each command, in a process of its own."""

    def run(command: Sequence[str]) -> Callable[[], Any]:
        call = [sys.executable, *command]
        return lambda: subprocess.run(call, cwd=_ROOT, capture_output=True, check=False)

    programs = {name: run(command) for name, command in COMMANDS.items()}
    return interleave(programs, 1 if quick else 7, warm_up=1)


PARTS: dict[str, Callable[[bool], Any]] = {
    "steps": measure_steps,
    "memory": measure_memory,
    "pipeline": measure_pipeline,
    "start_up": measure_start_up,
}


def _pictures(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.integers(256, size=(count, side, side, 1), dtype=np.uint8)
    return images, generator.integers(10, size=count, dtype=np.int32)


def _resident(pid: int) -> float:
    """MiB of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def to_markdown(document: dict[str, Any]) -> str:
    """A table for each part."""
    return "\n\n".join(_TABLES[part](document[part]) for part in PARTS if part in document)


def _steps_table(rows: list[dict[str, Any]]) -> str:
    body = [
        [
            row["against"],
            ", ".join(map(str, row["values"])),
            f"{row['intercept'] * 1000:.1f}",
            f"{row['slope'] * 1000:.4g}",
            f"{row['r_squared']:.5f}",
        ]
        for row in rows
    ]
    header = ["step time against", "at", "ms at 0", "ms for one more", "R²"]
    return table(header, body)


def _memory_table(part: dict[str, Any]) -> str:
    series = part["resident"]
    growth = grown(series)
    row = [
        f"{part['steps']:,} steps in {len(series)} intervals",
        f"{series[-1]:.0f}",
        f"{growth:+.2%}",
        bound(growth, ASKED_MEMORY),
        part["date"],
    ]
    header = ["resident memory over", "MiB at the end", "growth", "asked", "measured"]
    return table(header, [row])


def _pipeline_table(part: dict[str, Any]) -> str:
    seconds = part["seconds"]
    share = ratio(seconds["pipeline"], seconds["fixed"])
    each = {name: spread([value / part["steps"] for value in s]) for name, s in seconds.items()}
    row = [
        *(describe_spread(each[name], 1000) for name in ("fixed", "pipeline", "batches alone")),
        describe_spread(share),
        bound(share.median, 1 + ASKED_PIPELINE),
    ]
    header = ["step on one batch, ms", "on the pipeline's, ms", "its batches alone, ms"]
    return table([*header, "ratio", "asked"], [row])


def _start_up_table(part: dict[str, list[float]]) -> str:
    body = [
        [f"{name}", describe_spread(spread(s)), bound(spread(s).median, ASKED_SECONDS)]
        for name, s in part.items()
    ]
    return table(["answer to", "seconds", "asked"], body)


_TABLES: dict[str, Callable[[Any], str]] = {
    "steps": _steps_table,
    "memory": _memory_table,
    "pipeline": _pipeline_table,
    "start_up": _start_up_table,
}


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__.splitlines()[0], "growth")
    made.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    return made


if __name__ == "__main__":
    sys.exit(main())
