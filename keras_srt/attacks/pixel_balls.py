"""Pixel balls by the name of their norm, for the attacks' setting `norm_ball`."""

from __future__ import annotations

from keras_srt.neighborhoods import L2, LInf
from keras_srt.neighborhoods.lp import LpBall

BALLS: dict[str, type[LpBall]] = {"linf": LInf, "l2": L2}
