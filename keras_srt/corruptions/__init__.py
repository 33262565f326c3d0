"""Common corruptions of images: lost data, color changes, noise, blur, compression and warps."""

from keras_srt.corruptions.base import SEVERITIES, Corruption
from keras_srt.corruptions.registry import CORRUPTIONS, corruptions_for

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corruptions_for"]
