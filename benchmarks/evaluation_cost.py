"""PGD-40 and GridAdv (775 transforms) against the passes that they need, Foolbox and ART.

    python benchmarks/evaluation_cost.py [--images 500] [--output FILE.json]

Each attack runs on a standard classifier and on one trained against it; both are trained here in a
few seconds. The needed passes are those until each image is misclassified, which an exhaustive
search counts. They are timed as full batches, and PGD's also in the batch sizes that are left at
each step. Transforms are timed separately. Exit code 1 if a verdict differs from the exhaustive
search's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib import util
from typing import Any, NamedTuple

import numpy as np
from harness import Spread, finish, interleave, machine, parser, ratio, spread, table
from libraries import (
    DISTRIBUTIONS,
    LibraryAttack,
    Subject,
    art,
    art_image_by_image,
    foolbox,
    seed_all,
)
from small_classifier import train_strided_cnn

from keras_srt import LInf, Spatial
from keras_srt.attacks import PGD, Attack, GridAdv, TargetModel
from keras_srt.attacks.criterion import Criterion
from keras_srt.core.tensorflow import tf
from keras_srt.data import Digits
from keras_srt.evaluation.robustness import Robustness
from keras_srt.evaluation.runner import evaluate_robustness
from keras_srt.neighborhoods import Passes
from keras_srt.neighborhoods.draws import fold

SIZE = 28
ATTACKS: dict[str, Attack] = {
    "pgd": PGD(epsilon=0.3, num_steps=40, step_size=0.01),
    "gridadv": GridAdv(),
}
DEFENSES = {"pgd": LInf(epsilon=0.3, num_steps=5), "gridadv": Spatial(num_samples=5)}
_FOOLBOX_GRID = {"max_translation": 3, "max_rotation": 30}
_ART_GRID = {"max_translation": 300 / SIZE, "max_rotation": 30}  # in percent of the side
_GRID = {"num_translations": 5, "num_rotations": 31}
_ART_PGD = {"eps": 0.3, "eps_step": 0.01, "max_iter": 40, "num_random_init": 1, "batch_size": 1000}
_FOOLBOX_PGD = {"abs_stepsize": 0.01, "steps": 40, "random_start": True}
# Attacks of other libraries, with their maximum number of images. ART searches one transform for
# all images of a call, so it is called image by image, which takes seconds per image.
OTHERS: dict[str, tuple[tuple[LibraryAttack, int], ...]] = {
    "pgd": (
        (foolbox("LinfPGD", _FOOLBOX_PGD, 0.3), 500),
        (art("ProjectedGradientDescent", _ART_PGD), 500),
    ),
    "gridadv": (
        (foolbox("SpatialAttack", {**_FOOLBOX_GRID, **_GRID}, torch=True), 50),
        (art_image_by_image("SpatialTransformation", {**_ART_GRID, **_GRID}), 1),
    ),
}


class Searched(NamedTuple):
    """The result of an exhaustive search.

    Attributes:
        adversarial: bool [n], whether any candidate is adversarial.
        needed: Image passes until the first adversarial candidate of each image.
        every: Image passes of all candidates.
        rounds: `needed` by successive query, if the queries depend on each other.
    """

    adversarial: np.ndarray
    needed: Passes
    every: Passes
    rounds: tuple[Passes, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints the tables; 1 if a verdict differs."""
    options = _options().parse_args(arguments)
    described, rows = machine(), []
    count, rounds, steps = options.images, options.rounds, 250
    if options.quick:
        count, rounds, steps = min(count, 40), 1, 20
    pictures, labels = (part[:count] for part in Digits(size=SIZE).open().load_test())
    images = np.float32(pictures / 255.0)
    for name in options.attacks:
        for model, defense in (("standard", None), ("robust", DEFENSES[name])):
            print(f"{name}, {model} model", file=sys.stderr)
            subject = Subject(train_strided_cnn(defense, steps))
            row = measure(ATTACKS[name], subject, images, labels, rounds)
            others = _time_others(OTHERS[name], subject, images, labels)
            rows.append({"attack": name, "model": model, **row, "others": others})
    document = {"machine": described, "images": len(images), "rows": rows}
    finish(document, to_markdown(document), options.output)
    return 0 if all(row["same_verdicts"] == row["images"] for row in rows) else 1


