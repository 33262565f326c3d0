"""Train a classifier further on a device: `python -m keras_srt.device.train`."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.images import BadImage
from keras_srt.core.signals import deferred_signals
from keras_srt.device.classify import BadModel
from keras_srt.device.image_folders import BadFolder, ImageFiles, list_labeled, list_unlabeled
from keras_srt.device.trainer import SCALARS, Trainer, input_shapes
from keras_srt.device.weights import BadWeights, TrainedWeights, restore, save_weights

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
# Random streams, derived from --seed.
_LABELED, _UNLABELED, _NOISE, _DRAWS = range(4)


class BadInput(ValueError):
    """Invalid options; the message says what is allowed."""


class Diverged(ArithmeticError):
    """The loss became NaN or infinite."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The command line arguments; None for those of the process.

    Returns:
        The exit code: 0 done, 1 the loss diverged, 2 bad input (one line on stderr), 130
        interrupted (the weights are saved).
    """
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except (BadInput, BadModel, BadFolder, BadWeights, UserError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:  # before the first step, or a second Ctrl-C
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m keras_srt.device.train",
        description="Adapt a classifier to a new domain by SRT training on its images.",
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="FILE", help="model_train.tflite")
    add("--labeled", type=Path, required=True, metavar="DIR", help="DIR/CLASS NAME/*.png, .jpg")
    add("--unlabeled", type=Path, metavar="DIR", help="PNG and JPEG files; not with an RT model")
    add("--steps", type=_whole, required=True, metavar="N", help="total, including earlier ones")
    add("--output", type=Path, required=True, metavar="FILE", help="weights, .npz")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue from --output if it exists")
    start.add_argument("--weights", type=Path, metavar="FILE", help="initial weights, at step 0")
    add("--save-every", type=_whole, default=50, metavar="N", help="steps (default: 50)")
    add("--threads", type=_whole, default=1, metavar="N", help="interpreter threads")
    add("--seed", type=_natural, default=0, metavar="N", help="for batches and noise")
    for name in SCALARS:
        add(f"--{name.replace('_', '-')}", type=_real, help="default: as exported")
    return parser


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a whole number of at least 1")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a whole number of at least 0")
    return int(text)


def _real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a number of at least 0")
    return value


def _run(options: argparse.Namespace) -> int:
    trainer = Trainer(options.model, options.threads)
    scalars = _given_scalars(options, trainer)
    first = _start(options, trainer)
    bad: list[Path] = []

    def on_bad(path: Path, error: BadImage) -> None:
        bad.append(path)
        # On a terminal, the cursor is at the end of the progress line.
        start = "\n" if sys.stderr.isatty() else ""
        print(f"{start}skipped: {path}: {error}", file=sys.stderr)

    paths, labels = list_labeled(options.labeled, trainer.labels)
    seeds = [options.seed, _LABELED], [options.seed, _UNLABELED]
    labeled = ImageFiles(paths, trainer.shape, seeds[0], on_bad)
    unlabeled = None
    if options.unlabeled is not None:
        unlabeled = ImageFiles(list_unlabeled(options.unlabeled), trainer.shape, seeds[1], on_bad)
    batches = _Batches(trainer, labeled, labels, unlabeled, options.seed)
    done = _train(trainer, batches, scalars, options, first)
    if bad:
        files = "file" if len(bad) == 1 else "files"
        print(f"skipped {len(bad)} {files} that can't be read", file=sys.stderr)
    if done < options.steps:
        print(
            f"interrupted: the weights after step {done} are in {options.output}; continue with "
            "the same command and --resume",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    print(f"{options.output}: the weights after {done} steps")
    return EXIT_DONE


def _given_scalars(options: argparse.Namespace, trainer: Trainer) -> dict[str, float]:
    """Check the options that depend on the model; return the given scalars."""
    size = trainer.settings["unlabeled"]
    if (options.unlabeled is None) != (size == 0):
        raise BadInput(
            "--unlabeled: missing; give a folder of images, because the model is trained by SRT"
            if size
            else "--unlabeled: got a folder; leave it out, because the model is trained by RT"
        )
    given = {name: getattr(options, name) for name in SCALARS}
    scalars = {name: value for name, value in given.items() if value is not None}
    for name in sorted(set(scalars) - set(trainer.scalars)):
        stages = " -> ".join(trainer.settings["stages"])
        raise BadInput(f"--{name.replace('_', '-')}: is no setting of the neighborhood {stages}")
    return scalars


def _start(options: argparse.Namespace, trainer: Trainer) -> int:
    """Load the initial weights; returns the number of completed steps."""
    if options.output.is_file() and not options.resume:
        raise BadInput(
            f"--output {options.output}: already exists; give --resume to continue from it, or "
            "another file"
        )
    if not options.output.resolve().parent.is_dir():
        raise BadInput(f"--output {options.output}: its folder doesn't exist; make it first")
    path = options.output if options.resume and options.output.is_file() else options.weights
    if path is None:
        return 0
    weights = restore(trainer, path)
    return weights.step if options.resume else 0


class _Batches:
    """The batch of each step, as a function of (seed, step)."""

    def __init__(
        self,
        trainer: Trainer,
        labeled: ImageFiles,
        labels: Sequence[int],
        unlabeled: ImageFiles | None,
        seed: int,
    ) -> None:
        self._labeled, self._labels, self._unlabeled = labeled, np.int32(labels), unlabeled
        self._settings, self._shape, self._seed = trainer.settings, trainer.shape, seed

    def at(self, step: int) -> dict[str, np.ndarray]:
        """Return the images, labels and random draws of a step."""
        labeled, numbers = self._labeled.batch(step, self._settings["labeled"])
        batch = {"labeled": labeled, "labels": self._labels[numbers]}
        if self._unlabeled is not None:
            batch["unlabeled"], _ = self._unlabeled.batch(step, self._settings["unlabeled"])
        shapes = input_shapes(self._settings, self._shape)
        if "noise" in shapes:
            batch["noise"] = self._noise(step, shapes["noise"])
        if "draws" in shapes:
            generator = np.random.default_rng([self._seed, _DRAWS, step])
            batch["draws"] = generator.uniform(-1.0, 1.0, shapes["draws"]).astype(np.float32)
        return batch

    def _noise(self, step: int, shape: tuple[int, ...]) -> np.ndarray:
        """Draw uniformly from the unit ball of the norm."""
        if not self._settings["random_start"]:
            return np.zeros(shape, np.float32)
        generator = np.random.default_rng([self._seed, _NOISE, step])
        if "linf" in self._settings["stages"]:
            return generator.uniform(-1.0, 1.0, shape).astype(np.float32)
        size = int(np.prod(shape[1:]))
        direction = generator.normal(size=(shape[0], size))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        radius = generator.random((shape[0], 1)) ** (1.0 / size)
        return np.float32(radius * direction).reshape(shape)


def _train(
    trainer: Trainer,
    batches: _Batches,
    scalars: dict[str, float],
    options: argparse.Namespace,
    first: int,
) -> int:
    """Train from step `first` on and save the weights; returns the number of completed steps."""

    def save(done: int) -> None:
        save_weights(options.output, TrainedWeights(trainer.get_weights(), done, trainer.checksum))

    progress = _Progress(first, options.steps)
    done = saved = first
    with deferred_signals([signal.SIGINT, signal.SIGTERM]) as stopped:
        while done < options.steps and not stopped():
            losses = trainer.step(**batches.at(done), **scalars)
            done += 1
            if not math.isfinite(losses["loss"]):
                kept = f"; the weights after step {saved} are kept" if saved > first else ""
                raise Diverged(
                    f"the loss is {losses['loss']} at step {done}; give a smaller "
                    f"--learning-rate{kept}"
                )
            progress.show(done, losses)
            if done % options.save_every == 0:
                save(done)
                saved = done
        progress.close()
        if done > saved or not options.output.is_file():
            save(done)
    return done


class _Progress:
    """Progress on stderr: a line that is rewritten on a terminal, else about ten lines in total."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last, self._began = first, last, time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._every = 1 if self._terminal else max(1, (last - first) // 10)

    def show(self, done: int, losses: dict[str, float]) -> None:
        """Show the step, the losses and the remaining time."""
        if (done - self._first) % self._every and done < self._last:
            return
        seconds = (time.monotonic() - self._began) / (done - self._first)
        left = round(seconds * (self._last - done))
        text = (
            f"step {done}/{self._last}  loss {losses['loss']:.4f} (labeled "
            f"{losses['labeled']:.4f}, robust {losses['robust']:.4f})  {1000 * seconds:.0f} ms/step"
            f"  {left // 60}:{left % 60:02} left"
        )
        end = "" if self._terminal else "\n"
        start = "\r\x1b[K" if self._terminal else ""
        print(start + text, end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line."""
        if self._terminal:
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
