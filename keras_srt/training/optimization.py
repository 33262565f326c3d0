"""From gradients to weights: optimizer, learning rate, clipping, loss scaling, averaging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_srt.core.tensorflow import keras, tf

# Loss scaling starts here, and doubles after so many good steps in a row.
_FIRST_SCALE, _PATIENCE = 2.0**15, 2000


def make_optimizer(
    name: str, learning_rate: Any, momentum: float = 0.9, weight_decay: float = 0.0
) -> keras.optimizers.Optimizer:
    """The optimizer of that name; `Update` says who sees to the weight decay of which.

    Args:
        name: "sgd", v ← μ·v - η·g, w ← w + v, or "adamw", w ← w - η·(m̂/(√v̂ + 1e-7) + λ·w).
        learning_rate: η, a number or a Keras schedule.
        momentum: μ, or the β₁ of AdamW; its β₂ is 0.999.
        weight_decay: λ of AdamW, decoupled from the gradient; SGD leaves it to `Update`.

    Returns:
        A Keras optimizer.

    Example:
        >>> make_optimizer("adamw", 0.001, weight_decay=0.05).weight_decay
        0.05

    Source: Loshchilov & Hutter 2019, algorithm 2.
    """
    if name == "adamw":
        return keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, beta_1=momentum)
    return keras.optimizers.SGD(learning_rate, momentum=momentum)


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate times min(1, step / steps): it rises linearly from 0, then is itself.

    Args:
        rate: a number or a Keras schedule.
        steps: of the rise, at least 1.

    Example:
        >>> round(float(Warmup(0.5, steps=10)(4)), 6)
        0.2
    """

    def __init__(self, rate: Any, steps: int) -> None:
        self.rate, self.steps = rate, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of a step, float32 scalar."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        return rate * tf.minimum(1.0, tf.cast(step, tf.float32) / self.steps)

    def get_config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"rate": self.rate, "steps": self.steps}


