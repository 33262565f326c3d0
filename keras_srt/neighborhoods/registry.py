"""The neighborhoods that a config can name."""

from keras_srt.core.registry import Registry
from keras_srt.neighborhoods.base import Neighborhood
from keras_srt.neighborhoods.color import Color
from keras_srt.neighborhoods.composite import Composite
from keras_srt.neighborhoods.damage import Damage
from keras_srt.neighborhoods.lp import L2, LInf
from keras_srt.neighborhoods.noise import Noise
from keras_srt.neighborhoods.pixel_dropout import PixelDropout
from keras_srt.neighborhoods.sparse import L0
from keras_srt.neighborhoods.spatial import Spatial

NEIGHBORHOODS: Registry[Neighborhood] = Registry(
    "neighborhood",
    LInf,
    L2,
    L0,
    Spatial,
    Color,
    Noise,
    PixelDropout,
    Damage,
    Composite,
)
