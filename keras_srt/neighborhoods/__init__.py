"""Perturbed neighborhoods (the sets of a threat model) and solvers that search them."""

from keras_srt.neighborhoods.base import Neighborhood
from keras_srt.neighborhoods.color import Color
from keras_srt.neighborhoods.composite import Composite
from keras_srt.neighborhoods.damage import Damage
from keras_srt.neighborhoods.lp import L2, LInf, LpBall
from keras_srt.neighborhoods.noise import Noise
from keras_srt.neighborhoods.pixel_dropout import PixelDropout
from keras_srt.neighborhoods.registry import NEIGHBORHOODS
from keras_srt.neighborhoods.solver import Passes, PerExampleLoss, Perturbed, Solver
from keras_srt.neighborhoods.sparse import L0
from keras_srt.neighborhoods.spatial import Spatial

__all__ = [
    "L0",
    "L2",
    "NEIGHBORHOODS",
    "Color",
    "Composite",
    "Damage",
    "LInf",
    "LpBall",
    "Neighborhood",
    "Noise",
    "Passes",
    "PerExampleLoss",
    "Perturbed",
    "PixelDropout",
    "Solver",
    "Spatial",
]
