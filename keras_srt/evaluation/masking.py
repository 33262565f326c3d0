"""Looks for gradient masking: a model that attacks can't fool for want of a useful gradient.

Such a model looks robust and isn't. Of an honest one these hold (Athalye et al. 2018, section
3.1; Carlini et al. 2019, section 5): its accuracy under attack falls to 0 as ε grows, and never
rises; more steps and more starts don't help the attack much; an attack that uses no gradient
isn't the stronger one; random noise of the same size is all but harmless.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import (
    ATTACKS,
    PGD,
    Attack,
    Criterion,
    MinimalNormAttack,
    QueryModel,
    TargetModel,
)
from keras_srt.core.tensorflow import tf
from keras_srt.evaluation.runner import Progress, check_inside, proportion
from keras_srt.neighborhoods import L2, LInf
from keras_srt.neighborhoods.draws import fold

# ε of the curve, as multiples of the threat model's; the last point is as large as can be.
_MULTIPLES = (1.0, 2.0, 4.0)
_STEPS, _TIMES, _STARTS = 8, 5, 5
_APGD_STEPS, _SQUARE_QUERIES = 20, 100
_NOISE_DRAWS = 5
# What may fall without a warning, and how many images are looked at before the rest.
_TOLERATED = 0.02
_FIRST_SHARE, _FEWEST = 5, 10
_BALLS = {"linf": LInf, "l2": L2}
# As in report.json.
_SETTINGS = {
    "num_steps": _STEPS,
    "more_steps": _TIMES * _STEPS,
    "starts": _STARTS,
    "apgd_steps": _APGD_STEPS,
    "square_queries": _SQUARE_QUERIES,
    "noise_draws": _NOISE_DRAWS,
}


class Threat(NamedTuple):
    """A pixel ball that an evaluation attacks in: its norm, "linf" or "l2", and its ε."""

    norm: str
    epsilon: float


class Finding(NamedTuple):
    """The outcome of a check.

    Attributes:
        name: of the check.
        passed: whether nothing points to masking.
        text: what was found, with its meaning where the check failed.
        numbers: what it rests on, JSON-ready.
    """

    name: str
    passed: bool
    text: str
    numbers: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """The entry of report.json."""
        return {"name": self.name, "passed": self.passed, "text": self.text, **self.numbers}


class Sample(NamedTuple):
    """What all checks look at.

    Attributes:
        target_model: the model.
        images: float32 [n, height, width, channels] in [0, 1].
        labels: int32 [n], true labels.
        right: bool [n], whether the untampered image is answered right.
        chance: the accuracy of a guess.
        threat: the pixel ball.
        seed: int32 [2].
    """

    target_model: TargetModel
    images: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    chance: float
    threat: Threat
    seed: tf.Tensor

    def surviving(self, attack: Attack, among: np.ndarray) -> np.ndarray:
        """Which images are still right after an attack: bool [n].

        Args:
            attack: untargeted.
            among: bool [n], the images attacked, all of them right so far.
        """
        index, still = np.flatnonzero(among), among.copy()
        if len(index):
            images, criterion = self.images[index], Criterion(self.labels[index])
            found = attack.run(self.target_model, images, criterion, self.seed)
            check_inside(attack, images, found)
            still[index] = ~found.fooled
        return still

    def pgd(self, epsilon: float, **settings: Any) -> PGD:
        """PGD in this norm, without a random start unless `settings` say so."""
        ball: dict[str, Any] = {"epsilon": epsilon, "norm_ball": self.threat.norm}
        defaults = {"num_steps": _STEPS, "random_start": False}
        return PGD(**(ball | defaults | settings))


class Comparison(NamedTuple):
    """Images that are right before and after something was tried, of those looked at."""

    looked_at: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def numbers(self) -> dict[str, Any]:
        """Both accuracies with their intervals, and n."""
        return {
            "before": proportion(self.before[self.looked_at]),
            "after": proportion(self.after[self.looked_at]),
        }

    @property
    def fell(self) -> bool:
        """Whether the accuracy fell by more than 2 points and below its interval."""
        before, after = self.numbers["before"], self.numbers["after"]["accuracy"]
        return after < before["ci95"][0] and before["accuracy"] - after > _TOLERATED

    def __str__(self) -> str:
        before, after = (_percent(part["accuracy"]) for part in self.numbers.values())
        return f"from {before} to {after} (n={int(self.looked_at.sum())})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


# Images that are right so far -> those right before and after what is tried; bool [n] each.
Trial = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def compare(surviving: np.ndarray, trial: Trial) -> Comparison:
    """Tries something on a fifth of the images, and on the rest if any of these falls.

    Args:
        surviving: bool [n], images that are right so far.
        trial: what is tried.
    """
    count = len(surviving)
    first = np.arange(count) < max(_FEWEST, count // _FIRST_SHARE)
    before, after = trial(surviving & first)
    if np.array_equal(before, after):
        return Comparison(first, before, after)
    before_rest, after_rest = trial(surviving & ~first)
    return Comparison(np.ones(count, bool), before | before_rest, after | after_rest)


def accuracy_curve(sample: Sample) -> tuple[list[dict[str, Any]], dict[float, np.ndarray]]:
    """Accuracy under PGD of 8 steps as ε grows, to where every image is in the ball.

    Args:
        sample: what is looked at.

    Returns:
        `[{"epsilon", "accuracy", "ci95", "n"}, …]` from ε = 0 on, and which images are right
        at each ε, bool [n].
    """
    threat = sample.threat
    largest = 1.0 if threat.norm == "linf" else float(np.sqrt(sample.images[0].size))
    inside = {threat.epsilon * multiple for multiple in _MULTIPLES}
    inside = {radius for radius in inside if radius < largest}
    surviving = {0.0: sample.right}
    for radius in sorted(inside | {threat.epsilon, largest}):
        surviving[radius] = sample.surviving(sample.pgd(radius), sample.right)
    curve = [{"epsilon": radius, **proportion(still)} for radius, still in surviving.items()]
    return curve, surviving


def falls_to_zero(curve: Sequence[dict[str, Any]], chance: float) -> Finding:
    """Whether the accuracy at the largest ε is no better than a guess."""
    last = curve[-1]
    found = f"accuracy {_percent(last['accuracy'])} at eps {last['epsilon']:.4g}"
    passed = last["accuracy"] <= chance
    meaning = (
        f", where every image can become any other one and at most {_percent(chance)} is to be "
        "expected: the gradients lead nowhere"
    )
    return Finding("large_epsilon", passed, found + ("" if passed else meaning), {})


def never_rises(curve: Sequence[dict[str, Any]]) -> Finding:
    """Whether a larger ε never makes the attack weaker, by more than 2 points and an image."""
    tolerated = max(_TOLERATED, 1 / curve[0]["n"]) + 1e-9
    pairs = [(one, other) for i, one in enumerate(curve) for other in curve[i + 1 :]]
    low, high = max(pairs, key=lambda pair: pair[1]["accuracy"] - pair[0]["accuracy"])
    if high["accuracy"] - low["accuracy"] <= tolerated:
        return Finding("monotone", True, "accuracy never rises with eps", {})
    text = (
        f"accuracy rises from {_percent(low['accuracy'])} at eps {low['epsilon']:.4g} to "
        f"{_percent(high['accuracy'])} at eps {high['epsilon']:.4g}: the attack fails where it "
        "must not"
    )
    return Finding("monotone", False, text, {})


def more_effort(sample: Sample, surviving: np.ndarray) -> list[Finding]:
    """Whether PGD of five times the steps, and from five starts, fools much more.

    Args:
        sample: what is looked at.
        surviving: bool [n], what PGD left right.
    """
    epsilon, findings = sample.threat.epsilon, []
    restarts = {"restarts": _STARTS - 1, "random_start": True}
    for name, settings, what in (
        ("steps", {"num_steps": _TIMES * _STEPS}, f"{_TIMES} times the steps"),
        ("restarts", restarts, f"{_STARTS} starts instead of 1"),
    ):
        got = compare(surviving, _attacked_by(sample.pgd(epsilon, **settings), sample))
        meaning = ": the attacks in the report may be far from the worst case" if got.fell else ""
        text = f"{what} take PGD's accuracy {got}{meaning}"
        findings.append(Finding(name, not got.fell, text, got.numbers))
    return findings


def _attacked_by(attack: Attack, sample: Sample) -> Trial:
    return lambda among: (among, sample.surviving(attack, among))


def square_is_weaker(sample: Sample, surviving: np.ndarray) -> Finding:
    """Whether Square, which sees no gradient, fools much of what PGD and APGD leave.

    Args:
        sample: what is looked at.
        surviving: bool [n], what PGD left right.
    """
    settings = {"epsilon": sample.threat.epsilon, "norm_ball": sample.threat.norm}
    apgd = ATTACKS.build({"name": "apgd_ce", **settings, "num_steps": _APGD_STEPS})
    square = ATTACKS.build({"name": "square", **settings, "queries": _SQUARE_QUERIES})

    def trial(among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left = sample.surviving(apgd, among)
        return left, sample.surviving(square, left)

    got = compare(surviving, trial)
    meaning = ": what looks robust is a gradient that is of no use" if got.fell else ""
    text = f"Square of {_SQUARE_QUERIES} queries takes APGD's accuracy {got}{meaning}"
    return Finding("square", not got.fell, text, got.numbers)


def noise_is_harmless(sample: Sample) -> Finding:
    """Whether the worst of a few random points of the ball leaves the accuracy as it is."""
    ball = _BALLS[sample.threat.norm](epsilon=sample.threat.epsilon)
    still = sample.right.copy()
    for draw in range(_NOISE_DRAWS):
        index = np.flatnonzero(still)
        if not len(index):
            break
        noisy = ball.solver.start(
            tf.constant(sample.images[index]), fold(sample.seed, draw), 1.0
        ).numpy()
        classes = sample.target_model.answers(noisy, Criterion(sample.labels[index])).classes
        still[index] = classes == sample.labels[index]
    got = Comparison(np.ones(len(still), bool), sample.right, still)
    meaning = ": it isn't robust to noise, let alone to attacks" if got.fell else ""
    text = f"the worst of {_NOISE_DRAWS} random noises takes the accuracy {got}{meaning}"
    return Finding("noise", not got.fell, text, got.numbers)


def threats_of(attacks: Sequence[Attack]) -> list[Threat]:
    """The pixel balls in which gradient attacks search, the largest of each norm."""
    largest: dict[str, float] = {}
    for attack in attacks:
        searches = attack.needs_gradients and not isinstance(attack, MinimalNormAttack)
        if searches and attack.norm in _BALLS and attack.radius:
            largest[attack.norm] = max(attack.radius, largest.get(attack.norm, 0.0))
    return [Threat(norm, epsilon) for norm, epsilon in largest.items()]


def find_masking(
    target_model: TargetModel,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Runs all checks for each pixel ball of an evaluation.

    For each image it costs about 17 gradient passes and 7 forward passes, and for a fifth of
    the images (all of them where one falls) another 93 and 100.

    Args:
        target_model: the model.
        images: float32 [n, height, width, channels] in [0, 1], some test images.
        labels: int32 [n], true labels.
        attacks: of the evaluation.
        seed: of the random draws.
        progress: told after each check, or None.

    Returns:
        The part `masking` of report.json; None where no gradient attack searches an L∞ or
        an L2 ball, or the model shows no gradient.

    Raises:
        RuntimeError: an attack returned something outside its own threat model.

    Example:
        >>> find_masking(TargetModel(lambda x: x), np.zeros((1, 4, 4, 1)), np.zeros(1), []) is None
        True
    """
    threats = [] if isinstance(target_model, QueryModel) else threats_of(attacks)
    if not threats or not len(images):
        return None
    began, asked = time.perf_counter(), target_model.queries
    logits = target_model.logits(images)
    right = target_model.answers(images, Criterion(labels)).classes == labels
    draws = tf.constant([seed, 1], tf.int32)
    parts = []
    for threat in threats:
        sample = Sample(target_model, images, labels, right, 1 / logits.shape[1], threat, draws)
        parts.append(_check(sample, progress))
    return {
        "n": len(images),
        "chance": 1 / logits.shape[1],
        "settings": _SETTINGS,
        "threats": parts,
        "queries": target_model.queries - asked,
        "seconds": round(time.perf_counter() - began, 2),
    }


def _check(sample: Sample, progress: Progress | None) -> dict[str, Any]:
    """All checks in one pixel ball."""
    norm, epsilon = sample.threat

    def tell(done: int) -> None:
        if progress is not None:
            progress(f"gradient masking, {norm}", done, 4)

    curve, surviving = accuracy_curve(sample)
    findings = [falls_to_zero(curve, sample.chance), never_rises(curve)]
    tell(1)
    findings += more_effort(sample, surviving[epsilon])
    tell(2)
    findings.append(square_is_weaker(sample, surviving[epsilon]))
    tell(3)
    findings.append(noise_is_harmless(sample))
    tell(4)
    checks = [finding.describe() for finding in findings]
    return {"norm": norm, "epsilon": epsilon, "curve": curve, "checks": checks}
