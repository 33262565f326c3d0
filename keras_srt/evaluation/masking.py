"""Checks for gradient masking: attacks fail because the gradients are useless.

A model with masked gradients looks robust but is not. For a model without masking (Athalye et al.
2018, section 3.1; Carlini et al. 2019, section 5), the accuracy under attack falls to 0 as ε grows
and never rises; more steps and restarts barely strengthen the attack; an attack without gradients
is not stronger; and random noise of the same size is almost harmless.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import ATTACKS, Attack, Criterion, QueryModel
from keras_srt.attacks.pixel_balls import BALLS
from keras_srt.core.class_ids import check_class_ids
from keras_srt.core.tensorflow import tf
from keras_srt.evaluation.intervals import proportion
from keras_srt.evaluation.part_progress import Progress, report_part
from keras_srt.evaluation.threats import Sample, threats_of
from keras_srt.neighborhoods.draws import fold

# ε of the curve as multiples of the threat's; the largest possible ε is added.
_MULTIPLES = (1.0, 2.0, 4.0)
_STEPS, _TIMES, _STARTS = 8, 5, 5
_APGD_STEPS, _SQUARE_QUERIES = 20, 100
# For images that must have an adversarial image in the ball, but survive PGD.
_SMALL_STEPS = 50
_NOISE_DRAWS = 5
# Largest drop of the accuracy without a warning, and the level of the test that it is larger.
_TOLERANCE, _LEVEL = 0.02, 0.05
# A check starts with one fifth of the images, or with ten.
_FIRST_SHARE, _FEWEST = 5, 10
# As in report.json.
_SETTINGS = {
    "num_steps": _STEPS,
    "more_steps": _TIMES * _STEPS,
    "starts": _STARTS,
    "apgd_steps": _APGD_STEPS,
    "small_steps": _SMALL_STEPS,
    "square_queries": _SQUARE_QUERIES,
    "noise_draws": _NOISE_DRAWS,
}


class Finding(NamedTuple):
    """Result of a check.

    Attributes:
        name: Name of the check.
        passed: Whether the check found no sign of masking.
        text: The finding and, if the check failed, its meaning.
        numbers: The underlying numbers, JSON-ready.
    """

    name: str
    passed: bool
    text: str
    numbers: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """Entry of report.json."""
        return {"name": self.name, "passed": self.passed, "text": self.text, **self.numbers}


class Drop(NamedTuple):
    """Accuracy before and after an additional attack.

    Attributes:
        tested: Images of the comparison, bool [n].
        before: Images that survive without the attack, bool [n].
        after: Images that survive with it, bool [n].
    """

    tested: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def numbers(self) -> dict[str, Any]:
        """Both accuracies with their intervals."""
        return {
            "before": proportion(self.before[self.tested]),
            "after": proportion(self.after[self.tested]),
        }

    @property
    def significant(self) -> bool:
        """Whether two or more images fall, and more than 2% by the exact binomial test at 5%.

        The attacks search one after the other, so that no image rises and each fall counts.
        """
        from scipy.stats import binomtest

        tested = int(self.tested.sum())
        falls = int((self.before & ~self.after & self.tested).sum())
        return falls > 1 and bool(binomtest(falls, tested, _TOLERANCE, "greater").pvalue < _LEVEL)

    def __str__(self) -> str:
        before, after = (_percent(part["accuracy"]) for part in self.numbers.values())
        return f"from {before} to {after} (n={int(self.tested.sum())})"

    def finding(self, name: str, text: str, meaning: str) -> Finding:
        """Finding of a check that fails if the drop is significant, with its meaning then."""
        text = f"{text} {self}{f': {meaning}' if self.significant else ''}"
        return Finding(name, not self.significant, text, self.numbers)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


# Images to test -> those that survive before and after the attack; bool [n] each.
Trial = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def measure_drop(surviving: np.ndarray, trial: Trial) -> Drop:
    """Test a fifth of the images and, if any of them falls, the rest.

    Args:
        surviving: Images that survive so far, bool [n].
        trial: The additional attack.
    """
    count = len(surviving)
    first = np.arange(count) < max(_FEWEST, count // _FIRST_SHARE)
    before, after = trial(surviving & first)
    if np.array_equal(before, after):
        return Drop(first, before, after)
    before_rest, after_rest = trial(surviving & ~first)
    return Drop(np.ones(count, bool), before | before_rest, after | after_rest)


def pgd_curve(sample: Sample) -> tuple[list[dict[str, Any]], dict[float, np.ndarray]]:
    """Measure the accuracy under PGD of 8 steps from ε = 0 to where every image is in the ball.

    PGD's step size is in proportion to ε, and too coarse for some images in large balls. Images
    that survive although their ball contains an adversarial image (those that fell in a smaller
    ball, and all of them at the largest ε) are therefore attacked again, in 50 steps. Its start is
    the image: at the largest ε, random starts mislead any model, with useless gradients too.

    Args:
        sample: The model and the images.

    Returns:
        `[{"epsilon", "accuracy", "ci95", "n"}, …]`, and the surviving images at each ε, bool [n].
    """
    epsilon, largest = sample.threat.epsilon, sample.largest_radius
    inside = {epsilon * multiple for multiple in _MULTIPLES}
    inside = {radius for radius in inside if radius < largest}
    surviving = {0.0: sample.correct}
    progress = sample.model.progress
    for radius in progress.each(sorted(inside | {epsilon, largest})):
        with progress.part(0.0, 0.5):
            still = sample.surviving(sample.pgd(radius, num_steps=_STEPS), sample.correct)
        fell = ~np.logical_and.reduce(list(surviving.values())) | (radius == largest)
        if (still & fell).any():
            again = sample.pgd(radius, num_steps=_SMALL_STEPS)
            with progress.part(0.5, 1.0):
                still = (still & ~fell) | sample.surviving(again, still & fell)
        surviving[radius] = still
    curve = [{"epsilon": radius, **proportion(still)} for radius, still in surviving.items()]
    return curve, surviving


def falls_to_zero(curve: Sequence[dict[str, Any]], chance: float) -> Finding:
    """Check that the accuracy at the largest ε is no better than a guess."""
    last = curve[-1]
    text = f"accuracy {_percent(last['accuracy'])} at eps {last['epsilon']:.4g}"
    passed = last["accuracy"] <= chance
    meaning = (
        f", where every image can become any other one and at most {_percent(chance)} is "
        "expected: the gradients lead nowhere"
    )
    return Finding("large_epsilon", passed, text + ("" if passed else meaning), {})


def never_rises(curve: Sequence[dict[str, Any]]) -> Finding:
    """Check that a larger ε never weakens the attack by more than 2 points and one image."""
    tolerance = max(_TOLERANCE, 1 / curve[0]["n"]) + 1e-9
    pairs = [(one, other) for i, one in enumerate(curve) for other in curve[i + 1 :]]
    low, high = max(pairs, key=lambda pair: pair[1]["accuracy"] - pair[0]["accuracy"])
    if high["accuracy"] - low["accuracy"] <= tolerance:
        return Finding("monotone", True, "accuracy never rises with eps", {})
    text = (
        f"accuracy rises from {_percent(low['accuracy'])} at eps {low['epsilon']:.4g} to "
        f"{_percent(high['accuracy'])} at eps {high['epsilon']:.4g}: the attack fails in a larger "
        "ball although it succeeds in a smaller one"
    )
    return Finding("monotone", False, text, {})


def more_effort(sample: Sample, surviving: np.ndarray) -> list[Finding]:
    """Check that PGD with five times the steps, and with five starts, is not much stronger.

    Args:
        sample: The model and the images.
        surviving: Images that survive PGD, bool [n].
    """
    epsilon, findings = sample.threat.epsilon, []
    steps = {"num_steps": _TIMES * _STEPS}
    restarts = {"num_steps": _STEPS, "restarts": _STARTS - 1, "random_start": True}
    efforts = (
        ("steps", steps, f"{_TIMES} times the steps"),
        ("restarts", restarts, f"{_STARTS} starts instead of 1"),
    )
    for name, settings, effort in sample.model.progress.each(efforts):
        drop = measure_drop(surviving, _trial_of(sample.pgd(epsilon, **settings), sample))
        meaning = "the attacks in the report may be far from the worst case"
        findings.append(drop.finding(name, f"{effort} take PGD's accuracy", meaning))
    return findings


def _trial_of(attack: Attack, sample: Sample) -> Trial:
    return lambda among: (among, sample.surviving(attack, among))


def square_is_weaker(sample: Sample, surviving: np.ndarray) -> Finding:
    """Check that Square, which uses no gradient, barely succeeds where PGD and APGD failed.

    Args:
        sample: The model and the images.
        surviving: Images that survive PGD, bool [n].
    """
    ball = {"epsilon": sample.threat.epsilon, "norm_ball": sample.threat.norm}
    apgd = ATTACKS.build({"name": "apgd_ce", **ball, "num_steps": _APGD_STEPS})
    square = ATTACKS.build({"name": "square", **ball, "queries": _SQUARE_QUERIES})

    def trial(among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with sample.model.progress.part(0.0, 0.5):
            remaining = sample.surviving(apgd, among)
        with sample.model.progress.part(0.5, 1.0):
            return remaining, sample.surviving(square, remaining)

    drop = measure_drop(surviving, trial)
    text = f"Square of {_SQUARE_QUERIES} queries takes APGD's accuracy"
    return drop.finding("square", text, "the apparent robustness comes from useless gradients")


def noise_is_harmless(sample: Sample) -> Finding:
    """Check that the worst of a few random points of the ball barely lowers the accuracy."""
    ball = BALLS[sample.threat.norm](epsilon=sample.threat.epsilon)
    still = sample.correct.copy()
    for draw in range(_NOISE_DRAWS):
        index = np.flatnonzero(still)
        if not len(index):
            break
        images, seed = tf.constant(sample.images[index]), fold(sample.seed, draw)
        noisy = ball.solver.start(images, seed, 1.0).numpy()
        classes = sample.model.predictions(noisy, Criterion(sample.labels[index])).classes
        still[index] = classes == sample.labels[index]
    drop = Drop(np.ones(len(still), bool), sample.correct, still)
    text = f"the worst of {_NOISE_DRAWS} random noises takes the accuracy"
    return drop.finding("noise", text, "the model is not even robust to noise")


def find_masking(
    model: QueryModel,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Run all checks for each pixel ball of an evaluation.

    The cost for each image is about 17 gradient passes and 7 forward passes; for a fifth of the
    images (for all if one of them falls) another 93 and 100.

    Args:
        model: The model under attack.
        images: Some test images, float32 [n, height, width, channels] in [0, 1].
        labels: True classes, int32 [n].
        attacks: Attacks of the evaluation.
        seed: Seed of the random draws.
        progress: Called before the first and after each check, or None.

    Returns:
        The section `masking` of report.json. None if no gradient attack searches an L∞ or L2
        ball, if the model has no gradients, or if no clean image is correctly classified.

    Raises:
        RuntimeError: An attack returned an image outside its threat model.

    Example:
        >>> find_masking(QueryModel(lambda x: x), np.zeros((1, 4, 4, 1)), np.zeros(1), []) is None
        True
    """
    threats = threats_of(attacks) if model.has_gradients else []
    if not threats or not len(images):
        return None
    began, queries = time.perf_counter(), model.queries
    num_classes = model.logits(images).shape[1]
    labels, chance = check_class_ids(labels, num_classes), 1 / num_classes
    correct = model.predictions(images, Criterion(labels)).classes == labels
    if not correct.any():
        return None
    draws = tf.constant([seed, 1], tf.int32)
    parts = [
        _check(Sample(model, images, labels, correct, chance, threat, draws), progress)
        for threat in threats
    ]
    return {
        "n": len(images),
        "chance": chance,
        "settings": _SETTINGS,
        "threats": parts,
        "queries": model.queries - queries,
        "seconds": round(time.perf_counter() - began, 2),
    }


def _check(sample: Sample, progress: Progress | None) -> dict[str, Any]:
    """Run all checks in one pixel ball."""
    norm, epsilon = sample.threat

    def part(number: int) -> AbstractContextManager[None]:
        return report_part(progress, sample.model, name, number, 1, 4)

    name = f"gradient masking, {norm}"
    if progress is not None:
        progress(name, 0, 4)
    with part(0):
        curve, surviving = pgd_curve(sample)
    findings = [falls_to_zero(curve, sample.chance), never_rises(curve)]
    with part(1):
        findings += more_effort(sample, surviving[epsilon])
    with part(2):
        findings.append(square_is_weaker(sample, surviving[epsilon]))
    with part(3):
        findings.append(noise_is_harmless(sample))
    checks = [finding.describe() for finding in findings]
    return {"norm": norm, "epsilon": epsilon, "curve": curve, "checks": checks}
