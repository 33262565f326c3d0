"""Pixel dropout: lose the pixels whose loss misleads the model most."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.random_draws import worst_of_draws
from keras_srt.attacks.running_worst_case import RunningWorstCase
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import PixelDropout


@component
class PixelDropoutAttack(Attack):
    """Set up to a share of an image's pixels to 0, in all channels.

    `num_samples` random draws are followed by the greedy search of the neighborhood
    `pixel_dropout`: in each of `num_steps` steps, the pixels with the largest first-order gain are
    lost. An image drops out when it is adversarial. The cost is at most
    2 + num_samples + num_steps passes for each image.

    Args:
        share: Largest share of lost pixels, from 0 to 1.
        num_samples: Number of random draws.
        num_steps: Gradient steps.

    Example:
        >>> PixelDropoutAttack(0.1).norm
        'pixel_dropout'
    """

    name: ClassVar[str] = "pixel_dropout"

    share: Annotated[FloatOrFraction, validation.real(0, 1)] = field(kw_only=False)
    num_samples: Annotated[int, validation.whole(0)] = 10
    num_steps: Annotated[int, validation.whole(1)] = 20

    @property
    @override
    def neighborhood(self) -> PixelDropout:
        return PixelDropout(share=self.share, search="gradient", num_steps=self.num_steps)

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        space = self.neighborhood
        with model.progress.part(0.0, 0.2):
            worst = worst_of_draws(space, self.num_samples, model, images, criterion, seed)
        with model.progress.part(0.2, 1.0):
            self._search_greedily(model, images, criterion, worst)
        (lost,) = worst.parameters
        return AttackResult(space.apply(tf.constant(images), lost).numpy(), lost, worst.success)

    def _search_greedily(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        worst: RunningWorstCase,
    ) -> None:
        """Search for the active images, and add each step to `worst`."""
        space, active = self.neighborhood, worst.active
        lost = space.identity(images[active]).numpy()
        for index in model.progress.each(range(self.num_steps)):
            originals = images[active]
            lossy = space.apply(originals, lost).numpy()
            predictions, gradient = model.gradient(lossy, criterion[active])
            worst.add(active, (lost,), predictions)
            surviving = ~worst.success[active]
            slope = -tf.reduce_sum(gradient * originals, axis=-1, keepdims=True)
            lost = space.greedy.step(originals, lost, slope, index).numpy()[surviving]
            active = active[surviving]
        lossy = space.apply(images[active], lost).numpy()
        worst.add(active, (lost,), model.predictions(lossy, criterion[active]))
