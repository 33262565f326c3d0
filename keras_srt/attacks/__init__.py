"""Attacks for evaluation, each with its threat model."""

from keras_srt.attacks.apgd import APGDCE, APGDDLR, APGDT
from keras_srt.attacks.autoattack import AutoAttack
from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.carlini_wagner import CarliniWagner
from keras_srt.attacks.color import ColorAttack
from keras_srt.attacks.composite import CompositeAttack, GridAdvPlus, PGDPlus
from keras_srt.attacks.criterion import Criterion, make_criterion
from keras_srt.attacks.damage import DamageAttack
from keras_srt.attacks.ddn import DDN
from keras_srt.attacks.fab import FABT
from keras_srt.attacks.gradient import FGSM, MIFGSM, PGD
from keras_srt.attacks.jsma import JSMA
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.noise import NoiseAttack
from keras_srt.attacks.pixel_dropout import PixelDropoutAttack
from keras_srt.attacks.pointwise import Pointwise
from keras_srt.attacks.registry import ATTACKS
from keras_srt.attacks.spatial import GridAdv, GridAdvR, GridAdvT, RandAdv, RandAdvR, RandAdvT
from keras_srt.attacks.square import Square
from keras_srt.attacks.target_model import Predictions, QueryModel, TargetModel

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
    "Attack",
    "AttackResult",
    "AutoAttack",
    "CarliniWagner",
    "ColorAttack",
    "CompositeAttack",
    "Criterion",
    "DamageAttack",
    "GridAdv",
    "GridAdvPlus",
    "GridAdvR",
    "GridAdvT",
    "MinimalNormAttack",
    "NoiseAttack",
    "PGDPlus",
    "PixelDropoutAttack",
    "Pointwise",
    "Predictions",
    "QueryModel",
    "RandAdv",
    "RandAdvR",
    "RandAdvT",
    "Square",
    "TargetModel",
    "make_criterion",
]
