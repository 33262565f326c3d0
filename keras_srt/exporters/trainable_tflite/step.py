"""The four signatures of `model_train.tflite`: infer, train, get_weights, set_weights."""

from __future__ import annotations

from typing import Any

from keras_srt.core.tensorflow import keras, tf
from keras_srt.device.trainer import SCALARS
from keras_srt.exporters.trainable_tflite.weights import weights_by_name


class SRTStep(tf.Module):
    """A classifier that takes one SRT step at a time, by SGD with momentum.

    All shapes are static. What `RobustModel` draws at random is an input here, because
    TFLite has no random operations that are builtins.

    Args:
        classifier: what `trainable_clone` made.
        labeled: images in a labeled batch.
        unlabeled: images in an unlabeled batch.
        num_steps: gradient steps k of the inner maximization.
    """

    def __init__(
        self, classifier: keras.Model, labeled: int, unlabeled: int, num_steps: int
    ) -> None:
        super().__init__()
        # Behind a function: saving the module must not trace the Keras model's own calls,
        # whose batch size is open.
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
        """The concrete functions, by the names of their signatures."""
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
        """Probabilities [1, classes] of an image [1, height, width, channels]."""
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
        """One step of eq. (15) with the L∞ neighborhood; updates weights and velocities.

        Args:
            labeled: float32 [m_L, height, width, channels] in [0, 1].
            labels: int32 [m_L], class ids.
            unlabeled: float32 [m_U, height, width, channels] in [0, 1].
            noise: float32 [m_L + m_U, height, width, channels] in [-1, 1]: the random start
                of the ascent in units of ε, labeled images first; zeros start at the images.
            learning_rate: of SGD.
            momentum: of SGD, from 0 to 1.
            weight_decay: factor of every trained weight in its gradient.
            epsilon: radius of the ball, in units of pixel values.
            step_size: of the ascent, in the same units.
            robust_weight: λ.

        Returns:
            `loss` and its terms `labeled` and `robust`, before the update, as `RobustModel`
            reports them.
        """
        images = tf.concat([labeled, unlabeled], axis=0)
        answers = self._one_hot(tf.argmax(self._logits(images, training=False), -1))
        perturbed = self._ascend(images, answers, noise, epsilon, step_size)
        weights = list(self._trained.values())
        with tf.GradientTape() as tape:
            # One pass over both, so that BatchNorm sees them together, as in training.
            logits = self._logits(tf.concat([labeled, perturbed], axis=0), training=True)
            # Not by slices, whose gradient is no builtin.
            clean, attacked = tf.split(logits, [labeled.shape[0], images.shape[0]])
            supervised = tf.reduce_mean(_cross_entropy(self._one_hot(labels), clean))
            robust = tf.reduce_mean(_cross_entropy(answers, attacked))
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
        """The state by name: weights, BatchNorm statistics, velocities."""
        return {name: tf.identity(variable) for name, variable in self.state.items()}

    def set_weights(self, *values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Replaces the whole state, in the order of `state`; gives how many values it has."""
        for variable, value in zip(self.state.values(), values, strict=True):
            variable.assign(value)
        count = sum(variable.shape.num_elements() for variable in self.state.values())
        return {"count": tf.constant(count, tf.int32)}

    def _ascend(
        self,
        images: tf.Tensor,
        answers: tf.Tensor,
        noise: tf.Tensor,
        epsilon: tf.Tensor,
        step_size: tf.Tensor,
    ) -> tf.Tensor:
        """Projected gradient ascent in the L∞ ball, as `keras_srt.neighborhoods.LInf` does."""
        low, high = tf.maximum(images - epsilon, 0.0), tf.minimum(images + epsilon, 1.0)
        now = tf.minimum(tf.maximum(images + epsilon * noise, low), high)
        for _ in range(self._num_steps):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(now)
                loss = _cross_entropy(answers, self._logits(now, training=False))
            moved = now + step_size * tf.sign(tape.gradient(loss, now))
            now = tf.minimum(tf.maximum(moved, low), high)
        return tf.stop_gradient(now)

    def _one_hot(self, labels: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(labels, self._num_classes)


def _cross_entropy(one_hot: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """CE of each image; TensorFlow's fused operation is no builtin of TFLite."""
    return -tf.reduce_sum(one_hot * tf.nn.log_softmax(logits), axis=-1)
