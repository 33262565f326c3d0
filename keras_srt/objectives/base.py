"""What every training objective offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from keras_srt.lazy import tf
from keras_srt.neighborhoods import Neighborhood

# (images, training=…) -> logits [batch, classes]
Classifier = Callable[..., "tf.Tensor"]


class Batch(NamedTuple):
    """What a step sees.

    Attributes:
        images: float32 [m_L, height, width, channels] in [0, 1], labeled.
        labels: int32 [m_L], their class ids.
        unlabeled: float32 [m_U, height, width, channels], or None.
    """

    images: tf.Tensor
    labels: tf.Tensor
    unlabeled: tf.Tensor | None = None


class LossTerm(NamedTuple):
    """One named summand of an objective: weight · mean(values).

    Attributes:
        values: float32 [n], the loss of each image, not yet averaged, so that several
            devices can each average over the global batch.
        weight: its factor in the objective.
    """

    values: tf.Tensor
    weight: float = 1.0


class StepPasses(NamedTuple):
    """What a training step costs, in passes through the model over images of a batch.

    Attributes:
        forward: image passes with no gradient.
        gradient: image passes forward and back to the input.
        training: image passes forward and back to the weights.
    """

    forward: int
    gradient: int
    training: int


class Objective(ABC):
    """A training loss. A step first prepares its inputs, then computes the loss terms.

    `prepare` runs outside the gradient tape: all that it makes (pseudo-labels, perturbed
    images) carries no gradient and is computed in inference mode, so that BatchNorm
    statistics stay still. `terms` runs inside the tape, in training mode.
    """

    name: ClassVar[str]
    uses_unlabeled: ClassVar[bool] = False
    uses_neighborhood: ClassVar[bool] = True

    @abstractmethod
    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        neighborhood: Neighborhood | None,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> Any:
        """Makes what the loss terms need and what carries no gradient.

        Args:
            classifier: images -> logits; called with `training=False`.
            batch: labeled and, if the objective uses them, unlabeled images.
            neighborhood: where the perturbed images are searched, or None for an
                objective that uses none.
            seed: int32 [2].
            scale: share of the full neighborhood, from 0 to 1.

        Returns:
            Whatever `terms` of the same objective takes.
        """

    @abstractmethod
    def terms(self, classifier: Classifier, prepared: Any) -> dict[str, LossTerm]:
        """The named loss terms; the objective is Σ weight · mean(values).

        Args:
            classifier: images -> logits; called once, with `training=True`.
            prepared: what `prepare` returned.

        Returns:
            Each term by its name.
        """

    @property
    @abstractmethod
    def term_names(self) -> tuple[str, ...]:
        """The names that `terms` gives, in order."""

    @abstractmethod
    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        """What a step on that many labeled and unlabeled images costs."""
