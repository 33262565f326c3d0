"""What a published model is like in use: size, latency, and what it is still right about."""

from keras_srt.deployment.attacked import Attacked
from keras_srt.deployment.comparison import measure

__all__ = ["Attacked", "measure"]
