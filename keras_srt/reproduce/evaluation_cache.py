"""Evaluations of a trained model, cached in its run folder: one file per attack.

A minimal-norm attack searches the nearest adversarial image whatever its radius is, so it runs
once: its file keeps the distances, from which the outcome at any radius is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.attacks import ATTACKS, Attack, MinimalNormAttack
from keras_srt.core.files import write_json
from keras_srt.core.registry import settings_of
from keras_srt.evaluation.intervals import proportion
from keras_srt.evaluation.robustness import Robustness, distance_summary
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.reproduce.store import digest

_FOLDER = "evaluations"
_SHOWN_DIGITS = 10
# FAB is missing: it stops at its radius.
_ANY_RADIUS = ("cw", "ddn", "jsma", "pointwise")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of one attack on the first test images.

    Args:
        attack: The settings with the name, or None for the clean images.
        limit: Requested number of test images; None for all.
        seed: The seed of the attack.
        right: bool [n], correctly classified before the attack.
        still_right: bool [n], correctly classified before and after the attack.
        seconds: Duration of the attack.
        entry: The entry of report.json for this attack.
        distances: For an attack of any radius, the norm of the smallest adversarial perturbation
            of each image, float64 [n]: infinite for failures. Otherwise None.
    """

    attack: dict[str, Any] | None
    limit: int | None
    seed: int
    right: np.ndarray
    still_right: np.ndarray
    seconds: float
    entry: dict[str, Any]
    distances: np.ndarray | None = None

    @classmethod
    def of(
        cls, robustness: Robustness, attack: Attack | None, limit: int | None, seed: int
    ) -> Outcome:
        """Take the outcome from an evaluation with one attack or none."""
        report = robustness.report()
        if attack is None:
            return cls(
                None, limit, seed, robustness.correct, robustness.correct, 0.0, report["clean"]
            )
        ((name, verdict),) = robustness.outcomes.items()
        still = robustness.surviving(name)
        (entry,) = report["attacks"]
        settings = settings_of(attack)
        distances = verdict.distances if settings["name"] in _ANY_RADIUS else None
        return cls(
            settings, limit, seed, robustness.correct, still, verdict.seconds, entry, distances
        )

    def within(self, attack: MinimalNormAttack) -> Outcome:
        """Return the outcome at the radius of an attack whose search is the same."""
        if self.distances is None:
            raise RuntimeError(f"{self.attack}: the evaluation has no distances")
        still = self.right & ~(self.distances <= attack.epsilon)
        settings = settings_of(attack)
        entry = self.entry | proportion(still)
        entry |= {
            "epsilon": attack.radius,
            "settings": {key: value for key, value in settings.items() if key != "name"},
            "distance": distance_summary(attack, self.distances, self.right),
        }
        return dataclasses.replace(self, attack=settings, still_right=still, entry=entry)


def worst_case(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Compute which images are correctly classified under every attack.

    Args:
        outcomes: At least one, each for the first test images.

    Returns:
        bool [smallest n].
    """
    count = min(len(outcome.right) for outcome in outcomes)
    still = [outcome.still_right[:count] for outcome in outcomes]
    return np.logical_and.reduce(still)


class Evaluations:
    """The cached evaluations of a run's best weights; those of other weights are ignored.

    Args:
        run: The folder of a finished run.
    """

    def __init__(self, run: RunFolder) -> None:
        self._folder = run.path / _FOLDER
        self._weights = hashlib.sha256(run.best_weights.read_bytes()).hexdigest()
        self._outcomes: dict[str, Outcome] = {}
        for path in sorted(self._folder.glob("*.json")):
            outcome = self._read(path)
            if outcome is not None:
                self._outcomes[_key(outcome.attack, outcome.limit, outcome.seed)] = outcome

    def find(self, attack: Attack | None, limit: int | None, seed: int) -> Outcome | None:
        """Return the evaluation with these settings, or None if there is none."""
        settings = None if attack is None else settings_of(attack)
        found = self._outcomes.get(_key(settings, limit, seed))
        if found is None or found.distances is None or not isinstance(attack, MinimalNormAttack):
            return found
        return found.within(attack)

    def add(self, outcome: Outcome) -> None:
        """Store an evaluation in memory and on disk."""
        key = _key(outcome.attack, outcome.limit, outcome.seed)
        self._outcomes[key] = outcome
        self._folder.mkdir(exist_ok=True)
        name = "clean" if outcome.attack is None else outcome.attack["name"]
        content = {"schema": 1, "weights": self._weights, **dataclasses.asdict(outcome)}
        for column in ("right", "still_right"):
            content[column] = "".join("1" if value else "0" for value in content[column])
        if outcome.distances is not None:
            # JSON has no infinity.
            content["distances"] = [
                float(value) if np.isfinite(value) else None for value in outcome.distances
            ]
        write_json(self._folder / f"{name}-{key[:_SHOWN_DIGITS]}.json", content)

    def _read(self, path: Path) -> Outcome | None:
        """Read an evaluation; None if the weights or the file format are different."""
        try:
            content = json.loads(path.read_text())
            if content.pop("weights") != self._weights or content.pop("schema") != 1:
                return None
            if content["attack"] is not None:
                # Filled in with current defaults, like the fingerprint of a config.
                content["attack"] = settings_of(ATTACKS.build(content["attack"]))
            for column in ("right", "still_right"):
                content[column] = np.array([letter == "1" for letter in content[column]])
            if content.get("distances") is not None:
                content["distances"] = np.array(
                    [np.inf if value is None else value for value in content["distances"]]
                )
            elif content["attack"] is not None and content["attack"]["name"] in _ANY_RADIUS:
                return None
            return Outcome(**content)
        except (OSError, ValueError, KeyError, TypeError):
            # Written by another version, or incomplete: the attack is run again.
            return None


def same_search(one: Attack | None, other: Attack | None) -> bool:
    """Whether two attacks, or None for the clean images, share an evaluation."""
    settings = [None if attack is None else settings_of(attack) for attack in (one, other)]
    return len({_key(found, None, 0) for found in settings}) == 1


def _key(attack: dict[str, Any] | None, limit: int | None, seed: int) -> str:
    if attack is not None and attack["name"] in _ANY_RADIUS:
        attack = {key: value for key, value in attack.items() if key not in ("epsilon", "epsilons")}
    return digest({"attack": attack, "limit": limit, "seed": seed})
