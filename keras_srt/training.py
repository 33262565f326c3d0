"""`RobustModel`: a Keras model that trains a classifier by an objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_srt.checks import InvalidSettings
from keras_srt.lazy import keras, tf
from keras_srt.neighborhoods import Neighborhood
from keras_srt.neighborhoods.base import fold
from keras_srt.objectives import SRT, Batch, Objective
from keras_srt.objectives.losses import Target, cross_entropy

# Step (int64 scalar) -> share of the full neighborhood, float32 scalar in [0, 1].
Strength = Callable[["tf.Tensor"], "tf.Tensor"]


def linear_strength(warmup_steps: int) -> Strength:
    """The neighborhood grows linearly from nothing to its full size, then stays.

    Early in training a full L∞ ball of ε = 0.3 leaves MNIST models at chance for long;
    growing it is the usual cure (e.g. Gowal et al. 2018, section 4).

    Args:
        warmup_steps: after how many steps it has its full size; 0 for at once.

    Returns:
        step -> share in [0, 1].
    """

    def strength(step: tf.Tensor) -> tf.Tensor:
        return tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / max(1, warmup_steps))

    return strength


class RobustModel(keras.Model):
    """Trains any Keras classifier to resist the tampering of a neighborhood.

    `fit` takes batches `{"labeled": (images, labels), "unlabeled": images}`, with
    `"pseudo_labels"` of the unlabeled images for objectives that have a teacher, or plain
    `(images, labels)` for objectives that use labeled images alone. `evaluate` reports
    clean accuracy and the accuracy that is left in the neighborhood (true labels).

    Args:
        classifier: images float32 [batch, height, width, channels] in [0, 1] -> logits
            [batch, classes], normalization included.
        neighborhood: the tampering to resist; None only for objectives that use none.
        objective: the training loss.
        seed: of all random draws; a draw is a function of (seed, step) alone.
        strength: step -> share of the full neighborhood that training searches.
        weight_decay: the gradient of ½·weight_decay·‖w‖² is added to that of the loss
            for every trainable weight, as the paper's SGD does.

    Example:
        >>> import keras
        >>> from keras_srt import LInf, RobustModel, SRT
        >>> classifier = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])
        >>> model = RobustModel(classifier, LInf(epsilon=0.1), SRT())
        >>> model.compile(optimizer="sgd")
    """

    def __init__(
        self,
        classifier: keras.Model,
        neighborhood: Neighborhood | None,
        objective: Objective | None = None,
        *,
        seed: int = 0,
        strength: Strength | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.neighborhood = neighborhood
        self.objective = objective if objective is not None else SRT()
        self.objective.check(neighborhood)
        self.seed = seed
        self.strength = strength if strength is not None else linear_strength(0)
        self.weight_decay = weight_decay
        names = ("loss", *self.objective.term_names)
        self._term_metrics = {name: keras.metrics.Mean(name=name) for name in names}
        self._accuracy = keras.metrics.Mean(name="accuracy")
        self._robust_accuracy = keras.metrics.Mean(name="robust_accuracy")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Loss and loss terms of training; accuracies of evaluation."""
        return [*self._term_metrics.values(), self._accuracy, self._robust_accuracy]

    def compile(self, optimizer: Any = "sgd", **kwargs: Any) -> None:
        """As `keras.Model.compile`; XLA is off by default: the transform op has no kernel."""
        super().compile(optimizer=optimizer, **{"jit_compile": False, **kwargs})

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits [batch, classes]."""
        return self.classifier(images, training=training)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Pseudo-labels and inner maximization, then one optimizer step on the loss terms."""
        batch = self._as_batch(data)
        step = self.optimizer.iterations
        prepared = self.objective.prepare(
            self.classifier, batch, self.neighborhood, self._seed_at(step), self.strength(step)
        )
        with tf.GradientTape() as tape:
            terms = self.objective.terms(self.classifier, prepared)
            means = {name: tf.reduce_mean(term.values) for name, term in terms.items()}
            loss = tf.add_n([terms[name].weight * mean for name, mean in means.items()])
            penalties = self.classifier.losses
            total = tf.add_n([loss, *penalties]) if penalties else loss
            # Replicas have equal shares of a batch, and their gradients are summed.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            total = total / replicas
        weights = self.classifier.trainable_variables
        gradients = tape.gradient(
            total, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        if self.weight_decay:
            decay = self.weight_decay / replicas
            gradients = [g + decay * w for g, w in zip(gradients, weights, strict=True)]
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        for name, value in {"loss": loss, **means}.items():
            self._term_metrics[name].update_state(value)
        return {name: metric.result() for name, metric in self._term_metrics.items()}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Accuracy on clean images, and where they stay right in the neighborhood."""
        images, labels = data
        target = Target(tf.cast(tf.reshape(labels, [-1]), tf.int32))

        def is_right(logits: tf.Tensor) -> tf.Tensor:
            return tf.equal(tf.argmax(logits, -1, output_type=tf.int32), target.labels)

        logits = self.classifier(images, training=False)
        right = is_right(logits)
        self._accuracy.update_state(tf.cast(right, tf.float32))
        if self.neighborhood is None:
            return {"accuracy": self._accuracy.result()}
        found = self.neighborhood.maximize(
            images,
            lambda moved: cross_entropy(target, self.classifier(moved, training=False)),
            tf.stack([self.seed, 0]),
            start_loss=cross_entropy(target, logits),
        )
        still = right & is_right(self.classifier(found.images, training=False))
        self._robust_accuracy.update_state(tf.cast(still, tf.float32))
        return {
            "accuracy": self._accuracy.result(),
            "robust_accuracy": self._robust_accuracy.result(),
        }

    def _as_batch(self, data: Any) -> Batch:
        given = dict(data) if isinstance(data, Mapping) else {"labeled": data}
        if "labeled" not in given or not given.keys() <= {"labeled", "unlabeled", "pseudo_labels"}:
            raise InvalidSettings(
                [
                    f"batch: got the keys {sorted(given)}; allowed: labeled and, for objectives "
                    "that use them, unlabeled and pseudo_labels"
                ]
            )
        (images, labels), objective = given["labeled"], self.objective
        unlabeled, answers = given.get("unlabeled"), given.get("pseudo_labels")
        if objective.uses_unlabeled and unlabeled is None:
            raise InvalidSettings(
                [
                    "batch: got no unlabeled images; allowed: {'labeled': (images, labels), "
                    f"'unlabeled': images}}, because the objective is {objective.name!r} "
                    f"({objective.without_unlabeled!r} is the same without unlabeled images)"
                ]
            )
        if objective.uses_teacher and answers is None:
            raise InvalidSettings(
                [
                    "batch: got no pseudo_labels; allowed: class ids of the unlabeled images, "
                    f"because the objective {objective.name!r} takes a teacher's answers for labels"
                ]
            )
        answers = None if answers is None else _as_class_ids(answers)
        return Batch(images, _as_class_ids(labels), unlabeled, answers)

    def _seed_at(self, step: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return fold(tf.stack([self.seed, tf.cast(step, tf.int32)]), replica)


def _as_class_ids(labels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reshape(labels, [-1]), tf.int32)
