"""Standard training on labels and on a teacher's soft pseudo-labels."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Neighborhood
from keras_srt.objectives import losses
from keras_srt.objectives.base import Batch, Classifier, LossTerm, Objective, StepPasses


@component
class NoisyStudent(Objective):
    """mean_L L(f(x), y) + λ·mean_U KL(p‖f(x)), with a teacher's probabilities p.

    There is no search: the noise is the data augmentation of the student. A student of this kind
    makes a better teacher for a robust student than training on the labels alone.
    Source: Xie et al. 2020 (Self-training with Noisy Student improves ImageNet classification).

    Args:
        unlabeled_weight: λ.
        clean_loss: L; see `losses.get`.
        label_smoothing: s of `losses.smoothed`, for the labels.

    Example:
        >>> NoisyStudent().term_names
        ('labeled', 'unlabeled')
    """

    name: ClassVar[str] = "noisy_student"
    uses_unlabeled: ClassVar[bool] = True
    uses_neighborhood: ClassVar[bool] = False
    uses_teacher: ClassVar[bool] = True
    soft_pseudo_labels: ClassVar[bool] = True
    without_unlabeled: ClassVar[str] = "standard"

    unlabeled_weight: Annotated[float, validation.real(0)] = field(default=1.0, kw_only=False)
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
        num_labeled = tf.shape(prepared.images)[0]
        logits = classifier(tf.concat([prepared.images, prepared.unlabeled], axis=0), training=True)
        clean = losses.get(self.clean_loss, self.label_smoothing)
        target = losses.soft_target(prepared.pseudo_labels)
        return {
            "labeled": LossTerm(clean(losses.Target(prepared.labels), logits[:num_labeled])),
            "unlabeled": LossTerm(losses.kl(target, logits[num_labeled:]), self.unlabeled_weight),
        }

    @property
    @override
    def term_names(self) -> tuple[str, ...]:
        return ("labeled", "unlabeled")

    @override
    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        return StepPasses(0, 0, labeled + unlabeled)
