"""The base class of training objectives, and the batches and loss terms they work on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import Component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Neighborhood
from keras_srt.neighborhoods.draws import Rows, RowSeed, for_rows

# (images, training=…) -> logits [batch, classes]
Classifier = Callable[..., "tf.Tensor"]

# The input gradient costs about as much as a second forward pass; a weight gradient, as two.
_GRADIENT_COST, _TRAINING_COST = 2.0, 3.0


class Batch(NamedTuple):
    """The batch of one training step.

    Attributes:
        images: float32 [m_L, height, width, channels] in [0, 1], labeled.
        labels: int32 [m_L], class ids of `images`.
        unlabeled: float32 [m_U, height, width, channels], or None.
        pseudo_labels: Predictions for `unlabeled`: class ids, int32 [m_U], or for objectives with
            `soft_pseudo_labels` probabilities, float32 [m_U, classes]; or None.
        rows: With several replicas, the rows of the global batch that this replica holds,
            for the parts "labeled" and "unlabeled".
    """

    images: tf.Tensor
    labels: tf.Tensor
    unlabeled: tf.Tensor | None = None
    pseudo_labels: tf.Tensor | None = None
    rows: Mapping[str, Rows] | None = None

    def seed_for(self, seed: tf.Tensor, *parts: str) -> tf.Tensor | RowSeed:
        """Make the seed for draws on the concatenation of parts of this batch.

        Args:
            seed: int32 [2].
            parts: "labeled" or "unlabeled", in the order of concatenation.

        Returns:
            The seed itself, or a `RowSeed` for the rows of this replica.
        """
        return seed if self.rows is None else for_rows(seed, [self.rows[part] for part in parts])


class LossTerm(NamedTuple):
    """A named summand of an objective: weight · mean(values).

    Attributes:
        values: float32 [n], the loss of each image, not averaged, so that replicas can
            average over the global batch.
        weight: Factor of the term in the objective.
    """

    values: tf.Tensor
    weight: float | tf.Tensor = 1.0


class StepPasses(NamedTuple):
    """The cost of a training step in passes through the model, counted per image.

    Attributes:
        forward: Forward passes without a gradient.
        gradient: Forward passes followed by the gradient with respect to the input.
        training: Forward passes followed by the gradient with respect to the weights.
    """

    forward: int
    gradient: int
    training: int

    @property
    def relative_cost(self) -> float:
        """The number of forward passes that would take about as long.

        Example:
            >>> StepPasses(forward=100, gradient=1000, training=120).relative_cost
            2460.0
        """
        return self.forward + _GRADIENT_COST * self.gradient + _TRAINING_COST * self.training

    @property
    def frozen_cost(self) -> float:
        """`relative_cost` if only the last layer is trained: no gradient goes through the model.

        Example:
            >>> StepPasses(forward=100, gradient=1000, training=120).frozen_cost
            2220.0
        """
        return self._replace(forward=self.forward + self.training, training=0).relative_cost


class Objective(Component):
    """A training loss, computed in two parts.

    `prepare` runs outside the gradient tape, in inference mode, so that BatchNorm statistics
    don't change. Pseudo-labels and perturbed images are made there and carry no gradient.
    `terms` runs inside the tape, in training mode.

    Attributes:
        name: The name in configs.
        uses_unlabeled: Whether unlabeled images are used.
        uses_neighborhood: Whether a neighborhood is searched.
        labeled_share: Fraction of labeled images in a batch; None for the fraction of labeled
            images in the dataset.
        without_unlabeled: The name of the equivalent objective without unlabeled images.
        soft_pseudo_labels: Whether pseudo-labels are probabilities instead of class ids.
        warmed_terms: The loss terms whose weight λ can be warmed up.
    """

    uses_unlabeled: ClassVar[bool] = False
    uses_neighborhood: ClassVar[bool] = True
    labeled_share: ClassVar[float | None] = None
    without_unlabeled: ClassVar[str] = ""
    soft_pseudo_labels: ClassVar[bool] = False
    warmed_terms: ClassVar[tuple[str, ...]] = ()
    teacher_steps: int | None = None

    @property
    def uses_teacher(self) -> bool:
        """Whether the objective needs pseudo-labels from a teacher."""
        return False

    @property
    def uses_average(self) -> bool:
        """Whether the objective needs pseudo-labels from the average of the weights."""
        return False

    def check(self, neighborhood: Neighborhood | None) -> None:
        """Refuse a neighborhood that the objective can't use.

        Args:
            neighborhood: The neighborhood of the training.

        Raises:
            InvalidSettings: The neighborhood can't be used; the message says why.
        """
        if self.uses_neighborhood:
            self.required(neighborhood)

    def required(self, neighborhood: Neighborhood | None) -> Neighborhood:
        """Return the neighborhood if there is one.

        Args:
            neighborhood: The neighborhood of the training.

        Raises:
            InvalidSettings: It is None.
        """
        if neighborhood is None:
            raise InvalidSettings(
                [
                    f"neighborhood: got None; allowed: a neighborhood, because the objective "
                    f"{self.name!r} searches one"
                ]
            )
        return neighborhood

    def searched(self, neighborhood: Neighborhood) -> Neighborhood:
        """Return the neighborhood with the solver that this objective uses in training."""
        return neighborhood

    def with_max_steps(self, max_steps: int) -> Objective:
        """Return the same objective with at most `max_steps` random draws of its own."""
        return self

    @abstractmethod
    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        neighborhood: Neighborhood | None,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> Any:
        """Compute pseudo-labels and perturbed images, without a gradient.

        Args:
            classifier: images -> logits; called with `training=False`.
            batch: Labeled and, if the objective uses them, unlabeled images.
            neighborhood: The neighborhood to search, or None if the objective uses none.
            seed: int32 [2].
            scale: Fraction of the full neighborhood, from 0 to 1.

        Returns:
            The input of `terms`.
        """

    @abstractmethod
    def terms(self, classifier: Classifier, prepared: Any) -> dict[str, LossTerm]:
        """Compute the named loss terms; the objective is Σ weight · mean(values).

        Args:
            classifier: images -> logits; called once, with `training=True`.
            prepared: The result of `prepare`.

        Returns:
            Each term by name.
        """

    @property
    @abstractmethod
    def term_names(self) -> tuple[str, ...]:
        """The names of the terms, in order."""

    @abstractmethod
    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        """Count the passes of a step.

        Args:
            neighborhood: The neighborhood of the training.
            labeled: Labeled images in a batch.
            unlabeled: Unlabeled images in a batch.
        """


def check_start(objective: Objective, neighborhood: Neighborhood) -> None:
    """Refuse a gradient ascent on KL(f(x)‖f(x')) that starts at x.

    KL and its gradient are 0 at x' = x, so the ascent would not move.

    Args:
        objective: The objective, which maximizes KL.
        neighborhood: The neighborhood to search.

    Raises:
        InvalidSettings: The search starts at the image.
    """
    if neighborhood.solver.starts_at_image:
        raise InvalidSettings(
            [
                "neighborhood.random_start: got false; allowed: true, because the objective "
                f"{objective.name!r} searches by KL(f(x)||f(x')), which has no slope at x' = x"
            ]
        )
