"""The worst of random draws from a neighborhood: a helper, and the base class of attacks."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.running_worst_case import RunningWorstCase
from keras_srt.attacks.target_model import QueryModel
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Neighborhood
from keras_srt.neighborhoods.draws import Seed, fold


def worst_of_draws(
    space: Neighborhood,
    count: int,
    model: QueryModel,
    images: np.ndarray,
    criterion: Criterion,
    seed: Seed,
) -> RunningWorstCase:
    """Find the worst of random draws for each image; an image drops out when it is adversarial.

    Args:
        space: The neighborhood, whose parameters are one tensor.
        count: Number of draws.
        model: The model under attack.
        images: float32 [batch, height, width, channels] in [0, 1].
        criterion: What counts as adversarial.
        seed: int32 [2].

    Returns:
        The worst parameters so far, to which a search can add others.
    """
    originals = tf.constant(images)
    unchanged = space.identity(originals).numpy()
    worst = RunningWorstCase(model.predictions(images, criterion), criterion, unchanged)
    for number in model.progress.each(range(count)):
        active = worst.active
        # Drawn for all images, so that a draw doesn't depend on which images are active.
        tried = space.sample(originals, fold(seed, number)).numpy()[active]
        perturbed = space.apply(tf.constant(images[active]), tried).numpy()
        worst.add(active, (tried,), model.predictions(perturbed, criterion[active]))
    return worst


class RandomDrawAttack(Attack):
    """Base class of attacks that try random draws, with queries only.

    An image drops out when it is adversarial.

    Attributes:
        num_samples: Number of random draws for each image.
    """

    needs_gradients: ClassVar[bool] = False

    num_samples: int

    @override
    def search(
        self, model: QueryModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        space = self.neighborhood
        worst = worst_of_draws(space, self.num_samples, model, images, criterion, seed)
        (drawn,) = worst.parameters
        return AttackResult(space.apply(tf.constant(images), drawn).numpy(), drawn, worst.success)
