"""Attacks for evaluation: a threat model each, and the strongest search we have in it."""

from collections.abc import Mapping
from typing import Any

from keras_srt.attacks.base import Attack, Found
from keras_srt.attacks.composite import GridAdvPlus, PGDPlus
from keras_srt.attacks.goal import Goal, make_goal
from keras_srt.attacks.gradient import FGSM, PGD
from keras_srt.attacks.nearest import MinimalNormAttack
from keras_srt.attacks.spatial import GridAdv, GridAdvR, GridAdvT, RandAdv, RandAdvR, RandAdvT
from keras_srt.attacks.victim import Answers, QueryVictim, Victim
from keras_srt.components import Registry


class _AttackRegistry(Registry[Attack]):
    """Takes `pgd@0.1` for the attack `pgd` with `epsilon` 0.1."""

    def build(self, settings: Mapping[str, Any]) -> Attack:
        given = settings.get("name") if isinstance(settings, Mapping) else None
        if isinstance(given, str) and "@" in given:
            name, _, epsilon = given.partition("@")
            try:
                strength: float | str = float(epsilon)
            except ValueError:  # a fraction, or an error that names what was given
                strength = epsilon
            settings = {"epsilon": strength, **settings, "name": name}
        return super().build(settings)


ATTACKS: Registry[Attack] = _AttackRegistry(
    "attack",
    FGSM,
    PGD,
    RandAdv,
    RandAdvR,
    RandAdvT,
    GridAdv,
    GridAdvR,
    GridAdvT,
    PGDPlus,
    GridAdvPlus,
)

__all__ = [
    "ATTACKS",
    "FGSM",
    "PGD",
    "Answers",
    "Attack",
    "Found",
    "Goal",
    "GridAdv",
    "GridAdvPlus",
    "GridAdvR",
    "GridAdvT",
    "MinimalNormAttack",
    "PGDPlus",
    "QueryVictim",
    "RandAdv",
    "RandAdvR",
    "RandAdvT",
    "Victim",
    "make_goal",
]
