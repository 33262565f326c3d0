"""The four signatures of `model_train.tflite`: infer, train, get_weights, set_weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_srt.core.tensorflow import keras, tf, tf_variable
from keras_srt.device.trainer import input_shapes, scalars_of
from keras_srt.exporters.trainable_tflite.search import ascend, worst_transform
from keras_srt.exporters.trainable_tflite.weights import weights_by_name

if TYPE_CHECKING:
    from keras_srt.exporters.trainable_tflite.exporter import DeviceTrainingSettings


class SRTStep(tf.Module):
    """One step of SRT, or of RT if there are no unlabeled images, by SGD with momentum.

    All shapes are static. Random draws, which `RobustModel` makes itself, are inputs here, because
    TFLite has no builtin random operations.

    Args:
        classifier: Result of `trainable_clone`.
        settings: Settings of the step; only sizes and stages are used.
    """

    def __init__(self, classifier: keras.Model, settings: DeviceTrainingSettings) -> None:
        super().__init__()
        # A function, not the model: saving the module must not trace the calls of the Keras model,
        # whose batch size is unknown.
        self._logits = lambda images, training: classifier(images, training=training)
        self._shape, self._num_classes = classifier.input_shape[1:], classifier.output_shape[-1]
        self._settings = settings
        named = weights_by_name(classifier)
        trained = {id(tf_variable(weight)) for weight in classifier.trainable_weights}
        self._trained = {name: w for name, w in named.items() if id(w) in trained}
        self._velocities = {
            f"{name}_velocity": tf.Variable(tf.zeros_like(weight), trainable=False)
            for name, weight in self._trained.items()
        }
        self.state = named | self._velocities

    def signatures(self) -> dict[str, Any]:
        """Return the concrete functions by signature name."""
        shape, shapes = self._shape, input_shapes(vars(self._settings), self._shape)
        train = {name: tf.TensorSpec(size, name=name) for name, size in shapes.items()}
        train["labels"] = tf.TensorSpec([self._settings.labeled], tf.int32, "labels")
        train |= {name: tf.TensorSpec([], name=name) for name in scalars_of(self._settings.stages)}
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

    def train(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Update weights and velocities by one step on eq. (15).

        Args:
            **inputs: As in `keras_srt.device.trainer.Trainer.step`: `labeled`, `labels`,
                `unlabeled` if the step has unlabeled images, `noise` with a pixel ball, `draws`
                with a spatial stage, and the scalars.

        Returns:
            `loss` and its terms `labeled` and `robust` before the update, as in `RobustModel`.
        """
        labeled, images = inputs["labeled"], inputs["labeled"]
        if "unlabeled" in inputs:
            images = tf.concat([labeled, inputs["unlabeled"]], axis=0)
        logits = self._logits(images, training=False)
        targets = self._one_hot(tf.argmax(logits, -1))
        perturbed = self._maximize(images, targets, logits, inputs)
        weights = list(self._trained.values())
        with tf.GradientTape() as tape:
            # One pass, so that BatchNorm sees both parts together, as in `RobustModel`.
            logits = self._logits(tf.concat([labeled, perturbed], axis=0), training=True)
            # Not by slices, whose gradient is not a builtin operation.
            clean, attacked = tf.split(logits, [labeled.shape[0], images.shape[0]])
            supervised = tf.reduce_mean(_cross_entropy(self._one_hot(inputs["labels"]), clean))
            robust = tf.reduce_mean(_cross_entropy(targets, attacked))
            loss = supervised + inputs["robust_weight"] * robust
        gradients = tape.gradient(loss, weights)
        for weight, gradient, velocity in zip(
            weights, gradients, self._velocities.values(), strict=True
        ):
            slope = gradient + inputs["weight_decay"] * weight
            velocity.assign(inputs["momentum"] * velocity - inputs["learning_rate"] * slope)
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
        self, images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor, inputs: dict[str, tf.Tensor]
    ) -> tf.Tensor:
        """Search the stages in order, each from the result of the one before."""
        start_loss: tf.Tensor | None = _cross_entropy(labels, logits)

        def loss_fn(moved: tf.Tensor) -> tf.Tensor:
            return _cross_entropy(labels, self._logits(moved, training=False))

        for stage in self._settings.stages:
            if stage == "spatial":
                turn, shift = inputs["max_rotation"], inputs["max_translation"]
                start_loss = loss_fn(images) if start_loss is None else start_loss
                limits = tf.stack([turn, shift, shift])
                images = worst_transform(images, loss_fn, inputs["draws"], limits, start_loss)
            else:
                start = (inputs[name] for name in ("noise", "epsilon", "step_size"))
                images = ascend(images, loss_fn, stage, self._settings.num_steps, *start)
            start_loss = None
        return tf.stop_gradient(images)

    def _one_hot(self, labels: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(labels, self._num_classes)


def _cross_entropy(one_hot: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each image; TFLite has no builtin for TensorFlow's fused operation."""
    return -tf.reduce_sum(one_hot * tf.nn.log_softmax(logits), axis=-1)