def measure(
    attack: Attack, subject: Subject, images: np.ndarray, labels: np.ndarray, rounds: int
) -> dict[str, Any]:
    """Times the evaluation, full batches of bare passes, and one exhaustive search."""
    model = TargetModel(subject.classifier, batch_size=len(images))
    criterion = Criterion(model.predictions(images, Criterion(labels)).classes)
    began = time.perf_counter()
    searched = search(attack, model, images, criterion)
    exhaustive = time.perf_counter() - began
    outcome: list[Robustness] = []
    programs = {
        "ours": lambda: outcome.append(evaluate_robustness(model, images, labels, [attack])),
        **_bare(attack, subject.classifier, images, labels, searched.rounds),
    }
    seconds = interleave(programs, rounds, warm_up=1)
    still = outcome[-1].surviving(attack.name)
    clean_passes = len(images)
    return {
        "images": len(images),
        "clean": float(outcome[-1].correct.mean()),
        "accuracy": float(still.mean()),
        "same_verdicts": int((still == (outcome[-1].correct & ~searched.adversarial)).sum()),
        "needed": [searched.needed.forward + clean_passes, searched.needed.gradient],
        "seconds": seconds,
        "exhaustive_seconds": exhaustive,
    }


def search(
    attack: Attack, model: TargetModel, images: np.ndarray, criterion: Criterion
) -> Searched:
    """Exhaustive search with the same draws as an evaluation in a single batch."""
    if isinstance(attack, PGD):
        return search_steps(attack, model, images, criterion, fold(tf.constant([0, 0]), 0))
    return search_grid(attack, model, images, criterion)


def search_grid(
    attack: GridAdv, model: TargetModel, images: np.ndarray, criterion: Criterion
) -> Searched:
    """Tries every transform of the grid on every image, the largest first, as the attack does."""
    space = attack.neighborhood
    points = space.grid_points()
    size = np.abs(points / np.maximum(space.limits, 1e-6)).sum(axis=1)
    success = np.zeros((len(points), len(images)), bool)
    for number, point in enumerate(points[np.argsort(-size, kind="stable")]):
        moved = space.apply(tf.constant(images), tf.constant(np.tile(point, (len(images), 1))))
        success[number] = criterion.is_adversarial(
            model.predictions(moved.numpy(), criterion).classes
        )
    tried = first_success(success) + 1
    return Searched(success.any(axis=0), Passes(int(tried.sum()), 0), Passes(success.size, 0))


def search_steps(
    attack: PGD, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
) -> Searched:
    """Runs all steps of PGD without restarts on every image; each iterate may be adversarial."""
    ball = attack.neighborhood
    now = ball.solver.start(tf.constant(images), fold(seed, 0), 1.0)
    success = np.zeros((ball.num_steps + 1, len(images)), bool)
    for step in range(ball.num_steps):
        predictions, gradient = model.gradient(now.numpy(), criterion)
        success[step] = criterion.is_adversarial(predictions.classes)
        now = ball.solver.step(tf.constant(images), now, tf.constant(gradient), 1.0)
    success[-1] = criterion.is_adversarial(model.predictions(now.numpy(), criterion).classes)
    # All iterates except the last are predicted together with their gradient.
    tried = first_success(success)
    left = [int((tried >= step).sum()) for step in range(ball.num_steps + 1)]
    rounds = (*(Passes(0, n) for n in left[:-1]), Passes(left[-1], 0))
    every = Passes(len(images), ball.num_steps * len(images))
    return Searched(success.any(axis=0), Passes(left[-1], sum(left[:-1])), every, rounds)


def first_success(success: np.ndarray) -> np.ndarray:
    """For each column the index of the first true row, or of the last row if none is true.

    Example:
        >>> first_success(np.array([[False, True], [False, True], [False, False]]))
        array([2, 0])
    """
    return np.where(success.any(axis=0), success.argmax(axis=0), len(success) - 1)


