"""Noise attack: the worst of random draws, with queries only."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

from typing_extensions import override

from keras_srt.attacks.random_draws import RandomDrawAttack
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.neighborhoods import Noise


@component
class NoiseAttack(RandomDrawAttack):
    """Add random noise; the worst of `num_samples` draws for each image.

    An image drops out when it is adversarial.

    Args:
        epsilon, sigma: See the neighborhood `noise`.
        num_samples: Number of random draws.

    Example:
        >>> NoiseAttack(sigma=0.1).needs_gradients
        False
    """

    name: ClassVar[str] = "noise"

    epsilon: Annotated[float, validation.real(0, 1)] | None = field(default=None, kw_only=False)
    sigma: Annotated[float, validation.real(0, 1)] | None = None
    num_samples: Annotated[int, validation.whole(1)] = 10

    def __post_init__(self) -> None:
        self.neighborhood  # noqa: B018  refuses settings that make no noise

    @property
    @override
    def neighborhood(self) -> Noise:
        return Noise(epsilon=self.epsilon, sigma=self.sigma, num_samples=self.num_samples)
