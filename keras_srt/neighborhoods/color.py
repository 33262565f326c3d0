"""Color perturbations: hue, saturation, mixing with gray, contrast and brightness."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic
from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import Neighborhood, fraction_of_bound
from keras_srt.neighborhoods.candidate_search import RandomSearch
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.gradient_ascent import ParameterAscent
from keras_srt.neighborhoods.solver import Scale

# RGB to YIQ (FCC 1953, as in tf.image.rgb_to_yiq); its first row is the luma of ITU-R BT.601.
_YIQ = (
    (0.299, 0.587, 0.114),
    (0.59590059, -0.27455667, -0.32134392),
    (0.21153661, -0.52273617, 0.31119955),
)
_NUM_PARAMETERS = 5
_GRAY = 2  # index of the gray parameter, the only one that is never negative
_COLORFUL = np.float32([1, 1, 1, 0, 0])  # parameters that need three color channels


@component
class Color(Neighborhood):
    """T(x;θ): hue rotation, saturation, mixing with gray, contrast and brightness, in this order.

    With luma Y = 0.299 R + 0.587 G + 0.114 B and its mean m over the image:

        hue φ           x ← Y + rotation of x - Y by φ in the plane of YIQ's I and Q
        saturation s    x ← Y + (1+s)·(x - Y)
        gray g          x ← (1-g)·x + g·Y
        contrast c      x ← m + (1+c)·(x - m)
        brightness b    x ← clip(x + b, 0, 1)

    Only the last operation clips. The hue rotation is linear in x and keeps Y, so gradients
    exist everywhere, also at gray, where the hue of HSV has none; positive angles go from red
    to green. Images without 3 channels have no color: φ, s and g are 0 and Y is the mean of
    the channels. A range of 0 disables an operation.

    With `per` "pixel" each pixel has its own θ (patent CN111401445A, [0097]: color
    transformations of single pixels or of the whole image); m stays the image's mean.

    Args:
        max_hue: Largest |φ| in degrees; 180 covers every hue.
        max_saturation: Largest |s|; 1 covers gray to twice the saturation.
        max_gray: Largest g, which starts at 0; 1 includes full gray.
        max_contrast: Largest |c|; 1 covers a uniform image to twice the contrast.
        max_brightness: Largest |b|, in units of pixel values in [0, 1].
        per: "image" for one θ for each image, or "pixel" for one θ for each pixel.
        search: "gradient" for projected sign-gradient ascent on θ, or "random" for the worst
            of random draws. Both keep the worst θ that they evaluated, including θ = 0, so
            the loss never decreases.
        num_steps: Gradient steps k.
        step_size: Length of a step, as a fraction of each range; by default 2.5/k.
        random_start: Whether the ascent starts at a random θ instead of θ = 0.
        num_samples: Random draws for each image.

    Example:
        >>> import tensorflow as tf
        >>> red, gray = tf.reshape([1.0, 0.0, 0.0], [1, 1, 1, 3]), tf.constant([[0, 0, 1.0, 0, 0]])
        >>> Color(max_gray=1).apply(red, gray).numpy().ravel().round(3)
        array([0.299, 0.299, 0.299], dtype=float32)
    """

    name: ClassVar[str] = "color"
    kind: ClassVar[str] = "color"

    max_hue: Annotated[float, validation.real(0, 180)] = 30.0
    max_saturation: Annotated[float, validation.real(0, 1)] = 0.3
    max_gray: Annotated[float, validation.real(0, 1)] = 0.3
    max_contrast: Annotated[float, validation.real(0, 1)] = 0.3
    max_brightness: Annotated[float, validation.real(0, 1)] = 0.1
    per: Literal["image", "pixel"] = "image"
    search: Literal["gradient", "random"] = "gradient"
    num_steps: Annotated[int, validation.whole(1)] = 10
    step_size: Annotated[float, validation.real(0)] | None = None
    random_start: pydantic.StrictBool = True
    num_samples: Annotated[int, validation.whole(1)] = 10

    @property
    def limits(self) -> np.ndarray:
        """The largest φ (degrees), s, g, c and b, in this order: float32 [5]."""
        return np.float32(
            [
                self.max_hue,
                self.max_saturation,
                self.max_gray,
                self.max_contrast,
                self.max_brightness,
            ]
        )

    def bounds(self, images: tf.Tensor, scale: Scale = 1.0) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the smallest and the largest θ for images of this shape: float32 [5] each."""
        limits = self.limits if images.shape[-1] == 3 else self.limits * (1 - _COLORFUL)
        high = tf.constant(limits) * scale
        return -high * tf.constant(np.float32(np.arange(_NUM_PARAMETERS) != _GRAY)), high

    @override
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tf.Tensor:
        """Draw a uniform θ: float32 [batch, 5], or [batch, height, width, 5] for each pixel."""
        low, high = self.bounds(images, scale)
        unit = draws.uniform(self._shape(images), seed)
        return low + unit * (high - low)

    def project(self, images: tf.Tensor, parameters: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        """Clip each parameter of θ to its range; θ has the shape of `sample`'s."""
        return tf.clip_by_value(parameters, *self.bounds(images, scale))

    @property
    def ascent(self) -> ParameterAscent:
        """The solver for `search` "gradient"."""
        step = 2.5 / self.num_steps if self.step_size is None else self.step_size
        return ParameterAscent(self, self.num_steps, step, self.random_start)

    @property
    @override
    def solver(self) -> ParameterAscent | RandomSearch:
        return RandomSearch(self, self.num_samples) if self.search == "random" else self.ascent

    @override
    def with_max_steps(self, max_steps: int) -> Color:
        """Return the set with fewer draws, or fewer and longer steps as in `LpBall`."""
        if self.search == "random":
            return dataclasses.replace(self, num_samples=min(self.num_samples, max_steps))
        steps, length = min(self.num_steps, max_steps), self.ascent.step_size
        same_distance = min(length * self.num_steps / steps, 1.25)
        return dataclasses.replace(self, num_steps=steps, step_size=max(length, same_distance))

    @override
    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Compute T(x;θ); the last axis of θ is φ in degrees, s, g, c, b; see `sample`."""
        # Each operation adds a change that is exactly 0 at θ = 0.
        if self.per == "image":
            parameters = tf.reshape(parameters, [-1, 1, 1, _NUM_PARAMETERS])
        hue, saturation, gray, contrast, brightness = (
            part[..., None] for part in tf.unstack(parameters, num=_NUM_PARAMETERS, axis=-1)
        )
        images = tf.convert_to_tensor(images)
        moved = images
        if images.shape[-1] == 3:
            luma = tf.reduce_sum(images * _YIQ[0], axis=-1, keepdims=True)
            angle, amount = hue * (math.pi / 180.0), (1.0 + saturation) * (1.0 - gray)
            across = tf.tensordot(images, tf.constant(_quarter_turn()), [[3], [1]])
            moved += (amount * tf.cos(angle) - 1.0) * (images - luma)
            moved += amount * tf.sin(angle) * across
        else:
            luma = tf.reduce_mean(images, axis=-1, keepdims=True)
        # The operations on colors don't change the luma.
        mean = tf.reduce_mean(luma, axis=[1, 2], keepdims=True)
        return tf.clip_by_value(moved + contrast * (moved - mean) + brightness, 0.0, 1.0)

    @override
    def identity(self, images: tf.Tensor) -> tf.Tensor:
        return tf.zeros(self._shape(images))

    def _shape(self, images: tf.Tensor) -> tf.Tensor:
        """The shape of θ."""
        rank = 1 if self.per == "image" else 3
        return tf.concat([tf.shape(images)[:rank], [_NUM_PARAMETERS]], axis=0)

    @override
    def contains(self, parameters: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        allowed = self.limits * scale + 1e-6 * (1.0 + self.limits)
        inside = tf.reduce_all(tf.abs(parameters) <= allowed, axis=-1)
        inside &= parameters[..., _GRAY] >= 0.0
        return inside if self.per == "image" else tf.reduce_all(inside, axis=[1, 2])

    @override
    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        """Return the maximum of the parameters, each divided by its limit: float64 [batch]."""
        size = np.abs(np.asarray(parameters, np.float64))
        size[parameters[..., _GRAY] < 0, _GRAY] = np.inf
        largest = fraction_of_bound(size, self.limits).max(axis=-1)
        return largest if self.per == "image" else largest.max(axis=(1, 2))

    @property
    @override
    def range(self) -> str:
        each = "" if self.per == "image" else "for each pixel: "
        return (
            f"{each}|hue| <= {self.max_hue:g} degrees, |saturation| <= {self.max_saturation:g}, "
            f"0 <= gray <= {self.max_gray:g}, |contrast| <= {self.max_contrast:g}, "
            f"|brightness| <= {self.max_brightness:g}"
        )


def _quarter_turn() -> np.ndarray:
    """Return the [3, 3] matrix that rotates RGB chroma by 90° in the I-Q plane, without luma."""
    to_yiq = np.array(_YIQ)
    turn = np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return np.float32(np.linalg.inv(to_yiq) @ turn @ to_yiq)
