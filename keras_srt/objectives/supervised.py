"""Objectives on labeled images only: standard and adversarial training."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Neighborhood
from keras_srt.objectives import losses
from keras_srt.objectives.base import (
    Batch,
    Classifier,
    LossTerm,
    Objective,
    StepPasses,
)


@component
class Standard(Objective):
    """mean_L L(f(x), y): ordinary training.

    Args:
        clean_loss: L; see `losses.get`.
        label_smoothing: s of `losses.smoothed`.

    Example:
        >>> Standard().term_names
        ('labeled',)
    """

    name: ClassVar[str] = "standard"
    uses_neighborhood: ClassVar[bool] = False

    clean_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"
    label_smoothing: Annotated[float, validation.real(0, 0.999)] = 0.0

    @override
    def check(self, neighborhood: Neighborhood | None) -> None:
        losses.check_label_smoothing(self.clean_loss, self.label_smoothing)

    @override
    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        neighborhood: Neighborhood | None,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> Batch:
        return batch

    @override
    def terms(self, classifier: Classifier, prepared: Batch) -> dict[str, LossTerm]:
        logits = classifier(prepared.images, training=True)
        loss = losses.get(self.clean_loss, self.label_smoothing)
        return {"labeled": LossTerm(loss(losses.Target(prepared.labels), logits))}

    @property
    @override
    def term_names(self) -> tuple[str, ...]:
        return ("labeled",)

    @override
    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        return StepPasses(0, 0, labeled)


@component
class Adversarial(Objective):
    """mean_L max_{x'∈N(x)} L(f(x'), y): adversarial training (AT).

    Source: Madry et al. 2018, eq. (2.1).

    Args:
        robust_loss: L; see `losses.get`.

    Example:
        >>> from keras_srt.neighborhoods import LInf
        >>> Adversarial().passes(LInf(epsilon=0.3, num_steps=10), labeled=128, unlabeled=0)
        StepPasses(forward=0, gradient=1280, training=128)
    """

    name: ClassVar[str] = "adversarial"

    robust_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"

    @override
    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        neighborhood: Neighborhood | None,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> Batch:
        """Replace the images by the worst images of their neighborhoods."""
        loss, target = losses.get(self.robust_loss), losses.Target(batch.labels)
        found = self.searched(self.required(neighborhood)).maximize(
            batch.images,
            lambda images: loss(target, classifier(images, training=False)),
            batch.seed_for(seed, "labeled"),
            scale,
        )
        return batch._replace(images=tf.stop_gradient(found.images))

    @override
    def terms(self, classifier: Classifier, prepared: Batch) -> dict[str, LossTerm]:
        logits = classifier(prepared.images, training=True)
        loss = losses.get(self.robust_loss)
        return {"robust": LossTerm(loss(losses.Target(prepared.labels), logits))}

    @property
    @override
    def term_names(self) -> tuple[str, ...]:
        return ("robust",)

    @override
    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        search = self.searched(self.required(neighborhood)).solver.passes(start_known=False)
        return StepPasses(search.forward * labeled, search.gradient * labeled, labeled)
