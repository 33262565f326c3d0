"""Color perturbations: hue, saturation, towards gray, contrast and brightness."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import Passes, PerExampleLoss, Perturbed, repeat, share_of
from keras_srt.neighborhoods.draws import Seed, fold
from keras_srt.neighborhoods.search import CandidateSearch, Worst, keep_worse

# RGB to YIQ (FCC 1953, as in tf.image.rgb_to_yiq); its first row is the luma of ITU-R BT.601.
_YIQ = (
    (0.299, 0.587, 0.114),
    (0.59590059, -0.27455667, -0.32134392),
    (0.21153661, -0.52273617, 0.31119955),
)
_NUM_PARAMETERS = 5
_GRAY = 2  # which of them it is; the only one with no negative side
_COLORFUL = np.float32([1, 1, 1, 0, 0])  # hue, saturation and gray need colors


@component
class Color(CandidateSearch):
    """T(x;θ): hue turned, saturation scaled, mixed with gray, then contrast and brightness.

    With luma Y = 0.299 R + 0.587 G + 0.114 B, its mean m over the image, and the operations
    in this order,

        hue φ           x ← Y + turn of x - Y by φ in the plane of YIQ's I and Q
        saturation s    x ← Y + (1+s)·(x - Y)
        gray g          x ← (1-g)·x + g·Y
        contrast c      x ← m + (1+c)·(x - m)
        brightness b    x ← clip(x + b, 0, 1)

    Only the last clips. The turn is linear in x and keeps Y, so that there are gradients
    everywhere, at gray too, where the hue of HSV has none; positive angles go from red to
    green. Images with other than 3 channels have no color: there φ, s and g stay 0 and Y is
    the mean of the channels. A range of 0 switches an operation off.

    Args:
        max_hue: degrees, |φ|; 180 is every hue.
        max_saturation: |s|; 1 goes from gray to twice the saturation.
        max_gray: g, from 0; 1 goes all the way to gray.
        max_contrast: |c|; 1 goes from a uniform image to twice the contrast.
        max_brightness: |b|, in units of pixel values in [0, 1].
        search: "gradient", projected gradient ascent on θ, each step by its sign; or
            "random", the worst of draws. Either keeps the worst θ that it met, the image
            itself among them, so that the loss never falls.
        num_steps: gradient steps k.
        step_size: of a step, as a share of each range; by default 2.5/k.
        random_start: whether the ascent starts at a random θ, not at 0.
        num_samples: draws for each image.

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

    @property
    def num_candidates(self) -> int:
        """How many draws are tried for each image."""
        return self.num_samples if self.search == "random" else 0

    def bounds(
        self, images: tf.Tensor, scale: float | tf.Tensor = 1.0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The smallest and the largest θ for such images: float32 [5] each."""
        limits = self.limits if images.shape[-1] == 3 else self.limits * (1 - _COLORFUL)
        high = tf.constant(limits) * scale
        return -high * tf.constant(np.float32(np.arange(_NUM_PARAMETERS) != _GRAY)), high

    def random_points(
        self, images: tf.Tensor, seed: Seed, scale: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        """One uniform draw for each image: float32 [batch, 5]."""
        low, high = self.bounds(images, scale)
        unit = draws.uniform([tf.shape(images)[0], _NUM_PARAMETERS], seed)
        return low + unit * (high - low)

    def candidates(
        self, images: tf.Tensor, seed: Seed, scale: float | tf.Tensor
    ) -> Callable[[int | tf.Tensor], tf.Tensor]:
        """Random draws; see `CandidateSearch.candidates`."""
        return lambda index: self.random_points(images, fold(seed, index), scale)

    @property
    def step_share(self) -> float:
        """The length of a gradient step, as a share of each range."""
        return 2.5 / self.num_steps if self.step_size is None else self.step_size

    def ascend(
        self,
        images: tf.Tensor,
        parameters: tf.Tensor,
        gradient: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> tf.Tensor:
        """One step of projected gradient ascent on θ: float32 [batch, 5]."""
        low, high = self.bounds(images, scale)
        return tf.clip_by_value(parameters + self.step_share * high * tf.sign(gradient), low, high)

    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: float | tf.Tensor = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        """Gradient ascent on θ, or draws; see `Neighborhood.maximize`."""
        if self.search == "random":
            return super().maximize(images, loss_fn, seed, scale, start_loss)
        images = tf.convert_to_tensor(images)

        def step(_: int | tf.Tensor, state: tuple[tf.Tensor, Worst]) -> tuple[tf.Tensor, Worst]:
            now, worst = state
            # Without watch_accessed_variables=False every step would track the weights.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(now)
                loss = loss_fn(self.apply(images, now))
            gradient = tape.gradient(loss, now)
            return self.ascend(images, now, gradient, scale), keep_worse(now, loss, worst)

        untouched = self.unchanged(images)
        start = self.random_points(images, seed, scale) if self.random_start else untouched
        worst = (untouched, loss_fn(images) if start_loss is None else start_loss)
        last, worst = repeat(self.num_steps, step, (start, worst))
        parameters, loss = keep_worse(last, loss_fn(self.apply(images, last)), worst)
        return Perturbed(self.apply(images, parameters), parameters, loss)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """T(x;θ); θ is float32 [batch, 5]: φ in degrees, s, g, c, b.

        Every operation is written as a change that is added: at θ = 0 all are exactly 0.
        """
        parameters = tf.reshape(parameters, [-1, _NUM_PARAMETERS, 1, 1, 1])
        hue, saturation, gray, contrast, brightness = tf.unstack(parameters, axis=1)
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
        # The operations on colors leave the luma as it is.
        mean = tf.reduce_mean(luma, axis=[1, 2], keepdims=True)
        return tf.clip_by_value(moved + contrast * (moved - mean) + brightness, 0.0, 1.0)

    def unchanged(self, images: tf.Tensor) -> tf.Tensor:
        """θ = 0: float32 [batch, 5]."""
        return tf.zeros([tf.shape(images)[0], _NUM_PARAMETERS])

    def contains(self, parameters: tf.Tensor, scale: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Whether each parameter keeps to its range: bool [batch]."""
        allowed = self.limits * scale + 1e-6 * (1.0 + self.limits)
        inside = tf.reduce_all(tf.abs(parameters) <= allowed, axis=1)
        return inside & (parameters[:, _GRAY] >= 0.0)

    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        """The largest of the parameters, each by its limit: float64 [batch]."""
        size = np.abs(np.asarray(parameters, np.float64))
        size[parameters[:, _GRAY] < 0, _GRAY] = np.inf
        return share_of(size, self.limits).max(axis=1)

    @property
    def rounds(self) -> int:
        """The gradient steps or the random draws."""
        return self.num_steps if self.search == "gradient" else super().rounds

    def with_max_steps(self, rounds: int) -> Color:
        """Fewer draws, or fewer gradient steps that lead as far; see `LpBall.with_max_steps`."""
        if self.search == "random":
            return super().with_max_steps(rounds)
        steps = min(self.num_steps, rounds)
        step = self.step_share
        as_far = min(step * self.num_steps / steps, 1.25)
        return dataclasses.replace(self, num_steps=steps, step_size=max(step, as_far))

    @property
    def passes(self) -> Passes:
        """k gradient passes and a forward pass at the end, or a forward pass a draw."""
        if self.search == "random":
            return super().passes
        return Passes(forward=1, gradient=self.num_steps)

    @property
    def range(self) -> str:
        """The limit of each parameter."""
        return (
            f"|hue| <= {self.max_hue:g} degrees, |saturation| <= {self.max_saturation:g}, "
            f"0 <= gray <= {self.max_gray:g}, |contrast| <= {self.max_contrast:g}, "
            f"|brightness| <= {self.max_brightness:g}"
        )


def _quarter_turn() -> np.ndarray:
    """Turns the chroma of RGB by 90° in the plane of I and Q, and drops the luma: [3, 3]."""
    to_yiq = np.array(_YIQ)
    turn = np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return np.float32(np.linalg.inv(to_yiq) @ turn @ to_yiq)
