"""Training objectives: which loss, on which images."""

from keras_srt.components import Registry
from keras_srt.objectives.base import Batch, LossTerm, Objective, StepPasses
from keras_srt.objectives.losses import Target
from keras_srt.objectives.srt import RT, SRT
from keras_srt.objectives.supervised import Adversarial, Standard

OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    Standard,
    Adversarial,
    RT,
    SRT,
)

__all__ = [
    "OBJECTIVES",
    "RT",
    "SRT",
    "Adversarial",
    "Batch",
    "LossTerm",
    "Objective",
    "Standard",
    "StepPasses",
    "Target",
]
