"""TRADES, and the loss that it shares with RST and KLR."""

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


class Pairs(NamedTuple):
    """Images with their labels and perturbed images.

    Attributes:
        images: float32 [m, height, width, channels], unperturbed.
        labels: int32 [m], class ids of `images`.
        perturbed: float32 [m, height, width, channels]: x'.
    """

    images: tf.Tensor
    labels: tf.Tensor
    perturbed: tf.Tensor


@component
class Consistency(Objective):
    """mean L(f(x), y) + β·mean max_{x'∈N(x)} KL(f(x)‖f(x')): the loss of TRADES, RST, KLR.

    f(x) is not detached: both predictions carry a gradient, and one pass in training mode
    computes both. The search compares with f(x) in inference mode.

    Args:
        robust_weight: β.
        clean_loss: L; see `losses.get`.

    Attributes:
        trained_parts: The parts of a batch that `examples` returns, in order.
    """

    trained_parts: ClassVar[tuple[str, ...]] = ("labeled",)
    warmed_terms: ClassVar[tuple[str, ...]] = ("robust",)

    robust_weight: Annotated[float, validation.real(0)] = field(default=1.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"

    @override
    def check(self, neighborhood: Neighborhood | None) -> None:
        super().check(neighborhood)
        check_start(self, self.required(neighborhood))

    def examples(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the images of a batch to train on, and their labels or pseudo-labels."""
        return batch.images, batch.labels

    @override
    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        neighborhood: Neighborhood | None,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> Pairs:
        """Find the images of the neighborhoods whose predictions differ most in KL."""
        images, labels = self.examples(batch)
        logits = tf.stop_gradient(classifier(images, training=False))
        own = losses.Target(labels, logits)
        found = self.searched(self.required(neighborhood)).maximize(
            images,
            lambda moved: losses.kl(own, classifier(moved, training=False)),
            batch.seed_for(seed, *self.trained_parts),
            scale,
            start_loss=tf.zeros_like(logits[:, 0]),
        )
        return Pairs(images, labels, tf.stop_gradient(found.images))

    @override
    def terms(self, classifier: Classifier, prepared: Pairs) -> dict[str, LossTerm]:
        images, labels, perturbed = prepared
        logits = classifier(tf.concat([images, perturbed], axis=0), training=True)
        before, after = tf.split(logits, 2)
        clean = losses.get(self.clean_loss)
        values = (
            LossTerm(clean(losses.Target(labels), before)),
            LossTerm(
                losses.kl(losses.Target(labels, before), after),
                self.robust_weight,
            ),
        )
        return dict(zip(self.term_names, values, strict=True))

    @property
    @override
    def term_names(self) -> tuple[str, ...]:
        return ("labeled", "robust")

    @override
    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        images = labeled + (unlabeled if self.uses_unlabeled else 0)
        search = self.searched(self.required(neighborhood)).passes
        return StepPasses(
            forward=(1 + search.forward) * images,
            gradient=search.gradient * images,
            training=2 * images,
        )


@component
class Trades(Consistency):
    """mean_L L(f(x), y) + β·mean_L max_{x'∈N(x)} KL(f(x)‖f(x')).

    Unlike RT with `robust_loss` "kl", f(x) carries a gradient in both terms and is computed in
    training mode. The paper starts the ascent at x + 0.001·N(0, 1); set a pixel ball's
    `random_start` to 0.001 for this. By default, it starts at a random point of the ball.
    Source: Zhang et al. 2019, eq. (5); β = 1 on MNIST, 6 on CIFAR-10.

    Args:
        robust_weight: β (1/λ of the paper).
        clean_loss: L; see `losses.get`.

    Example:
        >>> from keras_srt.neighborhoods import LInf
        >>> Trades(robust_weight=6).passes(LInf(epsilon=0.3, num_steps=40), 128, 0)
        StepPasses(forward=128, gradient=5120, training=256)
    """

    name: ClassVar[str] = "trades"
