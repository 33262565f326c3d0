"""Noise attack: the worst of random draws, with queries only."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.running_worst_case import RunningWorstCase
from keras_srt.attacks.target_model import QueryModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Noise
from keras_srt.neighborhoods.draws import fold


@component
class NoiseAttack(Attack):
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
    needs_gradients: ClassVar[bool] = False

    epsilon: Annotated[float, validation.real(0, 1)] | None = field(default=None, kw_only=False)
    sigma: Annotated[float, validation.real(0, 1)] | None = None
    num_samples: Annotated[int, validation.whole(1)] = 10

    def __post_init__(self) -> None:
        self.neighborhood  # noqa: B018  refuses settings that make no noise

    @property
    @override
    def neighborhood(self) -> Noise:
        return Noise(epsilon=self.epsilon, sigma=self.sigma, num_samples=self.num_samples)

    @override
    def search(
        self, model: QueryModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        space, originals = self.neighborhood, tf.constant(images)
        unchanged = space.identity(originals).numpy()
        worst = RunningWorstCase(model.predictions(images, criterion), criterion, unchanged)
        for number in range(self.num_samples):
            active = worst.active
            # Drawn for all images, so that a draw doesn't depend on which images are active.
            tried = space.sample(originals, fold(seed, number)).numpy()[active]
            noisy = space.apply(images[active], tried).numpy()
            worst.add(active, (tried,), model.predictions(noisy, criterion[active]))
        (noise,) = worst.parameters
        return AttackResult(space.apply(originals, noise).numpy(), noise, worst.success)
