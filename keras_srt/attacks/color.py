"""Attack on the colors: the worst of random draws, then gradient ascent with restarts."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.running_worst_case import RunningWorstCase
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Color
from keras_srt.neighborhoods.draws import fold


@component
class ColorAttack(Attack):
    """Hue, saturation, gray, contrast and brightness, each image its own.

    First come `num_samples` random draws, then projected gradient ascent on the parameters:
    from the worst draw, and again from random points. An image drops out once it is fooled.
    It costs at most 1 + num_samples + restarts·(num_steps + 1) passes for each image.
    Source: the operations are those of the neighborhood `color`; the search is that of Madry
    et al. 2018, section 2.1, on θ.

    Args:
        max_hue, max_saturation, max_gray, max_contrast, max_brightness: see the neighborhood
            `color`.
        num_samples: random draws.
        num_steps: gradient steps of an ascent.
        step_size: of a step, as a share of each range; by default 2.5/num_steps.
        restarts: ascents.

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
    num_samples: Annotated[int, validation.whole(0)] = 10
    num_steps: Annotated[int, validation.whole(1)] = 20
    step_size: Annotated[float, validation.real(0)] | None = None
    restarts: Annotated[int, validation.whole(1)] = 3

    @property
    def neighborhood(self) -> Color:
        """The ranges of the parameters."""
        return Color(
            max_hue=self.max_hue,
            max_saturation=self.max_saturation,
            max_gray=self.max_gray,
            max_contrast=self.max_contrast,
            max_brightness=self.max_brightness,
            num_steps=self.num_steps,
            step_size=self.step_size,
        )

    def run(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`."""
        space, pictures = self.neighborhood, tf.constant(images)
        untouched = space.identity(pictures).numpy()
        worst = RunningWorstCase(model.answers(images, criterion), criterion, untouched)

        def drawn(number: int) -> np.ndarray:
            # For all images, so that a draw doesn't depend on who is fooled already.
            return space.sample(pictures, fold(seed, number)).numpy()

        for number in range(self.num_samples):
            active = worst.active
            tried = drawn(number)[active]
            moved = space.apply(tf.constant(images[active]), tried).numpy()
            worst.add(active, (tried,), model.answers(moved, criterion[active]))
        for restart in range(self.restarts):
            start = worst.parameters[0] if restart == 0 else drawn(self.num_samples + restart)
            self._ascend(model, images, criterion, worst, start)
        (parameters,) = worst.parameters
        return AttackResult(space.apply(pictures, parameters).numpy(), parameters, worst.fooled)

    def _ascend(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        worst: RunningWorstCase,
        start: np.ndarray,
    ) -> None:
        """One ascent of the images that aren't fooled; what it meets is added to `worst`."""
        space, active = self.neighborhood, worst.active
        now = start[active]
        for _ in range(self.num_steps):
            pictures, parameters = tf.constant(images[active]), tf.constant(now)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(parameters)
                moved = space.apply(pictures, parameters)
            answers, gradient = model.gradient(moved.numpy(), criterion[active])
            worst.add(active, (now,), answers)
            slope = tape.gradient(moved, parameters, output_gradients=tf.constant(gradient))
            left = ~worst.fooled[active]
            now = space.ascent.step(pictures, parameters, slope).numpy()[left]
            active = active[left]
        moved = space.apply(tf.constant(images[active]), now).numpy()
        worst.add(active, (now,), model.answers(moved, criterion[active]))
