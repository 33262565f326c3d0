"""`python -m keras_srt.device.train`: a classifier goes on learning on the device."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_srt.core.images import BadImage
from keras_srt.core.signals import deferred_signals
from keras_srt.device.classify import BadModel
from keras_srt.device.image_folders import BadFolder, ImageFiles, list_labeled, list_unlabeled
from keras_srt.device.trainer import SCALARS, Trainer
from keras_srt.device.weights import BadWeights, Learned, restore, save_weights

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
# Streams of random numbers, all from one --seed.
_LABELED, _UNLABELED, _NOISE = range(3)


class BadInput(ValueError):
    """Options that can't be used; the text says what is allowed."""


class Diverged(ArithmeticError):
    """The loss is no number any more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: of the command line; by default those of the process.

    Returns:
        The exit code: 0 done, 1 the loss grew beyond all bounds, 2 bad input (one line on
        stderr), 130 interrupted (the weights are saved).
    """
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except (BadInput, BadModel, BadFolder, BadWeights, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"error: {options.output}: can't be written ({error.strerror})", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:  # before the first step, or pressed twice
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m keras_srt.device.train",
        description="Let a classifier go on learning (SRT) from images of a new domain.",
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="FILE", help="model_train.tflite")
    add("--labeled", type=Path, required=True, metavar="DIR", help="DIR/CLASS NAME/*.png, .jpg")
    add("--unlabeled", type=Path, required=True, metavar="DIR", help="PNG and JPEG files")
    add("--steps", type=_whole, required=True, metavar="N", help="in all, with --resume too")
    add("--output", type=Path, required=True, metavar="FILE", help="weights, .npz")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on with --output, if it is there")
    start.add_argument("--weights", type=Path, metavar="FILE", help="start from these, at step 0")
    add("--save-every", type=_whole, default=50, metavar="N", help="steps (default: 50)")
    add("--threads", type=_whole, default=1, metavar="N", help="of the interpreter")
    add("--seed", type=_natural, default=0, metavar="N", help="of batches and noise")
    for name in SCALARS:
        add(f"--{name.replace('_', '-')}", type=_real, help="default: as the model was exported")
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
    first = _start(options, trainer)
    bad: list[Path] = []

    def on_bad(path: Path, error: BadImage) -> None:
        bad.append(path)
        # On a terminal the cursor stands behind the progress.
        start = "\n" if sys.stderr.isatty() else ""
        print(f"{start}skipped: {path}: {error}", file=sys.stderr)

    paths, labels = list_labeled(options.labeled, trainer.labels)
    seeds = [options.seed, _LABELED], [options.seed, _UNLABELED]
    labeled = ImageFiles(paths, trainer.shape, seeds[0], on_bad)
    unlabeled = ImageFiles(list_unlabeled(options.unlabeled), trainer.shape, seeds[1], on_bad)
    batches = _Batches(trainer, labeled, labels, unlabeled, options.seed)
    given = {name: getattr(options, name) for name in SCALARS}
    scalars = {name: value for name, value in given.items() if value is not None}
    done = _learn(trainer, batches, scalars, options, first)
    if bad:
        files = "file" if len(bad) == 1 else "files"
        print(f"skipped {len(bad)} {files} that can't be read", file=sys.stderr)
    if done < options.steps:
        print(
            f"interrupted: the weights after step {done} are in {options.output}; go on with the "
            "same command and --resume",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    print(f"{options.output}: the weights after {done} steps")
    return EXIT_DONE


def _start(options: argparse.Namespace, trainer: Trainer) -> int:
    """Sets the weights to start from; returns how many steps they have behind them."""
    if options.output.is_file() and not options.resume:
        raise BadInput(
            f"--output {options.output}: is there already; give --resume to go on with it, or "
            "another file"
        )
    if not options.output.resolve().parent.is_dir():
        raise BadInput(f"--output {options.output}: its folder doesn't exist; make it first")
    path = options.output if options.resume and options.output.is_file() else options.weights
    if path is None:
        return 0
    learned = restore(trainer, path)
    return learned.step if options.resume else 0


class _Batches:
    """What each step takes: a function of the seed and the step."""

    def __init__(
        self,
        trainer: Trainer,
        labeled: ImageFiles,
        labels: Sequence[int],
        unlabeled: ImageFiles,
        seed: int,
    ) -> None:
        self._labeled, self._labels, self._unlabeled = labeled, np.int32(labels), unlabeled
        self._settings, self._shape, self._seed = trainer.settings, trainer.shape, seed

    def at(self, step: int) -> dict[str, np.ndarray]:
        """The images and the noise of a step."""
        sizes = self._settings["labeled"], self._settings["unlabeled"]
        labeled, numbers = self._labeled.batch(step, sizes[0])
        unlabeled, _ = self._unlabeled.batch(step, sizes[1])
        return {
            "labeled": labeled,
            "labels": self._labels[numbers],
            "unlabeled": unlabeled,
            "noise": self._noise(step, (sum(sizes), *self._shape)),
        }

    def _noise(self, step: int, shape: tuple[int, ...]) -> np.ndarray:
        if not self._settings["random_start"]:
            return np.zeros(shape, np.float32)
        generator = np.random.default_rng([self._seed, _NOISE, step])
        return generator.uniform(-1.0, 1.0, shape).astype(np.float32)


def _learn(
    trainer: Trainer,
    batches: _Batches,
    scalars: dict[str, float],
    options: argparse.Namespace,
    first: int,
) -> int:
    """Learns from step `first` on and saves; returns how many steps are done."""

    def save(done: int) -> None:
        save_weights(options.output, Learned(trainer.get_weights(), done, trainer.checksum))

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
    """A line that is rewritten on a terminal; elsewhere ten lines in all."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last, self._began = first, last, time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._every = 1 if self._terminal else max(1, (last - first) // 10)

    def show(self, done: int, losses: dict[str, float]) -> None:
        """Says where the training is."""
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
        """Ends the line."""
        if self._terminal:
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
