"""PGD-40 and GridAdv (775 transforms) beside bare passes, exhaustive search, Foolbox and ART.

    python benchmarks/evaluation_cost.py [--images 500] [--output FILE.json]

Each attack on a standard classifier and on one that was trained against it, both trained here in
some seconds. Needed are the pass of the untouched image and those until something fools the model,
as exhaustive search finds them, at the speed of a full batch with nothing around it; the transforms
of GridAdv are timed alone. PGD's passes are also replayed, each with the images that are left to
it: a gradient waits for the one before, so that its batches can't be filled. The verdicts of the
evaluation are compared with those of exhaustive search, image by image: exit code 1 if any differs.
A library that isn't installed is named and left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib import util
from typing import Any

import numpy as np
from evaluation_models import CLASSES, DEFENSES, SIZE, train
from exhaustive import Searched, search_grid, search_steps
from measuring import (
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
from strangers import DISTRIBUTIONS, Stranger, Subject, art, art_image_by_image, foolbox, seed_all

from keras_srt.attacks import PGD, Attack, GridAdv, TargetModel
from keras_srt.attacks.criterion import Criterion
from keras_srt.core.tensorflow import tf
from keras_srt.data import Digits
from keras_srt.evaluation.robustness import Robustness
from keras_srt.evaluation.runner import evaluate_robustness
from keras_srt.neighborhoods import Passes
from keras_srt.neighborhoods.draws import fold

ASKED, ASKED_CHEAPER = 1.15, 20.0
ATTACKS: dict[str, Attack] = {
    "pgd": PGD(epsilon=0.3, num_steps=40, step_size=0.01),
    "gridadv": GridAdv(),
}
_PGD = {"eps": 0.3, "eps_step": 0.01, "max_iter": 40, "num_random_init": 1, "batch_size": 1000}
_FOOLBOX_PGD = {"abs_stepsize": 0.01, "steps": 40, "random_start": True}
_FOOLBOX_GRID = {
    "max_translation": 3,
    "max_rotation": 30,
    "num_translations": 5,
    "num_rotations": 31,
}
# In percent of the side.
_ART_GRID = {
    "max_translation": 300 / SIZE,
    "num_translations": 5,
    "max_rotation": 30,
    "num_rotations": 31,
}
# Each with the images it gets: ART searches a transform for all images together, so that it is
# called image by image, which takes seconds for each.
OTHERS: dict[str, tuple[tuple[Stranger, int], ...]] = {
    "pgd": (
        (foolbox("LinfPGD", _FOOLBOX_PGD, 0.3), 1000),
        (art("ProjectedGradientDescent", _PGD), 1000),
    ),
    "gridadv": (
        (foolbox("SpatialAttack", _FOOLBOX_GRID, torch=True), 50),
        (art_image_by_image("SpatialTransformation", _ART_GRID), 1),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints a table; 0, or 1 if a verdict isn't that of exhaustive search."""
    options = _options().parse_args(arguments)
    described = machine()
    images, labels = Digits(size=SIZE).load_test(None)
    images, labels = np.float32(images[: options.images] / 255), labels[: options.images]
    rounds, steps = (1, 20) if options.quick else (options.rounds, 250)
    rows = []
    for name in options.attacks:
        for model, defense in (("standard", None), ("robust", DEFENSES[name])):
            print(f"{name}, {model} model", file=sys.stderr)
            subject = Subject(train(defense, steps))
            row = measure(ATTACKS[name], subject, images, labels, rounds)
            others = _time_others(OTHERS[name], subject, images, labels)
            rows.append({"attack": name, "model": model, **row, "others": others})
    document = {"machine": described, "images": len(images), "classes": CLASSES, "rows": rows}
    finish(document, to_markdown(document), options.output)
    return 0 if all(row["same_verdicts"] == row["images"] for row in rows) else 1


def measure(
    attack: Attack, subject: Subject, images: np.ndarray, labels: np.ndarray, rounds: int
) -> dict[str, Any]:
    """Seconds of an evaluation and of full batches of bare passes, and exhaustive search once.

    Args:
        attack: to evaluate with.
        subject: the model.
        images: float32 [n, height, width, channels].
        labels: int32 [n].
        rounds: timed runs of each.
    """
    target_model = TargetModel(subject.classifier, batch_size=len(images))
    criterion = Criterion(target_model.predictions(images, Criterion(labels)).classes)
    began = time.perf_counter()
    searched = search(attack, target_model, images, criterion)
    exhaustive = time.perf_counter() - began
    outcome: list[Robustness] = []
    programs = {
        "ours": lambda: outcome.append(evaluate_robustness(target_model, images, labels, [attack])),
        **_bare(attack, subject.classifier, images, labels, searched.rounds),
    }
    seconds = interleave(programs, rounds, warm_up=1)
    still = outcome[-1].surviving(attack.name)
    return {
        "images": len(images),
        "clean": float(outcome[-1].correct.mean()),
        "accuracy": float(still.mean()),
        "same_verdicts": int((still == (outcome[-1].correct & ~searched.fooled)).sum()),
        # Both start with the model's answers to the untouched images.
        "needed": {**searched.needed._asdict(), "forward": searched.needed.forward + len(images)},
        "every": {**searched.every._asdict(), "forward": searched.every.forward + len(images)},
        "seconds": seconds,
        "exhaustive_seconds": exhaustive,
    }


def search(
    attack: Attack, target_model: TargetModel, images: np.ndarray, criterion: Criterion
) -> Searched:
    """Exhaustive search with the draws that `evaluate_robustness` makes for a single batch."""
    if isinstance(attack, PGD):
        seed = fold(tf.constant([0, 0]), 0)
        return search_steps(attack, target_model, images, criterion, seed)
    return search_grid(attack, target_model, images, criterion)


