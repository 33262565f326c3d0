"""The four signatures of `model_train.tflite`: infer, train, get_weights, set_weights."""

from __future__ import annotations

from typing import Any

from keras_srt.core.tensorflow import keras, tf
from keras_srt.device.trainer import SCALARS
from keras_srt.exporters.trainable_tflite.weights import weights_by_name


class SRTStep(tf.Module):
    """One SRT step by SGD with momentum.

    All shapes are static. Random noise, which `RobustModel` draws itself, is an input here,
    because TFLite has no builtin random operations.

    Args:
        classifier: Result of `trainable_clone`.
        labeled: Images in a labeled batch.
        unlabeled: Images in an unlabeled batch.
        num_steps: Gradient steps k of the inner maximization.
    """

    def __init__(
        self, classifier: keras.Model, labeled: int, unlabeled: int, num_steps: int
    ) -> None:
        super().__init__()
        # A function, not the model: saving the module must not trace the calls of the Keras model,
        # whose batch size is unknown.
        self._logits = lambda images, training: classifier(images, training=training)
        self._shape, self._num_classes = classifier.input_shape[1:], classifier.output_shape[-1]
        self._sizes = labeled, unlabeled
        self._num_steps = num_steps
        named = weights_by_name(classifier)
        trained = {id(weight) for weight in classifier.trainable_weights}
        self._trained = {name: w for name, w in named.items() if id(w) in trained}
        self._velocities = {
            f"{name}_velocity": tf.Variable(tf.zeros_like(weight), trainable=False)
            for name, weight in self._trained.items()
        }
        self.state = named | self._velocities

    def signatures(self) -> dict[str, Any]:
        """Return the concrete functions by signature name."""
        labeled, unlabeled = self._sizes
        shape = self._shape
        images = {"labeled": labeled, "unlabeled": unlabeled, "noise": labeled + unlabeled}
        train = {name: tf.TensorSpec((n, *shape), name=name) for name, n in images.items()}
        train["labels"] = tf.TensorSpec([labeled], tf.int32, "labels")
        train |= {name: tf.TensorSpec([], name=name) for name in SCALARS}
        state = [tf.TensorSpec(v.shape, v.dtype, name) for name, v in self.state.items()]
        infer = tf.TensorSpec((1, *shape), name="image")
        return {
            "infer": tf.function(self.infer, autograph=False).get_concrete_function(infer),
            "train": tf.function(self.train, autograph=False).get_concrete_function(**train),
            "get_weights": tf.function(self.get_weights).get_concrete_function(),
            "set_weights": tf.function(self.set_weights).get_concrete_function(*state),
        }

    def infer(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute probabilities [1, classes] of an image [1, height, width, channels]."""
        return {"probabilities": tf.nn.softmax(self._logits(image, training=False))}

    def train(
        self,
        labeled: tf.Tensor,
        labels: tf.Tensor,
        unlabeled: tf.Tensor,
        noise: tf.Tensor,
        learning_rate: tf.Tensor,
        momentum: tf.Tensor,
        weight_decay: tf.Tensor,
        epsilon: tf.Tensor,
        step_size: tf.Tensor,
        robust_weight: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Update weights and velocities by one step on eq. (15) with the L∞ neighborhood.

        Args:
            labeled: Labeled images, float32 [m_L, height, width, channels] in [0, 1].
            labels: Class ids, int32 [m_L].
            unlabeled: Unlabeled images, float32 [m_U, height, width, channels] in [0, 1].
            noise: Random start in units of ε, float32 [m_L + m_U, height, width, channels] in
                [-1, 1], labeled images first; zeros start at the images.
            learning_rate: Learning rate of SGD.
            momentum: Momentum of SGD, in [0, 1].
            weight_decay: Weight decay of SGD.
            epsilon: Radius ε of the ball, in units of pixel values.
            step_size: Step size of the inner maximization, in the same units.
            robust_weight: Weight λ of the robust loss.

        Returns:
            `loss` and its terms `labeled` and `robust` before the update, as in `RobustModel`.
        """
        images = tf.concat([labeled, unlabeled], axis=0)
        targets = self._one_hot(tf.argmax(self._logits(images, training=False), -1))
        perturbed = self._maximize(images, targets, noise, epsilon, step_size)
        weights = list(self._trained.values())
        with tf.GradientTape() as tape:
            # One pass, so that BatchNorm sees both parts together, as in `RobustModel`.
            logits = self._logits(tf.concat([labeled, perturbed], axis=0), training=True)
            # Not by slices, whose gradient is not a builtin operation.
            clean, attacked = tf.split(logits, [labeled.shape[0], images.shape[0]])
            supervised = tf.reduce_mean(_cross_entropy(self._one_hot(labels), clean))
            robust = tf.reduce_mean(_cross_entropy(targets, attacked))
            loss = supervised + robust_weight * robust
        gradients = tape.gradient(loss, weights)
        for weight, gradient, velocity in zip(
            weights, gradients, self._velocities.values(), strict=True
        ):
            slope = gradient + weight_decay * weight
            velocity.assign(momentum * velocity - learning_rate * slope)
            weight.assign_add(velocity)
        return {"loss": loss, "labeled": supervised, "robust": robust}

    def get_weights(self) -> dict[str, tf.Tensor]:
        """Return the state by name: weights, BatchNorm statistics, velocities."""
        return {name: tf.identity(variable) for name, variable in self.state.items()}

    def set_weights(self, *values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Replace the state, given in the order of `state`; return the number of values."""
        for variable, value in zip(self.state.values(), values, strict=True):
            variable.assign(value)
        count = sum(variable.shape.num_elements() for variable in self.state.values())
        return {"count": tf.constant(count, tf.int32)}

    def _maximize(
        self,
        images: tf.Tensor,
        targets: tf.Tensor,
        noise: tf.Tensor,
        epsilon: tf.Tensor,
        step_size: tf.Tensor,
    ) -> tf.Tensor:
        """Projected gradient ascent in the L∞ ball, as in `keras_srt.neighborhoods.LInf`."""
        low, high = tf.maximum(images - epsilon, 0.0), tf.minimum(images + epsilon, 1.0)
        now = tf.minimum(tf.maximum(images + epsilon * noise, low), high)
        for _ in range(self._num_steps):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(now)
                loss = _cross_entropy(targets, self._logits(now, training=False))
            moved = now + step_size * tf.sign(tape.gradient(loss, now))
            now = tf.minimum(tf.maximum(moved, low), high)
        return tf.stop_gradient(now)

    def _one_hot(self, labels: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(labels, self._num_classes)


def _cross_entropy(one_hot: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each image; TFLite has no builtin for TensorFlow's fused operation."""
    return -tf.reduce_sum(one_hot * tf.nn.log_softmax(logits), axis=-1)
