"""Registry of attacks by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from keras_srt.attacks.apgd import APGDCE, APGDDLR, APGDT
from keras_srt.attacks.autoattack import AutoAttack
from keras_srt.attacks.base import Attack
from keras_srt.attacks.carlini_wagner import CarliniWagner
from keras_srt.attacks.color import ColorAttack
from keras_srt.attacks.composite import CompositeAttack, GridAdvPlus, PGDPlus
from keras_srt.attacks.damage import DamageAttack
from keras_srt.attacks.ddn import DDN
from keras_srt.attacks.fab import FABT
from keras_srt.attacks.gradient import FGSM, MIFGSM, PGD
from keras_srt.attacks.jsma import JSMA
from keras_srt.attacks.noise import NoiseAttack
from keras_srt.attacks.pixel_dropout import PixelDropoutAttack
from keras_srt.attacks.pointwise import Pointwise
from keras_srt.attacks.spatial import GridAdv, GridAdvR, GridAdvT, RandAdv, RandAdvR, RandAdvT
from keras_srt.attacks.square import Square
from keras_srt.core.registry import Registry


class _AttackRegistry(Registry[Attack]):
    """Registry that accepts `pgd@0.1` for the attack `pgd` with `epsilon` 0.1."""

    @override
    def build(self, settings: Mapping[str, Any]) -> Attack:
        given = settings.get("name") if isinstance(settings, Mapping) else None
        if isinstance(given, str) and "@" in given:
            name, _, strength = given.partition("@")
            try:
                epsilon: float | str = float(strength)
            except ValueError:  # a fraction, or invalid: the error then quotes the text
                epsilon = strength
            settings = {"epsilon": epsilon, **settings, "name": name}
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
    CompositeAttack,
    PGDPlus,
    GridAdvPlus,
    ColorAttack,
    NoiseAttack,
    PixelDropoutAttack,
    DamageAttack,
    APGDCE,
    APGDDLR,
    APGDT,
    FABT,
    Square,
    AutoAttack,
)
