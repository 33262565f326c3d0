"""Objectives with a teacher's pseudo-labels for unlabeled images: UAT++ and RST."""

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
from keras_srt.objectives.trades import Consistency


@component
class RST(Consistency):
    """mean_{L∪U} L(f(x), y) + β·mean_{L∪U} max_{x'∈N(x)} KL(f(x)‖f(x')): robust self-training.

    y is the true label on L and, on U, the pseudo-label of a teacher with standard training
    on L. Half of a batch is unlabeled unless `labeled_per_batch` is set.
    Source: Carmon et al. 2019, algorithm 1, with TRADES as the robust loss.

    Args:
        robust_weight: β.
        clean_loss: L; see `losses.get`.
        teacher_steps: Training steps of the teacher; None for the student's number.

    Example:
        >>> RST().term_names
        ('clean', 'robust')
    """

    name: ClassVar[str] = "rst"
    uses_unlabeled: ClassVar[bool] = True
    uses_teacher: ClassVar[bool] = True
    labeled_share: ClassVar[float | None] = 0.5
    without_unlabeled: ClassVar[str] = "trades"
    trained_parts: ClassVar[tuple[str, ...]] = ("labeled", "unlabeled")

    robust_weight: Annotated[float, validation.real(0)] = field(default=6.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"
    teacher_steps: Annotated[int, validation.whole(1)] | None = None

    def examples(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Return labeled images with labels, followed by unlabeled images with pseudo-labels."""
        images = tf.concat([batch.images, batch.unlabeled], axis=0)
        return images, tf.concat([batch.labels, batch.pseudo_labels], axis=0)

    @property
    @override
    def term_names(self) -> tuple[str, ...]:
        return ("clean", "robust")


class Perturbations(NamedTuple):
    """The perturbed images x' and the targets of each term.

    Attributes:
        images: float32 [m, height, width, channels], by the term's name.
        targets: Labels, pseudo-labels or the model's predictions, by the term's name.
    """

    images: dict[str, tf.Tensor]
    targets: dict[str, losses.Target]


@component
class UAT(Objective):
    """mean_L max CE(f(x'), y) + a·mean_U max CE(f(x'), t) + b·mean_U max KL(f(x)‖f(x')): UAT++.

    t are fixed targets, the predictions of a teacher with standard training on L. f(x) is the
    online target, the model's current prediction, detached. Each term maximizes over N(x)
    separately. a = 0 gives UAT-OT, which needs no teacher; b = 0 gives UAT-FT. Terms of
    weight 0 are not computed.
    Source: Uesato et al. 2019 (Are Labels Required for Improving Adversarial Robustness?).

    Args:
        fixed_weight: a.
        online_weight: b.
        teacher_steps: Training steps of the teacher; None for the student's number.

    Example:
        >>> UAT().term_names
        ('robust', 'fixed', 'online')
        >>> UAT(fixed_weight=0).uses_teacher
        False
    """

    name: ClassVar[str] = "uat"
    uses_unlabeled: ClassVar[bool] = True
    without_unlabeled: ClassVar[str] = "adversarial"

    fixed_weight: Annotated[float, validation.real(0)] = 1.0
    online_weight: Annotated[float, validation.real(0)] = 1.0
    teacher_steps: Annotated[int, validation.whole(1)] | None = None

    @property
    @override
    def uses_teacher(self) -> bool:
        """Whether the term on fixed targets has a weight."""
        return self.fixed_weight > 0

    @property
    def weights(self) -> dict[str, float]:
        """The terms with a positive weight, and their weights."""
        weights = {"robust": 1.0, "fixed": self.fixed_weight, "online": self.online_weight}
        return {name: weight for name, weight in weights.items() if weight > 0}

    @override
    def check(self, neighborhood: Neighborhood | None) -> None:
        super().check(neighborhood)
        if "online" in self.weights:
            check_start(self, self.required(neighborhood))

    @override
    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        neighborhood: Neighborhood | None,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> Perturbations:
        """Find the x' of all terms in one search over their concatenation."""
        images = {"robust": batch.images, "fixed": batch.unlabeled, "online": batch.unlabeled}
        images = {name: images[name] for name in self.weights}
        targets = {"robust": losses.Target(batch.labels)}
        if "fixed" in images:
            targets["fixed"] = losses.Target(batch.pseudo_labels)
        if "online" in images:
            logits = tf.stop_gradient(classifier(batch.unlabeled, training=False))
            labels = tf.argmax(logits, axis=-1, output_type=tf.int32)
            targets["online"] = losses.Target(labels, logits)
        sizes = [tf.shape(part)[0] for part in images.values()]

        def loss(moved: tf.Tensor) -> tf.Tensor:
            logits = tf.split(classifier(moved, training=False), sizes)
            return tf.concat(list(_losses(targets, logits).values()), axis=0)

        everything = tf.concat(list(images.values()), axis=0)
        parts = ["labeled" if name == "robust" else "unlabeled" for name in images]
        found = self.required(neighborhood).maximize(
            everything, loss, batch.seed_for(seed, *parts), scale
        )
        perturbed = tf.split(tf.stop_gradient(found.images), sizes)
        return Perturbations(dict(zip(images, perturbed, strict=True)), targets)

    @override
    def terms(self, classifier: Classifier, prepared: Perturbations) -> dict[str, LossTerm]:
        images = list(prepared.images.values())
        logits = classifier(tf.concat(images, axis=0), training=True)
        parts = tf.split(logits, [tf.shape(part)[0] for part in images])
        values = _losses(prepared.targets, parts)
        return {name: LossTerm(values[name], weight) for name, weight in self.weights.items()}

    @property
    @override
    def term_names(self) -> tuple[str, ...]:
        return tuple(self.weights)

    @override
    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        images = labeled + (len(self.weights) - 1) * unlabeled
        own = unlabeled if "online" in self.weights else 0
        search = self.required(neighborhood).solver.passes(start_known=False)
        return StepPasses(own + search.forward * images, search.gradient * images, images)


def _losses(targets: dict[str, losses.Target], logits: list[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Compute the loss of each term: KL for online targets, cross-entropy for labels."""
    return {
        name: (losses.kl if name == "online" else losses.cross_entropy)(target, its_logits)
        for (name, target), its_logits in zip(targets.items(), logits, strict=True)
    }
