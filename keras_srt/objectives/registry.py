"""The training objectives that a config can name."""

from keras_srt.core.registry import Registry
from keras_srt.objectives.base import Objective
from keras_srt.objectives.noisy_student import NoisyStudent
from keras_srt.objectives.self_training import RST, UAT
from keras_srt.objectives.srt import RT, SRT
from keras_srt.objectives.supervised import Adversarial, Standard
from keras_srt.objectives.trades import Trades
from keras_srt.objectives.worst_of_k import KLR, WorstOfK

OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    Standard,
    Adversarial,
    Trades,
    UAT,
    RST,
    NoisyStudent,
    WorstOfK,
    KLR,
    RT,
    SRT,
)