def _bare(
    attack: Attack,
    classifier: Any,
    images: np.ndarray,
    labels: np.ndarray,
    rounds: Sequence[Passes],
) -> dict[str, Callable[[], Any]]:
    """A forward pass, a gradient pass and a transform of all images, and the passes of `rounds`."""
    pictures, answers = tf.constant(images), tf.constant(labels)
    some = tf.TensorSpec([None, *images.shape[1:]]), tf.TensorSpec([None], tf.int32)

    @tf.function(autograph=False, input_signature=some[:1])
    def forward(x: tf.Tensor) -> tf.Tensor:
        return classifier(x, training=False)

    @tf.function(autograph=False, input_signature=some)
    def gradient(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, classifier(x, training=False))
        return tape.gradient(loss, x)

    def replay() -> None:
        forward(pictures).numpy()
        for passes in rounds:
            if passes.gradient:
                gradient(pictures[: passes.gradient], answers[: passes.gradient]).numpy()
            if passes.forward:
                forward(pictures[: passes.forward]).numpy()

    programs: dict[str, Callable[[], Any]] = {
        "forward": lambda: forward(pictures).numpy(),
        "gradient": lambda: gradient(pictures, answers).numpy(),
    }
    if rounds:
        programs["replayed"] = replay
    space = attack.neighborhood
    if isinstance(space, Spatial):
        draws = space.sample(pictures, tf.constant([0, 0]))
        programs["transform"] = lambda: space.apply(pictures, draws).numpy()
    return programs


def _time_others(
    others: Sequence[tuple[LibraryAttack, int]],
    subject: Subject,
    images: np.ndarray,
    labels: np.ndarray,
) -> list[dict[str, Any]]:
    """Times each attack of another library; the second of two runs counts."""
    rows = []
    for other, limit in others:
        if any(util.find_spec(name) is None for name in (other.module, "torch")):
            print(f"{DISTRIBUTIONS[other.module]} skipped: not installed", file=sys.stderr)
            continue
        n = min(limit, len(images))
        for _ in range(2):
            seed_all()
            began = time.perf_counter()
            other.attacker(subject, images[:n], labels[:n])
            seconds = time.perf_counter() - began
        name = f"{other.library}: {other.attack}"
        rows.append({"attack": name, "images": n, "seconds": seconds})
    return rows


def bare_seconds(row: dict[str, Any], transforms: bool) -> list[float]:
    """Seconds of the needed passes at the speed of full batches, in each round.

    Args:
        row: A row of the document.
        transforms: Whether to add a transform to each forward pass.
    """
    seconds, (forward_passes, gradient_passes) = row["seconds"], row["needed"]
    moves = seconds.get("transform", [0.0] * len(seconds["forward"]))
    return [
        (forward_passes * (forward + move * transforms) + gradient_passes * gradient)
        / row["images"]
        for forward, gradient, move in zip(
            seconds["forward"], seconds["gradient"], moves, strict=True
        )
    ]


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as two tables: the cost, and the other libraries."""
    costs, others = [], []
    for row in document["rows"]:
        title = f"`{row['attack']}`, {row['model']}"
        ours = row["seconds"]["ours"]
        speed = row["images"] / spread(ours).median
        costs.append([title, f"{row['clean']:.1%} → {row['accuracy']:.1%}", *_cells(row, speed)])
        for other in row["others"]:
            theirs = other["images"] / other["seconds"]
            cells = [str(other["images"]), f"{theirs:.3g}", f"{speed:.3g}"]
            others.append([title, other["attack"], *cells, f"{speed / theirs:.1f}×"])
    header = ["attack, model", "clean → robust accuracy", "images/s", "passes per image"]
    header += ["time / bare passes", "time / passes and transforms"]
    header += ["time / passes in the same batches", "exhaustive search / time", "same verdicts"]
    beside = ["attack, model", "library", "images", "images/s, theirs", "ours", "ratio"]
    head = f"{document['images']} test digits of {SIZE}×{SIZE} in one batch"
    return f"{head}\n\n{table(header, costs)}\n\n{table(beside, others)}"


def _cells(row: dict[str, Any], speed: float) -> list[str]:
    ours = row["seconds"]["ours"]
    replayed = row["seconds"].get("replayed")
    ratios: list[Spread] = [ratio(ours, bare_seconds(row, moves)) for moves in (False, True)]
    return [
        f"{speed:.3g}",
        f"{sum(row['needed']) / row['images']:.1f}",
        *(each.format() for each in ratios),
        "–" if replayed is None else ratio(ours, replayed).format(),
        f"{row['exhaustive_seconds'] / spread(ours).median:.1f}×",
        f"{row['same_verdicts']} of {row['images']}",
    ]


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--images", type=int, default=500, help="number of test digits")
    made.add_argument("--rounds", type=int, default=3, help="timed evaluations of each attack")
    made.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    return made


if __name__ == "__main__":
    sys.exit(main())
