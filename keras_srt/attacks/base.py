"""Base class of the attacks, and helpers to run attacks one after another."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, NamedTuple, cast

import numpy as np

from keras_srt.attacks.criterion import Criterion, is_target
from keras_srt.attacks.target_model import NO_GRADIENTS, QueryModel, TargetModel
from keras_srt.core.errors import UserError
from keras_srt.core.registry import Component, component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Composite, Neighborhood


class AttackResult(NamedTuple):
    """Result of an attack on a batch of images.

    Attributes:
        images: For each image an adversarial one or, on failure, the one of the highest loss;
            float32 [n, height, width, channels].
        parameters: θ of each image, in the form that the attack's neighborhood takes.
        success: Whether each result is adversarial, bool [n].
        nearest: For minimal-norm attacks, the nearest adversarial image, which may be outside the
            threat model, or the original if none was found; float32 [n, height, width, channels].
            None for other attacks.
    """

    images: np.ndarray
    parameters: Any
    success: np.ndarray
    nearest: np.ndarray | None = None


@component
class Attack(Component):
    """Base class of the attacks. A subclass is a component with a `name`.

    A subclass implements `neighborhood` and `search`. An image drops out of the search as soon as
    it is adversarial.

    Args:
        target: null for an untargeted attack, or how the target class is chosen: "random",
            "least_likely", "next" or a class id.

    Attributes:
        needs_gradients: Whether the attack needs a `TargetModel`; otherwise it runs on any
            `QueryModel`.
    """

    needs_gradients: ClassVar[bool] = True

    target: Annotated[Any, is_target] = None

    @property
    @abstractmethod
    def neighborhood(self) -> Neighborhood:
        """Threat model: the perturbations that the attack may apply."""

    @abstractmethod
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """Search the neighborhood of each image for an adversarial image; called by `run`.

        Args:
            model: The model under attack; declare it as `QueryModel` if `needs_gradients` is
                false.
            images: float32 [n, height, width, channels] in [0, 1].
            criterion: Labels and, for a targeted attack, targets.
            seed: int32 [2].

        Returns:
            The result for each image.
        """

    def run(
        self, model: QueryModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """Attack a model.

        Args:
            model: The model under attack.
            images: float32 [n, height, width, channels] in [0, 1].
            criterion: Labels and, for a targeted attack, targets.
            seed: int32 [2]; the same seed gives the same result.

        Returns:
            The result for each image.

        Raises:
            UserError: The attack needs gradients and the model has none.
            InvalidSettings: A label or a target is no class id.
        """
        if self.needs_gradients and not model.has_gradients:
            raise UserError(NO_GRADIENTS)
        criterion.checked_columns(model.num_classes(images))
        return self.search(cast("TargetModel", model), images, criterion, seed)

    @property
    def norm(self) -> str:
        """Names of the neighborhood's stages in order, joined by `+`."""
        return "+".join(stage.name for stage in self.neighborhood.stages_in_order)

    @property
    def radius(self) -> float | None:
        """ε of the pixel perturbation, or None if there is none."""
        for stage in self.neighborhood.stages_in_order:
            epsilon = getattr(stage, "epsilon", None)
            if epsilon is not None:
                return float(epsilon)
        return None


def run_in_sequence(
    stages: tuple[Attack, ...],
    model: QueryModel,
    images: np.ndarray,
    criterion: Criterion,
    seed: tf.Tensor,
) -> AttackResult:
    """Run attacks one after another, each on the result of the one before.

    An image that is adversarial after one stage skips the later stages: their parameters are 0,
    which changes nothing.

    Args:
        stages: Attacks in the order of application.
        model: The model under attack.
        images: float32 [n, height, width, channels] in [0, 1].
        criterion: Criterion of every stage.
        seed: int32 [2].

    Returns:
        The result; `parameters` has one array for each stage.
    """
    current, success = np.array(images), np.zeros(len(images), bool)
    parameters = []
    for number, stage in enumerate(model.progress.each(stages)):
        active = np.flatnonzero(~success)
        stage_seed = tf.random.experimental.stateless_fold_in(seed, number)
        result = stage.run(model, current[active], criterion[active], stage_seed)
        stage_parameters = np.zeros((len(images), *result.parameters.shape[1:]), np.float32)
        stage_parameters[active] = result.parameters
        current[active], success[active] = result.images, result.success
        parameters.append(stage_parameters)
    return AttackResult(current, tuple(parameters), success)


def composite_of(stages: tuple[Attack, ...]) -> Composite:
    """Neighborhood of attacks that run in sequence."""
    return Composite(stages=tuple(stage.neighborhood for stage in stages))
