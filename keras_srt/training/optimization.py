"""From gradients to new weights: optimizers, clipping, loss scaling, weight averaging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_srt.core.scaling import power_of_two
from keras_srt.core.tensorflow import keras, tf, tf_variable

_INITIAL_LOSS_SCALE = 2.0**15
_DOUBLE_AFTER_STEPS = 2000


def make_optimizer(
    name: str,
    learning_rate: Any,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> keras.optimizers.Optimizer:
    """Make an optimizer by name.

    Args:
        name: "sgd", v ← μ·v - η·g, w ← w + v, or "adamw", w ← w - η·(m̂/(√v̂ + 1e-7) + λ·w).
        learning_rate: η, a number or a Keras schedule.
        momentum: μ of SGD, β₁ of AdamW. β₂ is 0.999.
        weight_decay: λ of AdamW, decoupled from the gradient. For SGD, pass the weight decay
            to `Update.apply` instead.
        nesterov: Whether SGD uses Nesterov's momentum, w ← w + μ·v - η·g.

    Returns:
        A Keras optimizer.

    Example:
        >>> make_optimizer("adamw", 0.001, weight_decay=0.05).weight_decay
        0.05

    Source: Loshchilov & Hutter 2019, algorithm 2.
    """
    if name == "adamw":
        return keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, beta_1=momentum)
    return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov)


@keras.saving.register_keras_serializable("keras_srt")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate multiplied by min(1, step / steps).

    Args:
        rate: A number or a Keras schedule.
        steps: Length of the warmup in steps, at least 1.

    Example:
        >>> round(float(Warmup(0.5, steps=10)(4)), 6)
        0.2
    """

    def __init__(self, rate: Any, steps: int) -> None:
        self.rate, self.steps = rate, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of a step, a float32 scalar."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        return rate * tf.minimum(1.0, tf.cast(step, tf.float32) / self.steps)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, serialized."""
        return {"rate": keras.saving.serialize_keras_object(self.rate), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Warmup:
        """Make a schedule from what `get_config` returned."""
        return cls(keras.saving.deserialize_keras_object(config["rate"]), config["steps"])


@keras.saving.register_keras_serializable("keras_srt")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that stays constant and then falls linearly to 0.

    Args:
        rate: The rate at the start.
        hold: Steps at this rate.
        steps: The step at which the rate is 0.

    Example:
        >>> decay = LinearDecay(0.5, hold=10, steps=20)
        >>> [round(float(decay(step)), 6) for step in (0, 10, 15, 20)]
        [0.5, 0.5, 0.25, 0.0]
    """

    def __init__(self, rate: float, hold: int, steps: int) -> None:
        self.rate, self.hold, self.steps = rate, hold, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of a step, a float32 scalar."""
        left = (self.steps - tf.cast(step, tf.float32)) / (self.steps - self.hold)
        return self.rate * tf.clip_by_value(left, 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"rate": self.rate, "hold": self.hold, "steps": self.steps}


class LossScale:
    """A dynamic loss scale that keeps float16 gradients from underflowing.

    The scale halves, to no less than 1, when a gradient is not finite. It doubles after a
    number of consecutive steps with finite gradients. Keras' `LossScaleOptimizer` is not used,
    because it can't scale the gradients of the inner maximization.

    Args:
        initial: Initial scale.
        double_after: Number of consecutive finite steps after which the scale doubles.

    Source: Micikevicius et al. 2018 (Mixed precision training), section 3.2.
    """

    def __init__(
        self, initial: float = _INITIAL_LOSS_SCALE, double_after: int = _DOUBLE_AFTER_STEPS
    ) -> None:
        self.value = tf.Variable(initial, trainable=False, dtype=tf.float32, name="loss_scale")
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int32, name="good_steps")
        self._double_after = double_after

    def adjust(self, finite: tf.Tensor) -> None:
        """Halve, double or keep the scale after a step.

        Args:
            finite: Bool scalar: whether all gradients were finite.
        """
        value, good = tf.identity(self.value), tf.identity(self.good_steps) + 1
        grows = good >= self._double_after
        after = tf.where(finite, tf.where(grows, 2.0 * value, value), tf.maximum(1.0, value / 2.0))
        _assign((self.value, self.good_steps), (after, tf.where(finite & ~grows, good, 0)))

    def scale_input_gradients(self, classifier: Callable[..., tf.Tensor]) -> Callable[..., Any]:
        """Wrap a classifier so that the gradients with respect to its input are scaled.

        A neighborhood's search uses the direction of a gradient only, and the gradient of a mean
        over many confidently classified images underflows in float16. The factor is
        scale / batch, that of the mean loss; for an image of a smaller gradient it is larger by
        a power of two, as if the largest slope of its logits were between 1 and 2. Gradients that
        overflow become 0.

        Args:
            classifier: (images, training) -> logits, float32 [batch, classes].

        Returns:
            A function with the classifier's arguments and results.
        """
        scale = tf.identity(self.value)

        @tf.custom_gradient
        def scale_gradient(logits: tf.Tensor) -> tuple[tf.Tensor, Any]:
            factor = scale / tf.cast(tf.shape(logits)[0], tf.float32)

            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                size = tf.minimum(power_of_two(tf.reduce_max(tf.abs(upstream), axis=-1)), 1.0)
                return factor / size[:, None] * upstream

            return tf.identity(logits), gradient

        @tf.custom_gradient
        def mask_nonfinite(images: tf.Tensor) -> tuple[tf.Tensor, Any]:
            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                return tf.where(tf.math.is_finite(upstream), upstream, 0.0)

            return tf.identity(images), gradient

        return lambda images, training=False: scale_gradient(
            classifier(mask_nonfinite(images), training=training)
        )


