"""What every evaluation attack offers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np

from keras_srt.attacks.criterion import Criterion, is_target
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core.registry import Component, component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Composite, Neighborhood


class AttackResult(NamedTuple):
    """The outcome of an attack.

    Attributes:
        images: float32 [n, height, width, channels]: a fooling image where one was found,
            else the one of the highest loss.
        parameters: θ of each, as the attack's neighborhood takes it.
        fooled: bool [n], whether the criterion is reached.
        nearest: float32 [n, height, width, channels], of attacks that look for the smallest
            perturbation: the nearest image that fools, also beyond the threat model, or the
            image itself where none was found. None for the others.
    """

    images: np.ndarray
    parameters: Any
    fooled: np.ndarray
    nearest: np.ndarray | None = None


@component
class Attack(Component):
    """An attack for evaluation; a subclass is a component with a `name`.

    It stops working on an image once the model is fooled.

    Args:
        target: null for any other answer than the label, or how the answer to reach is
            chosen: "random", "least_likely", "next" or a class id.
    """

    # Whether it needs more of a model than its answers.
    needs_gradients: ClassVar[bool] = True

    target: Annotated[Any, is_target] = None

    @property
    @abstractmethod
    def neighborhood(self) -> Neighborhood:
        """The threat model: what the attack may do to an image."""

    @abstractmethod
    def run(
        self, target_model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """Looks for images of the neighborhood on which the criterion is reached.

        Args:
            target_model: the model under attack.
            images: float32 [n, height, width, channels] in [0, 1].
            criterion: the answers to leave and, if the attack is targeted, those to reach.
            seed: int32 [2].

        Returns:
            What was found, for each image.
        """

    @property
    def norm(self) -> str:
        """Names of the single neighborhoods, in order, joined by `+`."""
        return "+".join(stage.name for stage in self.neighborhood.stages_in_order)

    @property
    def radius(self) -> float | None:
        """ε of the pixel perturbation, or None if there is none."""
        for stage in self.neighborhood.stages_in_order:
            if hasattr(stage, "epsilon"):
                return float(stage.epsilon)
        return None


def take(parameters: Any, index: np.ndarray) -> Any:
    """Rows of parameters, which may be a tuple with one array for each stage."""
    if isinstance(parameters, tuple):
        return tuple(take(part, index) for part in parameters)
    return np.asarray(parameters)[index]


def run_in_sequence(
    stages: tuple[Attack, ...],
    target_model: TargetModel,
    images: np.ndarray,
    criterion: Criterion,
    seed: tf.Tensor,
) -> AttackResult:
    """Runs attacks one after the other, each from where the last one ended.

    An image that an earlier stage fooled is left as it is: the later stages' parameters
    are 0 for it, which changes nothing.

    Args:
        stages: attacks, first applied first.
        target_model: as for `Attack.run`, like the rest.
        images: float32 [n, height, width, channels] in [0, 1].
        criterion: of each stage.
        seed: int32 [2].

    Returns:
        What was found; `parameters` has one entry for each stage.
    """
    now, fooled = np.array(images), np.zeros(len(images), bool)
    parameters = []
    for number, stage in enumerate(stages):
        active = np.flatnonzero(~fooled)
        its_seed = tf.random.experimental.stateless_fold_in(seed, number)
        found = stage.run(target_model, now[active], criterion[active], its_seed)
        its_own = np.zeros((len(images), *found.parameters.shape[1:]), np.float32)
        its_own[active] = found.parameters
        now[active], fooled[active] = found.images, found.fooled
        parameters.append(its_own)
    return AttackResult(now, tuple(parameters), fooled)


def composite_of(stages: tuple[Attack, ...]) -> Composite:
    """The neighborhood of attacks run in sequence."""
    return Composite(stages=tuple(stage.neighborhood for stage in stages))
