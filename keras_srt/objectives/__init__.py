"""Training objectives: standard, adversarial and (semi-supervised) robust training losses."""

from keras_srt.objectives.base import Batch, LossTerm, Objective, StepPasses
from keras_srt.objectives.losses import Target
from keras_srt.objectives.noisy_student import NoisyStudent
from keras_srt.objectives.registry import OBJECTIVES
from keras_srt.objectives.self_training import RST, UAT
from keras_srt.objectives.srt import RT, SRT
from keras_srt.objectives.supervised import Adversarial, Standard
from keras_srt.objectives.trades import Trades
from keras_srt.objectives.worst_of_k import KLR, WorstOfK

__all__ = [
    "KLR",
    "OBJECTIVES",
    "RST",
    "RT",
    "SRT",
    "UAT",
    "Adversarial",
    "Batch",
    "LossTerm",
    "NoisyStudent",
    "Objective",
    "Standard",
    "StepPasses",
    "Target",
    "Trades",
    "WorstOfK",
]
