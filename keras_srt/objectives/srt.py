"""Semi-supervised robust training (SRT) and robust training (RT)."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, ClassVar, NamedTuple

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
    check_start,
)


class Prepared(NamedTuple):
    """The inputs of the two loss terms.

    Attributes:
        images: float32 [m_L, height, width, channels], labeled, unperturbed.
        labels: int32 [m_L].
        perturbed: float32 [m, height, width, channels]: x', labeled images first.
        target: The model's predictions for the unperturbed images of `perturbed`.
    """

    images: tf.Tensor
    labels: tf.Tensor
    perturbed: tf.Tensor
    target: losses.Target


@component
class _RobustTraining(Objective):
    """The loss of RT and SRT, which differ in the images of the robust term.

    Args:
        robust_weight: λ.
        clean_loss: L₁; see `losses.get`.
        robust_loss: L₂; see `losses.get`.
    """

    warmed_terms: ClassVar[tuple[str, ...]] = ("robust",)

    robust_weight: Annotated[float, validation.real(0)] = field(default=1.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss] = "cross_entropy"
    robust_loss: Annotated[Any, losses.is_loss] = "cross_entropy"

    @override
    def check(self, neighborhood: Neighborhood | None) -> None:
        super().check(neighborhood)
        if self.robust_loss == "kl":
            check_start(self, self.required(neighborhood))

    @override
    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        neighborhood: Neighborhood | None,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> Prepared:
        """Compute pseudo-labels C(x) and the worst x' with respect to them."""
        images, parts = batch.images, ["labeled"]
        if self.uses_unlabeled and batch.unlabeled is not None:
            images, parts = tf.concat([images, batch.unlabeled], axis=0), ["labeled", "unlabeled"]
        logits = tf.stop_gradient(classifier(images, training=False))
        target = losses.Target(tf.argmax(logits, axis=-1, output_type=tf.int32), logits)
        loss = losses.get(self.robust_loss)
        found = self.required(neighborhood).maximize(
            images,
            lambda moved: loss(target, classifier(moved, training=False)),
            batch.seed_for(seed, *parts),
            scale,
            start_loss=loss(target, logits),
        )
        return Prepared(batch.images, batch.labels, tf.stop_gradient(found.images), target)

    @override
    def terms(self, classifier: Classifier, prepared: Prepared) -> dict[str, LossTerm]:
        num_labeled = tf.shape(prepared.images)[0]
        # One pass over the concatenation is faster than two.
        logits = classifier(tf.concat([prepared.images, prepared.perturbed], 0), training=True)
        clean = losses.get(self.clean_loss)
        robust = losses.get(self.robust_loss)
        return {
            "labeled": LossTerm(clean(losses.Target(prepared.labels), logits[:num_labeled])),
            "robust": LossTerm(robust(prepared.target, logits[num_labeled:]), self.robust_weight),
        }

    @property
    @override
    def term_names(self) -> tuple[str, ...]:
        return ("labeled", "robust")

    @override
    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        images = labeled + (unlabeled if self.uses_unlabeled else 0)
        search = self.required(neighborhood).passes
        return StepPasses(
            forward=(1 + search.forward) * images,
            gradient=search.gradient * images,
            training=labeled + images,
        )


@component
class SRT(_RobustTraining):
    """1/|L| Σ_L L₁(f(x), y) + λ/|D'_L ∪ U| Σ_{D'_L∪U} max_{x'∈N(x)} L₂(f(x'), C(x)).

    Only the first term uses labels. The second term makes the prediction C(x) constant over
    the neighborhood, for labeled and unlabeled images.
    Source: Li et al. 2022, eq. (15), with separate means as in patent CN111401445A. The
    paper's own spatial code takes one mean over both terms, so that its "λ = 0.2" with
    25 labeled and 127 other samples equals λ ≈ 1.0 here.

    Args:
        robust_weight: λ.
        clean_loss: L₁; see `losses.get`.
        robust_loss: L₂; see `losses.get`.

    Example:
        >>> SRT(robust_weight=1.0).term_names
        ('labeled', 'robust')
    """

    name: ClassVar[str] = "srt"
    uses_unlabeled: ClassVar[bool] = True
    without_unlabeled: ClassVar[str] = "rt"

    robust_weight: Annotated[float, validation.real(0)] = field(default=1.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"
    robust_loss: Annotated[Any, losses.is_loss] = "cross_entropy"


@component
class RT(_RobustTraining):
    """SRT without unlabeled images, U = ∅. See `SRT` for the arguments.

    Source: Li et al. 2022, eq. (8).

    Example:
        >>> RT().uses_unlabeled
        False
    """

    name: ClassVar[str] = "rt"

    robust_weight: Annotated[float, validation.real(0)] = field(default=1.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"
    robust_loss: Annotated[Any, losses.is_loss] = "cross_entropy"
