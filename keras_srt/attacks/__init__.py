"""Attacks for evaluation: a threat model each, and the strongest search we have in it."""

from collections.abc import Mapping
from typing import Any

from keras_srt.attacks.apgd import APGDCE, APGDDLR, APGDT
from keras_srt.attacks.autoattack import AutoAttack
from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.carlini_wagner import CarliniWagner
from keras_srt.attacks.color import ColorAttack
from keras_srt.attacks.composite import GridAdvPlus, PGDPlus
from keras_srt.attacks.criterion import Criterion, make_criterion
from keras_srt.attacks.ddn import DDN
from keras_srt.attacks.fab import FABT
from keras_srt.attacks.gradient import FGSM, MIFGSM, PGD
from keras_srt.attacks.jsma import JSMA
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.pointwise import Pointwise
from keras_srt.attacks.spatial import GridAdv, GridAdvR, GridAdvT, RandAdv, RandAdvR, RandAdvT
from keras_srt.attacks.square import Square
from keras_srt.attacks.target_model import Answers, QueryModel, TargetModel
from keras_srt.core.registry import Registry


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
    MIFGSM,
    CarliniWagner,
    DDN,
    JSMA,
    Pointwise,
    RandAdv,
    RandAdvR,
    RandAdvT,
    GridAdv,
    GridAdvR,
    GridAdvT,
    PGDPlus,
    GridAdvPlus,
    ColorAttack,
    APGDCE,
    APGDDLR,
    APGDT,
    FABT,
    Square,
    AutoAttack,
)

__all__ = [
    "APGDCE",
    "APGDDLR",
    "APGDT",
    "ATTACKS",
    "DDN",
    "FABT",
    "FGSM",
    "JSMA",
    "MIFGSM",
    "PGD",
    "Answers",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "CarliniWagner",
    "ColorAttack",
    "Criterion",
    "GridAdv",
    "GridAdvPlus",
    "GridAdvR",
    "GridAdvT",
    "MinimalNormAttack",
    "PGDPlus",
    "Pointwise",
    "QueryModel",
    "RandAdv",
    "RandAdvR",
    "RandAdvT",
    "Square",
    "TargetModel",
    "make_criterion",
]
