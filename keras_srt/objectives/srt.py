"""Semi-supervised robust training (SRT) and robust training (RT)."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
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
        perturbed: float32 [m, height, width, channels]: x' of the robust term's images.
        target: The pseudo-labels C(x) of the unperturbed images of `perturbed`.
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
        label_smoothing: s of `losses.smoothed`, for the labels in L₁.
    """

    warmed_terms: ClassVar[tuple[str, ...]] = ("robust",)

    robust_weight: Annotated[float, validation.real(0)] = field(default=1.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss] = "cross_entropy"
    robust_loss: Annotated[Any, losses.is_loss] = "cross_entropy"
    label_smoothing: Annotated[float, validation.real(0, 0.999)] = 0.0

    @property
    def needs_own_predictions(self) -> bool:
        """Whether a step predicts the unperturbed images with the trained model."""
        return True

    @property
    def robust_parts(self) -> tuple[str, ...]:
        """The parts of a batch that the robust term uses, in order."""
        return ("labeled",)

    @override
    def check(self, neighborhood: Neighborhood | None) -> None:
        super().check(neighborhood)
        losses.check_label_smoothing(self.clean_loss, self.label_smoothing)
        if self.robust_loss == "kl" and self.needs_own_predictions:
            check_start(self, self.required(neighborhood))

    def targets(
        self, classifier: Classifier, batch: Batch, images: tf.Tensor
    ) -> tuple[losses.Target, tf.Tensor | None]:
        """Return the targets of the robust term: the model's own predictions C(x).

        Args:
            classifier: images -> logits.
            batch: The batch.
            images: The images of `robust_parts`.

        Returns:
            The targets, and the model's logits f(x) if they were computed.
        """
        logits = tf.stop_gradient(classifier(images, training=False))
        return losses.Target(tf.argmax(logits, axis=-1, output_type=tf.int32), logits), logits

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
        given = {"labeled": batch.images, "unlabeled": batch.unlabeled}
        parts = [part for part in self.robust_parts if given[part] is not None]
        images = tf.concat([given[part] for part in parts], axis=0)
        target, logits = self.targets(classifier, batch, images)
        loss = losses.get(self.robust_loss)
        found = self.required(neighborhood).maximize(
            images,
            lambda moved: loss(target, classifier(moved, training=False)),
            batch.seed_for(seed, *parts),
            scale,
            start_loss=None if logits is None else loss(target, logits),
        )
        return Prepared(batch.images, batch.labels, tf.stop_gradient(found.images), target)

    @override
    def terms(self, classifier: Classifier, prepared: Prepared) -> dict[str, LossTerm]:
        num_labeled = tf.shape(prepared.images)[0]
        # One pass over the concatenation is faster than two.
        logits = classifier(tf.concat([prepared.images, prepared.perturbed], 0), training=True)
        clean = losses.get(self.clean_loss, self.label_smoothing)
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
        sizes = {"labeled": labeled, "unlabeled": unlabeled}
        images = sum(sizes[part] for part in self.robust_parts)
        own = self.needs_own_predictions
        search = self.required(neighborhood).solver.passes(start_known=own)
        return StepPasses(
            forward=(own + search.forward) * images,
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

    With `robust_images` "unlabeled" the second term is the robust risk over U alone,
    λ/|U| Σ_U max_{x'∈N(x)} L₂(f(x'), C(x)): formulas (3) and (4) of the patent, whose [0140]
    names the union as the alternative.

    With `pseudo_labels` other than "own", C(x) is the label y on L and, on U, the prediction of
    the average or the teacher. With `robust_loss` "kl" it is soft: the probabilities (1 - s)·
    one_hot(y) + s/classes with the `label_smoothing` s on L, and the predicted ones on U.

    Args:
        robust_weight: λ.
        clean_loss: L₁; see `losses.get`.
        robust_loss: L₂; see `losses.get`.
        label_smoothing: s of `losses.smoothed`, for the labels.
        pseudo_labels: C(x): "own", the current predictions of the trained model; "average",
            those of the average of its weights, which `ema` keeps; "teacher", those of a teacher.
        confidence_threshold: With "average" or "teacher" and `robust_loss` "kl": the model's own
            soft predictions replace C(x) where its largest probability is not above this. 1 is
            SRT with its own soft predictions; 0 uses each prediction of the average or teacher,
            as UAT with fixed targets does.
        robust_images: The images of the second term: "all", D'_L ∪ U, or "unlabeled", U alone.

    Example:
        >>> SRT(robust_weight=1.0).term_names
        ('labeled', 'robust')
    """

    name: ClassVar[str] = "srt"
    uses_unlabeled: ClassVar[bool] = True
    soft_pseudo_labels: ClassVar[bool] = True
    without_unlabeled: ClassVar[str] = "rt"

    robust_weight: Annotated[float, validation.real(0)] = field(default=1.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"
    robust_loss: Annotated[Any, losses.is_loss] = "cross_entropy"
    pseudo_labels: Literal["own", "average", "teacher"] = "own"
    confidence_threshold: Annotated[float, validation.real(0, 1)] = 0.0
    robust_images: Literal["all", "unlabeled"] = "all"

    @property
    @override
    def robust_parts(self) -> tuple[str, ...]:
        return ("labeled", "unlabeled") if self.robust_images == "all" else ("unlabeled",)

    @property
    @override
    def uses_teacher(self) -> bool:
        return self.pseudo_labels == "teacher"

    @property
    @override
    def uses_average(self) -> bool:
        return self.pseudo_labels == "average"

    @property
    @override
    def needs_own_predictions(self) -> bool:
        return self.pseudo_labels == "own" or self.confidence_threshold > 0

    @override
    def check(self, neighborhood: Neighborhood | None) -> None:
        super().check(neighborhood)
        soft = self.pseudo_labels != "own" and self.robust_loss == "kl"
        if self.confidence_threshold and not soft:
            raise InvalidSettings(
                [
                    f"objective.confidence_threshold: got {self.confidence_threshold:g} with "
                    f"pseudo_labels {self.pseudo_labels!r} and robust_loss {self.robust_loss!r}; "
                    "allowed: 0, or pseudo_labels 'average' or 'teacher' with robust_loss 'kl'"
                ]
            )

    @override
    def targets(
        self, classifier: Classifier, batch: Batch, images: tf.Tensor
    ) -> tuple[losses.Target, tf.Tensor | None]:
        if self.pseudo_labels == "own" or batch.pseudo_labels is None:
            return super().targets(classifier, batch, images)
        num_classes = tf.shape(batch.pseudo_labels)[-1]
        labels = tf.one_hot(batch.labels, num_classes)
        smooth = self.label_smoothing / tf.cast(num_classes, tf.float32)
        given = losses.soft_target(
            self._concat((1 - self.label_smoothing) * labels + smooth, batch.pseudo_labels)
        )
        if not self.needs_own_predictions:
            return given, None
        own, logits = super().targets(classifier, batch, images)
        confidence = self._concat(
            tf.ones_like(labels[:, 0]), tf.reduce_max(batch.pseudo_labels, axis=-1)
        )
        confident = confidence > self.confidence_threshold
        return (
            losses.Target(
                tf.where(confident, given.labels, own.labels),
                tf.where(confident[:, None], given.logits, own.logits),
            ),
            logits,
        )

    def _concat(self, labeled: tf.Tensor, unlabeled: tf.Tensor) -> tf.Tensor:
        """Concatenate what belongs to the images of `robust_parts`."""
        given = {"labeled": labeled, "unlabeled": unlabeled}
        return tf.concat([given[part] for part in self.robust_parts], axis=0)

    @override
    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        passes = super().passes(neighborhood, labeled, unlabeled)
        return passes._replace(forward=passes.forward + self.uses_average * unlabeled)


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
