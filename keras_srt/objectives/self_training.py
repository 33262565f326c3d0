"""Objectives on a teacher's answers to unlabeled images: UAT++ and robust self-training."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, ClassVar, NamedTuple

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
    passes_with_start,
)
from keras_srt.objectives.trades import Consistency


@component
class RST(Consistency):
    """mean_{L∪U} L(f(x), y) + β·mean_{L∪U} max_{x'∈N(x)} KL(f(x)‖f(x')): robust self-training.

    y is the true label on L and, on U, the answer of a standard teacher that was trained on
    L and asked once. Half of a batch is unlabeled unless `labeled_per_batch` is set.
    Source: Carmon et al. 2019, algorithm 1, with TRADES as the robust loss.

    Args:
        robust_weight: β.
        clean_loss: L, see `losses.get`.
        teacher_steps: training steps of the teacher; None for as many as the student's.

    Example:
        >>> RST().term_names
        ('clean', 'robust')
    """

    name: ClassVar[str] = "rst"
    uses_unlabeled: ClassVar[bool] = True
    uses_teacher: ClassVar[bool] = True
    labeled_share: ClassVar[float | None] = 0.5
    without_unlabeled: ClassVar[str] = "trades"
    answered_parts: ClassVar[tuple[str, ...]] = ("labeled", "unlabeled")

    robust_weight: Annotated[float, validation.real(0)] = field(default=6.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"
    teacher_steps: Annotated[int, validation.whole(1)] | None = None

    def answered(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Labeled images with their labels, then unlabeled ones with pseudo-labels."""
        images = tf.concat([batch.images, batch.unlabeled], axis=0)
        return images, tf.concat([batch.labels, batch.pseudo_labels], axis=0)

    @property
    def term_names(self) -> tuple[str, ...]:
        """`clean` and `robust`, both over labeled and unlabeled images."""
        return ("clean", "robust")


class Perturbations(NamedTuple):
    """The x' of each term, and what their answers are compared with.

    Attributes:
        images: float32 [m, height, width, channels] of each term, by its name.
        targets: labels, pseudo-labels or own answers, by the term's name.
    """

    images: dict[str, tf.Tensor]
    targets: dict[str, losses.Target]


@component
class UAT(Objective):
    """mean_L max CE(f(x'), y) + a·mean_U max CE(f(x'), t) + b·mean_U max KL(f(x)‖f(x')): UAT++.

    t are fixed targets, the answers of a standard teacher that was trained on L; f(x) is the
    online target, the model's own answer of the moment, detached. Each maximum is over
    x' ∈ N(x) and has its own x'. a = 0 gives UAT-OT, which needs no teacher, and b = 0 UAT-FT;
    what has no weight costs nothing.
    Source: Uesato et al. 2019 (Are Labels Required for Improving Adversarial Robustness?).

    Args:
        fixed_weight: a.
        online_weight: b.
        teacher_steps: training steps of the teacher; None for as many as the student's.

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
    def uses_teacher(self) -> bool:
        """Whether there is a term on fixed targets."""
        return self.fixed_weight > 0

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term that has one."""
        weights = {"robust": 1.0, "fixed": self.fixed_weight, "online": self.online_weight}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def check(self, neighborhood: Neighborhood | None) -> None:
        """Refuses no neighborhood, and an ascent that starts where KL has no slope."""
        super().check(neighborhood)
        if "online" in self.weights:
            check_start(self, self.required(neighborhood))

    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        neighborhood: Neighborhood | None,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> Perturbations:
        """The x' of every term, found in one search over all of them."""
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

    def terms(self, classifier: Classifier, prepared: Perturbations) -> dict[str, LossTerm]:
        """`robust` on labels, `fixed` on pseudo-labels, `online` on own answers."""
        images = list(prepared.images.values())
        logits = classifier(tf.concat(images, axis=0), training=True)
        parts = tf.split(logits, [tf.shape(part)[0] for part in images])
        values = _losses(prepared.targets, parts)
        return {name: LossTerm(values[name], weight) for name, weight in self.weights.items()}

    @property
    def term_names(self) -> tuple[str, ...]:
        """`robust`, `fixed` and `online`, those that have a weight."""
        return tuple(self.weights)

    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        """Own answers on U, a search for each term, and one training pass over all x'."""
        images = labeled + (len(self.weights) - 1) * unlabeled
        own = unlabeled if "online" in self.weights else 0
        search = passes_with_start(self.required(neighborhood))
        return StepPasses(own + search.forward * images, search.gradient * images, images)


def _losses(targets: dict[str, losses.Target], logits: list[tf.Tensor]) -> dict[str, tf.Tensor]:
    """The losses of each term: KL to own answers, cross-entropy with labels."""
    return {
        name: (losses.kl if name == "online" else losses.cross_entropy)(target, its_logits)
        for (name, target), its_logits in zip(targets.items(), logits, strict=True)
    }
