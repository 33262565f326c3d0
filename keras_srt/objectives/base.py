"""What every training objective offers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import Component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Neighborhood, Passes
from keras_srt.neighborhoods.draws import Rows, RowSeed, for_rows

# (images, training=…) -> logits [batch, classes]
Classifier = Callable[..., "tf.Tensor"]


class Batch(NamedTuple):
    """What a step sees.

    Attributes:
        images: float32 [m_L, height, width, channels] in [0, 1], labeled.
        labels: int32 [m_L], their class ids.
        unlabeled: float32 [m_U, height, width, channels], or None.
        pseudo_labels: int32 [m_U], a teacher's answers to the unlabeled images, or None.
        rows: where this is a replica's share of a global batch, the rows of each part by its
            name, "labeled" or "unlabeled".
    """

    images: tf.Tensor
    labels: tf.Tensor
    unlabeled: tf.Tensor | None = None
    pseudo_labels: tf.Tensor | None = None
    rows: Mapping[str, Rows] | None = None

    def seed_for(self, seed: tf.Tensor, *parts: str) -> tf.Tensor | RowSeed:
        """The seed of draws for images of these parts, one after the other.

        Args:
            seed: int32 [2].
            parts: "labeled" or "unlabeled", as often as images of theirs are perturbed.

        Returns:
            The seed itself, or one with the rows that a replica holds.
        """
        return seed if self.rows is None else for_rows(seed, [self.rows[part] for part in parts])


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


class Objective(Component):
    """A training loss. A step first prepares its inputs, then computes the loss terms.

    `prepare` runs outside the gradient tape: all that it makes (pseudo-labels, perturbed
    images) carries no gradient and is computed in inference mode, so that BatchNorm
    statistics stay still. `terms` runs inside the tape, in training mode.

    Attributes:
        name: in configs.
        uses_unlabeled: whether it sees unlabeled images.
        uses_neighborhood: whether it searches a neighborhood.
        labeled_share: of a batch; None for the proportional one.
        without_unlabeled: the objective that is the same where there are none.
        warmed_terms: the loss terms whose weight λ may grow from 0 in training.
    """

    uses_unlabeled: ClassVar[bool] = False
    uses_neighborhood: ClassVar[bool] = True
    labeled_share: ClassVar[float | None] = None
    without_unlabeled: ClassVar[str] = ""
    warmed_terms: ClassVar[tuple[str, ...]] = ()

    @property
    def uses_teacher(self) -> bool:
        """Whether it wants pseudo-labels that another classifier gave."""
        return False

    def check(self, neighborhood: Neighborhood | None) -> None:
        """Refuses a neighborhood that it can't use.

        Args:
            neighborhood: where it would search.

        Raises:
            InvalidSettings: it can't; says why and what to use.
        """
        if self.uses_neighborhood:
            self.required(neighborhood)

    def required(self, neighborhood: Neighborhood | None) -> Neighborhood:
        """The neighborhood, for an objective that can't do without.

        Args:
            neighborhood: where it would search.

        Raises:
            InvalidSettings: there is none.
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
        """The neighborhood with the search that this objective asks for."""
        return neighborhood

    def with_max_steps(self, rounds: int) -> Objective:
        """The same objective; draws that it asks for itself are cut to that many."""
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


def passes_with_start(neighborhood: Neighborhood) -> Passes:
    """What `maximize` costs when `start_loss` isn't given.

    Args:
        neighborhood: where it searches.

    Returns:
        The passes; one more where the search compares with its start.

    Example:
        >>> from keras_srt.neighborhoods import Spatial
        >>> passes_with_start(Spatial(num_samples=10))
        Passes(forward=11, gradient=0)
    """
    search = neighborhood.passes
    return search._replace(forward=search.forward + (1 if neighborhood.wants_start else 0))


def check_start(objective: Objective, neighborhood: Neighborhood) -> None:
    """Refuses a gradient ascent on KL(f(x)‖f(x')) that starts at x itself.

    KL and its gradient are 0 at x' = x, so that the search would stay where it is.

    Args:
        objective: that searches by KL.
        neighborhood: where it searches.

    Raises:
        InvalidSettings: the first stage starts at the image.
    """
    first = neighborhood.stages_in_order[0]
    by_ascent = getattr(first, "search", "gradient") == "gradient"
    if by_ascent and not getattr(first, "random_start", True):
        raise InvalidSettings(
            [
                "neighborhood.random_start: got false; allowed: true, because the objective "
                f"{objective.name!r} searches by KL(f(x)||f(x')), which has no slope at x' = x"
            ]
        )
