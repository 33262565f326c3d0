"""Results of a robustness evaluation: per-image outcomes, accuracies and risks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import Attack, AutoAttack, MinimalNormAttack
from keras_srt.core.registry import settings_of
from keras_srt.evaluation.intervals import proportion


class AttackOutcome(NamedTuple):
    """Results of one attack on each image.

    Attributes:
        attack: The attack.
        images: Attacked images, float32 [n, height, width, channels].
        classes: Predicted classes of `images`, int32 [n].
        seconds: Duration of the attack.
        members: For AutoAttack, the index of the first member that succeeded, int [n]; -1 if none
            did. None for other attacks.
        targets: Target classes of a targeted attack, int32 [n]; otherwise None.
        distances: Norm of the smallest adversarial perturbation found by a minimal-norm attack,
            float64 [n]: 0 for images that needed none, infinite for failures. None for other
            attacks.
        gradients: Number of gradients that the attack computed.
        vanished: Number of those that were 0.
    """

    attack: Attack
    images: np.ndarray
    classes: np.ndarray
    seconds: float
    members: np.ndarray | None = None
    targets: np.ndarray | None = None
    distances: np.ndarray | None = None
    gradients: int = 0
    vanished: int = 0


class Risks(NamedTuple):
    """Standard, robust and adversarial risk, of each image or averaged over a dataset.

    R_adv(x) = R_stand(x) + (1 - R_stand(x))·R_rob(x)                              (eq. 6)

    Source: Li et al. 2022, section 2.

    Attributes:
        standard: R_stand, the clean image is misclassified.
        robust: R_rob, an attack changes the model's prediction.
        adversarial: R_adv, the image is misclassified before or after an attack.
    """

    standard: np.ndarray
    robust: np.ndarray
    adversarial: np.ndarray


class Robustness(NamedTuple):
    """Results of an evaluation.

    Attributes:
        labels: True classes, int32 [n].
        clean_classes: Predicted classes of the clean images, int32 [n].
        outcomes: Outcome of each attack, by name.
        warnings: Reasons to distrust the results, one line each.
        precision: "bfloat16" if candidates were queried in bfloat16 first, else "float32".
    """

    labels: np.ndarray
    clean_classes: np.ndarray
    outcomes: Mapping[str, AttackOutcome]
    warnings: tuple[str, ...] = ()
    precision: str = "float32"

    @property
    def correct(self) -> np.ndarray:
        """Whether each clean image is correctly classified, bool [n]."""
        return self.clean_classes == self.labels

    def surviving(self, name: str) -> np.ndarray:
        """Whether each image is correctly classified before and after an attack, bool [n]."""
        return self.correct & (self.outcomes[name].classes == self.labels)

    def surviving_members(self, name: str) -> dict[str, np.ndarray]:
        """Whether each image survives the members of AutoAttack up to each of them.

        Returns:
            bool [n] by the name of the member, in their order; empty for other attacks.
        """
        outcome = self.outcomes[name]
        if outcome.members is None or not isinstance(outcome.attack, AutoAttack):
            return {}
        found, survived = outcome.members, self.surviving(name)
        return {
            member.name: survived | (self.correct & (found > number))
            for number, member in enumerate(outcome.attack.members)
        }

    def worst_case(self) -> np.ndarray:
        """Whether each image is correctly classified before and after all attacks, bool [n]."""
        return np.logical_and.reduce([self.correct, *map(self.surviving, self.outcomes)])

    def risks(self) -> Risks:
        """Risks of each image under all attacks together, float64 [n] each."""
        attacked = [outcome.classes for outcome in self.outcomes.values()]
        changed = [classes != self.clean_classes for classes in attacked]
        wrong = [classes != self.labels for classes in attacked]
        standard, none = ~self.correct, np.zeros(len(self.labels), bool)
        return Risks(
            standard=standard.astype(np.float64),
            robust=np.logical_or.reduce([none, *changed]).astype(np.float64),
            adversarial=np.logical_or.reduce([standard, *wrong]).astype(np.float64),
        )

    def report(self) -> dict[str, Any]:
        """`clean`, `attacks`, `worst_case`, `risks`, `precision` and `warnings` of report.json."""
        risks = self.risks()
        content: dict[str, Any] = {"warnings": list(self.warnings)} if self.warnings else {}
        return content | {
            "clean": proportion(self.correct),
            "attacks": [self._report_attack(name) for name in self.outcomes],
            "worst_case": {**proportion(self.worst_case()), "attacks": list(self.outcomes)},
            "risks": {name: float(np.mean(getattr(risks, name))) for name in risks._fields},
            "precision": self.precision,
        }

    def _report_attack(self, name: str) -> dict[str, Any]:
        outcome = self.outcomes[name]
        attack = outcome.attack
        entry = {
            "name": name,
            "norm": attack.norm,
            "epsilon": attack.radius,
            "settings": {k: v for k, v in settings_of(attack).items() if k != "name"},
            **proportion(self.surviving(name)),
            "seconds": round(outcome.seconds, 2),
        }
        members = self.surviving_members(name).items()
        if members:
            entry["members"] = [{"name": key, **proportion(left)} for key, left in members]
        if outcome.targets is not None:
            entry["target_reached"] = float(np.mean(outcome.classes == outcome.targets))
        if outcome.distances is not None and isinstance(attack, MinimalNormAttack):
            entry["distance"] = distance_summary(attack, outcome.distances, self.correct)
        return entry


def distance_summary(
    attack: MinimalNormAttack, distances: np.ndarray, correct: np.ndarray
) -> dict[str, Any]:
    """Summarize the distances of correctly classified images, and the accuracy at each radius.

    Args:
        attack: A minimal-norm attack, whose `epsilon` and `epsilons` are the radii.
        distances: Norm of each perturbation, float64 [n]; infinite if none was found.
        correct: Whether each clean image is correctly classified, bool [n].

    Returns:
        `{"norm", "mean", "median", "found", "accuracy_at": [{"epsilon", "accuracy", …}]}`. The
        mean is over successes, the median over all images (null if it is infinite).
    """
    of_correct = distances[correct]
    found = of_correct[np.isfinite(of_correct)]
    median = float(np.median(of_correct)) if len(of_correct) else np.inf
    radii = sorted({attack.epsilon, *attack.epsilons})
    return {
        "norm": attack.ball.name,
        "mean": float(np.mean(found)) if len(found) else None,
        "median": median if np.isfinite(median) else None,
        "found": len(found),
        "accuracy_at": [
            {"epsilon": radius, **proportion(correct & ~(distances <= radius))} for radius in radii
        ],
    }
