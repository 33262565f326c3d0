"""Compare the strength of two attacks on the same images."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from attack_pairs import Pair
from libraries import Subject, seed_all

from keras_srt import evaluate_robustness
from keras_srt.attacks import ATTACKS, Attack, Criterion, MinimalNormAttack

# Rounding of a float32 perturbation, as in the evaluation.
_ROUNDING = 1e-5
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"


class Outcome(NamedTuple):
    """Results of one implementation.

    Attributes:
        surviving: bool [n], whether an image is correctly classified before and after the attack.
        distances: float64 [n], to the nearest adversarial image, infinite if none was found;
            None for attacks within a radius.
        seconds: Duration of the attack.
        strayed: Number of images outside the threat model or [0, 1].
    """

    surviving: np.ndarray
    distances: np.ndarray | None
    seconds: float
    strayed: int = 0


class Comparison(NamedTuple):
    """Results of two implementations on the same images.

    Attributes:
        pair: The attacks.
        n: Number of images.
        ours, theirs: Robust accuracies in percent.
        our_distance, their_distance: Means over the images on which both succeed, or None.
        our_seconds, their_seconds: Durations.
        strayed: Number of their images outside the threat model, which are failures.
    """

    pair: Pair
    n: int
    ours: float
    theirs: float
    our_distance: float | None
    their_distance: float | None
    our_seconds: float
    their_seconds: float
    strayed: int

    @property
    def points(self) -> float:
        """Our accuracy minus theirs, in points: above 0, our attack is weaker."""
        return self.ours - self.theirs

    @property
    def share(self) -> float:
        """Relative difference of our distances to theirs: above 0, our attack is weaker."""
        if self.our_distance is None or self.their_distance is None:
            return 0.0
        return self.our_distance / self.their_distance - 1.0

    @property
    def verdict(self) -> str:
        """ "equal", or which attack is stronger without being weaker in the other measure."""
        weaker, stronger = self._beyond(1), self._beyond(-1)
        if weaker:
            return "theirs is stronger"
        return "ours is stronger" if stronger else "equal"

    def _beyond(self, sign: int) -> bool:
        return sign * self.points > 1.0 + 1e-9 or sign * self.share > 0.03


def compare(pair: Pair, subject: Subject, images: np.ndarray, labels: np.ndarray) -> Comparison:
    """Run both attacks on all images, and check both results equally strictly."""
    attack = ATTACKS.build(pair.ours)
    ours = _run_ours(attack, subject, images, labels)
    theirs = _run_theirs(pair, attack, subject, images, labels)
    distances: tuple[float | None, float | None] = (None, None)
    if ours.distances is not None and theirs.distances is not None:
        both = np.isfinite(ours.distances) & np.isfinite(theirs.distances) & (ours.distances > 0)
        distances = (float(ours.distances[both].mean()), float(theirs.distances[both].mean()))
    return Comparison(
        pair,
        len(images),
        100 * float(ours.surviving.mean()),
        100 * float(theirs.surviving.mean()),
        *distances,
        ours.seconds,
        theirs.seconds,
        theirs.strayed,
    )


def _run_ours(attack: Attack, subject: Subject, images: np.ndarray, labels: np.ndarray) -> Outcome:
    robustness = evaluate_robustness(subject.classifier, images, labels, [attack])
    outcome = robustness.outcomes[attack.name]
    if outcome.distances is None:
        criterion = Criterion(robustness.clean_classes, outcome.targets)
        surviving = robustness.correct & ~criterion.is_adversarial(outcome.classes)
        return Outcome(surviving, None, outcome.seconds)
    distances = np.where(robustness.correct, outcome.distances, 0)
    return Outcome(distances > attack.radius, distances, outcome.seconds)


def _run_theirs(
    pair: Pair, attack: Attack, subject: Subject, images: np.ndarray, labels: np.ndarray
) -> Outcome:
    seed_all()
    began = time.perf_counter()
    found = np.float32(pair.theirs.attacker(subject, images, labels))
    seconds = time.perf_counter() - began
    criterion = Criterion(labels, (labels + 1) % 10 if attack.target == "next" else None)
    correct = _classes(subject, images) == labels
    success = criterion.is_adversarial(_classes(subject, found))
    space, moved = attack.neighborhood, np.float64(found) - np.float64(images)
    inside = (found.min(axis=(1, 2, 3)) >= 0) & (found.max(axis=(1, 2, 3)) <= 1)
    if isinstance(attack, MinimalNormAttack):
        length = np.where(correct, attack.ball.distance(moved), 0)
        distances = np.where((success & inside) | ~correct, length, np.inf)
        return Outcome(distances > attack.radius, distances, seconds, int((~inside).sum()))
    if space.kind == "pixel":
        inside &= space.relative_size(moved) <= 1 + _ROUNDING
    return Outcome(correct & ~(success & inside), None, seconds, int((~inside).sum()))


def _classes(subject: Subject, images: np.ndarray) -> np.ndarray:
    return subject.classifier.predict(images, verbose=0).argmax(axis=1)


def write_table(comparisons: list[Comparison], page: Path) -> None:
    """Write the table between the marks of the page, and the numbers into a .json beside it."""
    before, _, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    table = "\n".join([*_HEAD, *(_line(each) for each in comparisons)])
    page.write_text(f"{before}{_BEGIN}\n{table}\n{_END}{after}", encoding="utf-8")
    figures = [_as_json(each) for each in comparisons]
    text = json.dumps(figures, indent=2) + "\n"
    page.with_suffix(".json").write_text(text, encoding="utf-8")


_HEAD = (
    "| attack | against | settings | theirs % | ours % | difference | mean distance, theirs | "
    "ours | verdict | s, theirs | s, ours |",
    "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
)


def _line(each: Comparison) -> str:
    theirs = each.pair.theirs
    distances = ["", ""]
    if each.our_distance is not None:
        distances = [f"{each.their_distance:.4g}", f"{each.our_distance:.4g} ({each.share:+.1%})"]
    cells = [
        f"`{each.pair.ours['name']}`",
        f"{theirs.library}: {theirs.attack}",
        ", ".join(f"{name} {_short(value)}" for name, value in _settings(each.pair)),
        f"{each.theirs:.1f}",
        f"{each.ours:.1f}",
        f"{each.points:+.1f}",
        *distances,
        each.verdict + (f": {each.pair.reason}" if each.pair.reason else ""),
        f"{each.their_seconds:.1f}",
        f"{each.our_seconds:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _settings(pair: Pair) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in pair.ours.items() if name != "name"]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _as_json(each: Comparison) -> dict[str, Any]:
    pair, *_ = each
    return {
        **each._asdict(),
        "pair": {"ours": pair.ours, "library": pair.theirs.library, "attack": pair.theirs.attack},
        "verdict": each.verdict,
        "reason": pair.reason,
    }
