"""TRADES: right on the images, and the same answer in their neighborhoods."""

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
)


class Pairs(NamedTuple):
    """Images and what the search made of them.

    Attributes:
        images: float32 [m, height, width, channels], untampered.
        labels: int32 [m], what their answers should be.
        perturbed: float32 [m, height, width, channels]: x'.
    """

    images: tf.Tensor
    labels: tf.Tensor
    perturbed: tf.Tensor


@component
class Consistency(Objective):
    """mean L(f(x), y) + β·mean max_{x'∈N(x)} KL(f(x)‖f(x')): what TRADES, RST and KLR share.

    Both answers carry gradient: f(x) is not detached, and one pass in training mode gives
    both. The search itself compares with f(x) in inference mode.

    Args:
        robust_weight: β.
        clean_loss: L, see `losses.get`.

    Attributes:
        answered_parts: of a batch, those that `answered` gives, in order.
    """

    answered_parts: ClassVar[tuple[str, ...]] = ("labeled",)
    warmed_terms: ClassVar[tuple[str, ...]] = ("robust",)

    robust_weight: Annotated[float, validation.real(0)] = field(default=1.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"

    def check(self, neighborhood: Neighborhood | None) -> None:
        """Refuses no neighborhood, and an ascent that starts where KL has no slope."""
        super().check(neighborhood)
        check_start(self, self.required(neighborhood))

    def answered(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """The images of a batch that are trained on, and what their answers should be."""
        return batch.images, batch.labels

    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        neighborhood: Neighborhood | None,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
    ) -> Pairs:
        """The images with those of their neighborhoods whose answers differ most, by KL."""
        images, labels = self.answered(batch)
        logits = tf.stop_gradient(classifier(images, training=False))
        own = losses.Target(labels, logits)
        found = self.searched(self.required(neighborhood)).maximize(
            images,
            lambda moved: losses.kl(own, classifier(moved, training=False)),
            batch.seed_for(seed, *self.answered_parts),
            scale,
            start_loss=tf.zeros_like(logits[:, 0]),
        )
        return Pairs(images, labels, tf.stop_gradient(found.images))

    def terms(self, classifier: Classifier, prepared: Pairs) -> dict[str, LossTerm]:
        """The clean loss, and β times the KL between the answers before and after."""
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
    def term_names(self) -> tuple[str, ...]:
        """`labeled` (the clean loss) and `robust` (KL)."""
        return ("labeled", "robust")

    def passes(self, neighborhood: Neighborhood | None, labeled: int, unlabeled: int) -> StepPasses:
        """One clean pass, the search, and a training pass over the images and their x'."""
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

    Unlike RT with `robust_loss` "kl", f(x) carries gradient in both terms and is taken in
    training mode. The original starts its ascent at x + 0.001·N(0, 1), which is a pixel
    ball's `random_start` of 0.001; with the default, it starts anywhere in the ball.
    Source: Zhang et al. 2019, eq. (5); β = 1 on MNIST, 6 on CIFAR-10.

    Args:
        robust_weight: β (1/λ of the paper).
        clean_loss: L, see `losses.get`.

    Example:
        >>> from keras_srt.neighborhoods import LInf
        >>> Trades(robust_weight=6).passes(LInf(epsilon=0.3, num_steps=40), 128, 0)
        StepPasses(forward=128, gradient=5120, training=256)
    """

    name: ClassVar[str] = "trades"
