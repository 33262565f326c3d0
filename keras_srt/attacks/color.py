"""Color attack: random draws, then gradient ascent with restarts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

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
from keras_srt.neighborhoods import Color
from keras_srt.neighborhoods.draws import fold


@component
class ColorAttack(Attack):
    """Change the hue, saturation, gray, contrast and brightness of each image or pixel.

    `num_samples` random draws are followed by projected gradient ascent on the parameters, first
    from the worst draw and then from random points. An image drops out when it is adversarial.
    The cost is at most 1 + num_samples + restarts·(num_steps + 1) passes for each image.

    Source: The operations are those of the neighborhood `color`; the search is that of Madry
    et al. 2018, section 2.1, on θ.

    Args:
        max_hue, max_saturation, max_gray, max_contrast, max_brightness: See the neighborhood
            `color`.
        per: "image" or "pixel", see the neighborhood `color`.
        num_samples: Number of random draws.
        num_steps: Gradient steps of an ascent.
        step_size: Size of a step as a share of each range; by default 2.5/num_steps.
        restarts: Number of ascents.

    Example:
        >>> ColorAttack(max_hue=0, max_brightness=0.2).norm
        'color'
    """

    name: ClassVar[str] = "color"

    max_hue: Annotated[float, validation.real(0, 180)] = 30.0
    max_saturation: Annotated[float, validation.real(0, 1)] = 0.3
    max_gray: Annotated[float, validation.real(0, 1)] = 0.3
    max_contrast: Annotated[float, validation.real(0, 1)] = 0.3
    max_brightness: Annotated[float, validation.real(0, 1)] = 0.1
    per: Literal["image", "pixel"] = "image"
    num_samples: Annotated[int, validation.whole(0)] = 10
    num_steps: Annotated[int, validation.whole(1)] = 20
    step_size: Annotated[float, validation.real(0)] | None = None
    restarts: Annotated[int, validation.whole(1)] = 3

    @property
    @override
    def neighborhood(self) -> Color:
        return Color(
            max_hue=self.max_hue,
            max_saturation=self.max_saturation,
            max_gray=self.max_gray,
            max_contrast=self.max_contrast,
            max_brightness=self.max_brightness,
            per=self.per,
            num_steps=self.num_steps,
            step_size=self.step_size,
        )

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        space, originals = self.neighborhood, tf.constant(images)
        with model.progress.part(0.0, 0.1):
            worst = worst_of_draws(space, self.num_samples, model, images, criterion, seed)
        for restart in model.progress.each(range(self.restarts)):
            start = worst.parameters[0]
            if restart:
                start = space.sample(originals, fold(seed, self.num_samples + restart)).numpy()
            self._ascend(model, images, criterion, worst, start)
        (parameters,) = worst.parameters
        return AttackResult(space.apply(originals, parameters).numpy(), parameters, worst.success)

    def _ascend(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        worst: RunningWorstCase,
        start: np.ndarray,
    ) -> None:
        """Run one ascent for the active images, and add its points to `worst`."""
        space, active = self.neighborhood, worst.active
        points = start[active]
        for index in model.progress.each(range(self.num_steps)):
            originals, parameters = tf.constant(images[active]), tf.constant(points)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(parameters)
                transformed = space.apply(originals, parameters)
            predictions, gradient = model.gradient(transformed.numpy(), criterion[active])
            worst.add(active, (points,), predictions)
            slope = tape.gradient(transformed, parameters, output_gradients=tf.constant(gradient))
            surviving = ~worst.success[active]
            points = space.ascent.step(originals, parameters, slope, index).numpy()[surviving]
            active = active[surviving]
        transformed = space.apply(tf.constant(images[active]), points).numpy()
        worst.add(active, (points,), model.predictions(transformed, criterion[active]))
