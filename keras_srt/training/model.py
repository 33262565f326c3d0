"""`RobustModel`: a Keras model that trains a classifier by an objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras, tf
from keras_srt.models.dropout import drawing_from
from keras_srt.neighborhoods import Neighborhood
from keras_srt.neighborhoods.draws import fold
from keras_srt.objectives import SRT, Batch, Objective
from keras_srt.objectives.losses import Target, cross_entropy
from keras_srt.training import replicas
from keras_srt.training.optimization import Update
from keras_srt.training.schedules import SearchGrowth, check_weight_warmup, warmed

# Folded into the seed of a step for Dropout.
_DROPOUT = 7919
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
        seed: of all random draws; a draw is a function of (seed, step, row of the global
            batch) alone.
        strength: step -> share of the full neighborhood that training searches.
        weight_decay: the gradient of ½·weight_decay·‖w‖² is added to that of the loss
            for every trainable weight, as the paper's SGD does.
        update: clipping, loss scaling and averaging, on the way from gradients to weights.
        search_growth: steps over which the search grows to its full number of rounds, see
            `SearchGrowth`; the classifier must be built.
        weight_warmup: steps over which the weight λ of the robust term grows linearly.

    Example:
        >>> from keras_srt.core.tensorflow import keras
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
        update: Update | None = None,
        search_growth: int = 0,
        weight_warmup: int = 0,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.neighborhood = neighborhood
        self.objective = objective if objective is not None else SRT()
        self.objective.check(neighborhood)
        self.seed = seed
        self.strength = strength if strength is not None else linear_strength(0)
        self.weight_decay = weight_decay
        self.update = update if update is not None else Update()
        self.search = SearchGrowth.over(search_growth, self.objective, neighborhood)
        check_weight_warmup(self.objective, weight_warmup)
        self.robust_share = linear_strength(weight_warmup) if weight_warmup else None
        # Metrics are of all replicas already; Keras would sum them over the workers once more.
        self.distribute_reduction_method = "first"
        names = ("loss", *self.objective.term_names)
        self._term_metrics = {name: keras.metrics.Mean(name=name) for name in names}
        self._accuracy = keras.metrics.Mean(name="accuracy")
        self._robust_accuracy = keras.metrics.Mean(name="robust_accuracy")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Loss and loss terms of training; accuracies of evaluation."""
        return [*self._term_metrics.values(), self._accuracy, self._robust_accuracy]

    @property
    def term_metrics(self) -> list[keras.metrics.Metric]:
        """Loss and loss terms of training alone."""
        return list(self._term_metrics.values())

    @property
    def shipped(self) -> keras.Model:
        """The classifier that is validated and shipped: the average, where there is one."""
        average = self.update.average
        return self.classifier if average is None else average.classifier

    def compile(self, optimizer: Any = "sgd", **kwargs: Any) -> None:
        """As `keras.Model.compile`; XLA is off by default: the transform op has no kernel."""
        super().compile(optimizer=optimizer, **{"jit_compile": False, **kwargs})

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits [batch, classes]."""
        return self.shipped(images, training=training)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Pseudo-labels and inner maximization, then one optimizer step on the loss terms."""
        batch = self._as_batch(data)
        step = self.optimizer.iterations
        searched = self.update.for_search(self.classifier)
        seed, scale = self._seed_at(step), self.strength(step)
        prepared = self.search.prepare(searched, batch, seed, scale, step)
        with (
            tf.GradientTape() as tape,
            drawing_from(self.classifier, fold(self._seed_at(step), _DROPOUT)),
        ):
            terms = self.objective.terms(self.classifier, prepared)
            if self.robust_share is not None:
                terms = warmed(self.objective, terms, self.robust_share(step))
            # Of a replica's own images; over the replicas they add up to the means.
            shares = replicas.average([term.values for term in terms.values()])
            means = dict(zip(terms, shares, strict=True))
            loss = tf.add_n([terms[name].weight * mean for name, mean in means.items()])
            penalties = [penalty / replicas.count() for penalty in self.classifier.losses]
            total = self.update.scaled(tf.add_n([loss, *penalties]) if penalties else loss)
        weights = self.classifier.trainable_variables
        gradients = tape.gradient(
            total, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        self.update.apply(self.optimizer, self.classifier, gradients, self.weight_decay)
        return self._mean_losses({"loss": loss, **means})

    def _mean_losses(self, shares: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Means over the interval so far, of losses whose shares add up over the replicas.

        The shares are added in one exchange; `Mean.result` would make two for each of them. A
        step counts once in the saved means, however many replicas there are.
        """
        count = replicas.count()
        for name, value in zip(shares, replicas.total(list(shares.values())), strict=True):
            self._term_metrics[name].update_state(value, sample_weight=1 / count)
        return {name: mean.total / mean.count for name, mean in self._term_metrics.items()}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Accuracy on clean images, and where they stay right in the neighborhood."""
        images, labels = data
        target = Target(_as_class_ids(labels))

        def is_right(logits: tf.Tensor) -> tf.Tensor:
            return tf.equal(tf.argmax(logits, -1, output_type=tf.int32), target.labels)

        logits = self.shipped(images, training=False)
        right = is_right(logits)
        self._accuracy.update_state(tf.cast(right, tf.float32))
        if self.neighborhood is None:
            return {"accuracy": self._accuracy.result()}
        searched = self.update.for_search(self.shipped)
        found = self.neighborhood.maximize(
            images,
            lambda moved: cross_entropy(target, searched(moved, training=False)),
            _with_rows(Batch(images, target.labels)).seed_for(tf.stack([self.seed, 0]), "labeled"),
            start_loss=cross_entropy(target, logits),
        )
        still = right & is_right(self.shipped(found.images, training=False))
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
        return _with_rows(Batch(images, _as_class_ids(labels), unlabeled, answers))

    def _seed_at(self, step: tf.Tensor) -> tf.Tensor:
        return fold(tf.stack([self.seed, tf.cast(step, tf.int32)]), 0)


def _with_rows(batch: Batch) -> Batch:
    """The batch, with the rows of the global one that it is where replicas share that."""
    parts = {"labeled": batch.images}
    if batch.unlabeled is not None:
        parts["unlabeled"] = batch.unlabeled
    counts = {name: tf.shape(images)[0] for name, images in parts.items()}
    return batch._replace(rows=replicas.held_rows(counts))


def _as_class_ids(labels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reshape(labels, [-1]), tf.int32)