class LossScale:
    """A factor on the loss that keeps gradients in float16 from vanishing.

    It halves (to 1 at least) where a gradient isn't finite, and doubles after some steps in a
    row where all are.
    Source: Micikevicius et al. 2018 (Mixed precision training), section 3.2.

    Args:
        first: the factor at the start.
        patience: how many good steps in a row double it.
    """

    def __init__(self, first: float = _FIRST_SCALE, patience: int = _PATIENCE) -> None:
        self.value = tf.Variable(first, trainable=False, dtype=tf.float32, name="loss_scale")
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int32, name="good_steps")
        self._patience = patience

    def adjust(self, finite: tf.Tensor) -> None:
        """Halves, doubles or keeps the factor after a step.

        Args:
            finite: bool scalar, whether all gradients were.
        """
        value, good = tf.identity(self.value), tf.identity(self.good_steps) + 1
        grows = good >= self._patience
        after = tf.where(finite, tf.where(grows, 2.0 * value, value), tf.maximum(1.0, value / 2.0))
        _assign((self.value, self.good_steps), (after, tf.where(finite & ~grows, good, 0)))

    def for_search(self, classifier: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        """The classifier with gradients to its input that are larger, of the same direction.

        A search looks at the direction alone, and one step over many images that the model is
        sure of has gradients far below what float16 holds. Their factor is that of the loss's
        mean: value / images. What overflows counts as 0.

        Args:
            classifier: (images, training) -> logits float32 [batch, classes].

        Returns:
            The same, for searches.
        """
        scale = tf.identity(self.value)

        @tf.custom_gradient
        def scale_gradient(logits: tf.Tensor) -> tuple[tf.Tensor, Any]:
            factor = scale / tf.cast(tf.shape(logits)[0], tf.float32)
            return tf.identity(logits), lambda upstream: factor * upstream

        @tf.custom_gradient
        def mask_nonfinite(images: tf.Tensor) -> tuple[tf.Tensor, Any]:
            return tf.identity(images), lambda upstream: tf.where(
                tf.math.is_finite(upstream), upstream, 0.0
            )

        return lambda images, training=False: scale_gradient(
            classifier(mask_nonfinite(images), training=training)
        )


class WeightAverage:
    """An exponential moving average of weights and BatchNorm statistics, as a classifier.

    a ← a + (1 - d)·(w - a) after each step t, with d = min(decay, (1 + t)/(10 + t)), so that
    the initial weights don't stay in it for long.
    Source: Polyak & Juditsky 1992; for robust training Gowal et al. 2020 (Uncovering the
    limits), section 4.3; d as in `tf.train.ExponentialMovingAverage`.

    Args:
        classifier: built; of its architecture the average is made.
        decay: in [0, 1), 0.995 to 0.9999 usually.

    Attributes:
        classifier: with the averaged weights.
    """

    def __init__(self, classifier: keras.Model, decay: float) -> None:
        self.classifier = keras.models.clone_model(classifier)
        self.classifier.set_weights(classifier.get_weights())
        self._decay = decay

    def follow(self, classifier: keras.Model, step: tf.Tensor) -> None:
        """Takes the weights of a classifier into the average.

        Args:
            classifier: after a step.
            step: int64 scalar, the number of that step, the first is 0.
        """
        count = tf.cast(step, tf.float32)
        rate = 1.0 - tf.minimum(self._decay, (1.0 + count) / (10.0 + count))
        moved = []
        for average, weight in zip(self.classifier.weights, classifier.weights, strict=True):
            if tf.as_dtype(weight.dtype).is_floating:
                moved.append(average + tf.cast(rate, weight.dtype) * (weight - average))
            else:
                moved.append(tf.identity(weight))
        _assign(self.classifier.weights, moved)


class Update:
    """One step from the gradients of a loss to new weights.

    Divided by the loss scale, summed over replicas, clipped, with the weight decay of SGD
    added, applied, averaged, in this order. A part that isn't asked for costs nothing.

    Args:
        gradient_clip: largest global norm of the gradients of all weights together; longer
            ones are shortened to it. None for no bound.
        average: follows the weights, or None.
        loss_scale: for float16, or None.
    """

    def __init__(
        self,
        gradient_clip: float | None = None,
        average: WeightAverage | None = None,
        loss_scale: LossScale | None = None,
    ) -> None:
        self.gradient_clip, self.average, self.loss_scale = gradient_clip, average, loss_scale

    @property
    def checkpointed(self) -> dict[str, Any]:
        """What a checkpoint must hold besides weights and optimizer, by name."""
        held: dict[str, Any] = {}
        if self.average is not None:
            held["average"] = self.average.classifier
        if self.loss_scale is not None:
            held["loss_scale"] = self.loss_scale.value
            held["good_steps"] = self.loss_scale.good_steps
        return held

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables of `checkpointed`."""
        held = self.checkpointed.values()
        return [v for part in held for v in getattr(part, "weights", [part])]

    def for_search(self, classifier: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        """The classifier as searches should see it, see `LossScale.for_search`."""
        return classifier if self.loss_scale is None else self.loss_scale.for_search(classifier)

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate: times the loss scale, if there is one."""
        return loss if self.loss_scale is None else loss * self.loss_scale.value

    def apply(
        self,
        optimizer: keras.optimizers.Optimizer,
        classifier: keras.Model,
        gradients: Sequence[tf.Tensor],
        weight_decay: float = 0.0,
    ) -> None:
        """Changes the weights of the classifier.

        The step counts even where gradients that aren't finite leave the weights as they were.

        Args:
            optimizer: whose `iterations` is the number of the step.
            classifier: its trainable weights are changed.
            gradients: of `scaled(loss)`, one for each of them.
            weight_decay: λ; λ·w is added to the (clipped) gradient of every trainable weight.
                0 for optimizers that decay weights themselves, as AdamW.
        """
        weights, step = classifier.trainable_variables, tf.identity(optimizer.iterations)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if self.loss_scale is not None:
            gradients = [g / self.loss_scale.value for g in gradients]
        if replicas > 1 and (self.loss_scale is not None or self.gradient_clip is not None):
            # Both look at the gradients of the whole batch. The optimizer sums once more.
            context = tf.distribute.get_replica_context()
            gradients = [g / replicas for g in context.all_reduce("sum", list(gradients))]
        finite = _all_finite(gradients) if self.loss_scale is not None else None
        if self.gradient_clip is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.gradient_clip / replicas)
        if weight_decay:
            decay = weight_decay / replicas
            gradients = [g + decay * w for g, w in zip(gradients, weights, strict=True)]
        pairs = list(zip(gradients, weights, strict=True))
        if self.loss_scale is None:
            optimizer.apply_gradients(pairs)
        else:
            _apply_if(finite, optimizer, pairs)
            self.loss_scale.adjust(finite)
        if self.average is not None:
            self.average.follow(classifier, step)


def _all_finite(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Whether no value is infinite or NaN: bool scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])


def _apply_if(
    finite: tf.Tensor,
    optimizer: keras.optimizers.Optimizer,
    pairs: list[tuple[tf.Tensor, tf.Variable]],
) -> None:
    """Applies gradients, or leaves weights and optimizer, but for its step, as they are.

    What was changed is put back, rather than not changed: replicas can't agree on a sum
    inside a branch.
    """
    with tf.init_scope():
        optimizer.build([weight for _, weight in pairs])
    kept = [weight for _, weight in pairs]
    kept += [variable for variable in optimizer.variables if variable is not optimizer.iterations]
    before = [tf.identity(variable) for variable in kept]
    optimizer.apply_gradients(pairs)
    after = [tf.where(finite, new, old) for new, old in zip(kept, before, strict=True)]
    _assign(kept, after)


def _assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    """Sets variables inside a replica to values that are alike in all replicas."""

    def everywhere(strategy: tf.distribute.Strategy, *values: Any) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(variable, lambda v, new: v.assign(new), args=(value,))

    tf.distribute.get_replica_context().merge_call(everywhere, args=tuple(values))
