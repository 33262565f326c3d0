"""Perturbed neighborhoods: what tampering can make of an image, and the worst of it."""

from keras_srt.components import Registry
from keras_srt.neighborhoods.base import Neighborhood, Passes, PerExampleLoss, Perturbed
from keras_srt.neighborhoods.composite import Composite
from keras_srt.neighborhoods.lp import L2, LInf
from keras_srt.neighborhoods.spatial import Spatial

NEIGHBORHOODS: Registry[Neighborhood] = Registry(
    "neighborhood",
    LInf,
    L2,
    Spatial,
    Composite,
)

__all__ = [
    "L2",
    "NEIGHBORHOODS",
    "Composite",
    "LInf",
    "Neighborhood",
    "Passes",
    "PerExampleLoss",
    "Perturbed",
    "Spatial",
]