def _bare(
    attack: Attack,
    classifier: Any,
    images: np.ndarray,
    labels: np.ndarray,
    rounds: Sequence[Passes],
) -> dict[str, Callable[[], Any]]:
    """A forward pass, one with input gradient, a transform over all images; and the rounds."""
    pictures, answers = tf.constant(images), tf.constant(labels)
    left = tf.TensorSpec([None, *images.shape[1:]]), tf.TensorSpec([None], tf.int32)

    @tf.function(autograph=False, input_signature=left[:1])
    def forward(x: tf.Tensor) -> tf.Tensor:
        return classifier(x, training=False)

    @tf.function(autograph=False, input_signature=left)
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

    programs = {
        "forward": lambda: forward(pictures).numpy(),
        "gradient": lambda: gradient(pictures, answers).numpy(),
    }
    if rounds:
        programs["replayed"] = replay
    space = attack.neighborhood
    if hasattr(space, "limits"):
        draws = space.sample(images, tf.constant([0, 0]))
        programs["transform"] = lambda: space.apply(pictures, draws).numpy()
    return programs


def _time_others(
    others: Sequence[tuple[Stranger, int]],
    subject: Subject,
    images: np.ndarray,
    labels: np.ndarray,
) -> list[dict[str, Any]]:
    """Each other library on as many images as it gets, the second of two runs."""
    rows = []
    for stranger, limit in others:
        # All of them are seeded together with Torch.
        missing = [name for name in (stranger.module, "torch") if util.find_spec(name) is None]
        if missing:
            library = DISTRIBUTIONS[stranger.module]
            print(f"{library} left out: not installed: {', '.join(missing)}", file=sys.stderr)
            continue
        n = min(limit, len(images))
        for _ in range(2):
            seed_all()
            began = time.perf_counter()
            stranger.attacker(subject, images[:n], labels[:n])
            seconds = time.perf_counter() - began
        rows.append(
            {
                "library": stranger.library,
                "attack": stranger.attack,
                "images": n,
                "seconds": seconds,
            }
        )
    return rows


def bare_seconds(row: dict[str, Any], passes: dict[str, int], transforms: bool) -> list[float]:
    """What these passes take in each round at the speed of full batches.

    Args:
        row: of the document.
        passes: image passes, `row["needed"]` or `row["every"]`.
        transforms: whether a transform is counted for each forward pass of a spatial attack.
    """
    seconds, n = row["seconds"], row["images"]
    moved = seconds.get("transform", [0.0] * len(seconds["forward"]))
    return [
        (
            passes["forward"] * (forward + (its_transform if transforms else 0.0))
            + passes["gradient"] * gradient
        )
        / n
        for forward, gradient, its_transform in zip(
            seconds["forward"], seconds["gradient"], moved, strict=True
        )
    ]


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as two tables: the cost, and the other libraries."""
    costs, others = [], []
    for row in document["rows"]:
        title = f"`{row['attack']}`, {row['model']}"
        speed = row["images"] / spread(row["seconds"]["ours"]).median
        costs.append([title, *_cost_cells(row, speed)])
        for other in row["others"]:
            theirs = other["images"] / other["seconds"]
            others.append(
                [
                    title,
                    f"{other['library']}: {other['attack']}",
                    str(other["images"]),
                    f"{theirs:.3g}",
                    f"{speed:.3g}",
                    f"{speed / theirs:.1f}×",
                ]
            )
    header = ["attack, model", "right before → after", "images/s", "passes an image needs"]
    header += ["by bare passes", "by passes and transforms", "asked"]
    header += ["by passes in batches of what is left", "asked"]
    header += ["cheaper than exhaustive", "same verdicts"]
    beside = ["attack, model", "library", "images", "images/s, theirs", "ours", "ours is faster by"]
    return "\n".join(
        [
            f"{document['images']} test digits of {SIZE}×{SIZE} in one batch",
            "",
            table(header, costs),
            "",
            table(beside, others),
        ]
    )


def _cost_cells(row: dict[str, Any], speed: float) -> list[str]:
    """What the table of costs says of an attack on a model."""
    ours = row["seconds"]["ours"]
    alone = ratio(ours, bare_seconds(row, row["needed"], transforms=False))
    share = ratio(ours, bare_seconds(row, row["needed"], transforms=True))
    replayed = ["–", "–"]
    if "replayed" in row["seconds"]:
        beside = ratio(ours, row["seconds"]["replayed"])
        replayed = [describe_spread(beside), bound(beside.median, ASKED)]
    cheaper = row["exhaustive_seconds"] / spread(ours).median
    # PGD ends where it fools, too, but each of its images needs several of the 40 steps.
    asked = (row["attack"], row["model"]) == ("gridadv", "standard")
    return [
        f"{row['clean']:.1%} → {row['accuracy']:.1%}",
        f"{speed:.3g}",
        f"{sum(row['needed'].values()) / row['images']:.1f}",
        describe_spread(alone),
        describe_spread(share),
        bound(share.median, ASKED),
        *replayed,
        f"{cheaper:.1f}×" + (f" ({bound(cheaper, ASKED_CHEAPER, at_most=False)})" if asked else ""),
        f"{row['same_verdicts']} of {row['images']}",
    ]


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__.splitlines()[0], "evaluation_cost")
    made.add_argument("--images", type=int, default=500, help="test digits, the first ones")
    made.add_argument("--rounds", type=int, default=3, help="timed evaluations of each")
    made.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    return made


if __name__ == "__main__":
    sys.exit(main())