class WeightAverage:
    """An exponential moving average (EMA) of a classifier's weights and BatchNorm statistics.

    a ← a + (1 - d)·(w - a) after step t, with d = min(decay, (1 + t)/(10 + t)), so that the
    initial weights fade quickly. Keras optimizers' `use_ema` is not used, because it leaves out
    BatchNorm statistics and overwrites the trained weights.

    Args:
        classifier: A built classifier, which is cloned.
        decay: In [0, 1), usually 0.995 to 0.9999.

    Attributes:
        classifier: The clone that holds the averaged weights. It is not trainable.

    Source: Polyak & Juditsky 1992; for robust training Gowal et al. 2020 (Uncovering the
    limits), section 4.3; d as in `tf.train.ExponentialMovingAverage`.
    """

    def __init__(self, classifier: keras.Model, decay: float) -> None:
        self.classifier = keras.models.clone_model(classifier)
        self.classifier.set_weights(classifier.get_weights())
        self.classifier.trainable = False
        self.decay = decay

    def update(self, classifier: keras.Model, step: tf.Tensor) -> None:
        """Update the average with a classifier's current weights.

        Args:
            classifier: The trained classifier after the step.
            step: int64 scalar: the number of the step, starting at 0.
        """
        count = tf.cast(step, tf.float32)
        rate = 1.0 - tf.minimum(self.decay, (1.0 + count) / (10.0 + count))
        updated = []
        for average, weight in zip(self.classifier.weights, classifier.weights, strict=True):
            if tf.as_dtype(weight.dtype).is_floating:
                updated.append(average + tf.cast(rate, weight.dtype) * (weight - average))
            else:
                updated.append(tf.identity(weight))
        _assign(self.classifier.weights, updated)


class Update:
    """One optimizer step: from the gradients of the scaled loss to new weights.

    In this order, gradients are divided by the loss scale, summed over replicas, clipped, and
    increased by the weight decay; then they are applied, and the weight average is updated.

    Args:
        gradient_clip: Maximum global norm of the gradients of all weights together, or None.
        average: The weight average, or None.
        loss_scale: The loss scale for float16, or None.
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
        """The objects that a checkpoint saves besides weights and optimizer, by name."""
        objects: dict[str, Any] = {}
        if self.average is not None:
            objects["average"] = self.average.classifier
        if self.loss_scale is not None:
            objects["loss_scale"] = self.loss_scale.value
            objects["good_steps"] = self.loss_scale.good_steps
        return objects

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables of `checkpointed`."""
        objects = self.checkpointed.values()
        return [v for part in objects for v in getattr(part, "weights", [part])]

    def for_search(self, classifier: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        """The classifier for the inner maximization; see `LossScale.scale_input_gradients`."""
        scale = self.loss_scale
        return classifier if scale is None else scale.scale_input_gradients(classifier)

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate: multiplied by the loss scale, if any."""
        return loss if self.loss_scale is None else loss * self.loss_scale.value

    def apply(
        self,
        optimizer: keras.optimizers.Optimizer,
        classifier: keras.Model,
        gradients: Sequence[tf.Tensor],
        weight_decay: float = 0.0,
        weights: Sequence[tf.Variable] | None = None,
    ) -> None:
        """Update trainable weights of the classifier.

        The optimizer's step count increases even if the update is skipped because a gradient
        is not finite.

        Args:
            optimizer: The optimizer; its `iterations` is the number of the step.
            classifier: The classifier to update.
            gradients: Gradients of `scaled(loss)`, one for each weight to update.
            weight_decay: λ; λ·w is added to the clipped gradient of each weight. 0 for optimizers
                with decoupled weight decay, such as AdamW.
            weights: The weights to update; None for all trainable weights.
        """
        trainable, step = classifier.trainable_variables, tf.identity(optimizer.iterations)
        weights = trainable if weights is None else weights
        with tf.init_scope():  # variables made inside the step fail on several devices in Keras 3
            optimizer.build(trainable)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if self.loss_scale is not None:
            gradients = [g / self.loss_scale.value for g in gradients]
        if replicas > 1 and (self.loss_scale is not None or self.gradient_clip is not None):
            # Clipping and the overflow check need the global gradients. Dividing by the number of
            # replicas compensates for the sum in `apply_gradients`.
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
            self.average.update(classifier, step)


def _all_finite(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Whether no value is infinite or NaN: bool scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])


def _apply_if(
    finite: tf.Tensor,
    optimizer: keras.optimizers.Optimizer,
    pairs: list[tuple[tf.Tensor, tf.Variable]],
) -> None:
    """Apply gradients if they are finite; otherwise only increase the step count.

    The gradients are applied and then reverted, because replicas can't all-reduce inside a
    conditional branch.
    """
    changed = [weight for _, weight in pairs]
    changed += [v for v in optimizer.variables if v is not optimizer.iterations]
    before = [tf.identity(variable) for variable in changed]
    optimizer.apply_gradients(pairs)
    after = [tf.where(finite, new, old) for new, old in zip(changed, before, strict=True)]
    _assign(changed, after)


def _assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    """Assign values that are equal on all replicas, from within a replica."""

    def assign_all(strategy: tf.distribute.Strategy, *values: Any) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(
                tf_variable(variable), lambda v, new: v.assign(new), args=(value,)
            )

    tf.distribute.get_replica_context().merge_call(assign_all, args=tuple(values))
