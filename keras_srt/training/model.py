"""`RobustModel`: a Keras model that trains a classifier with a robust objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_srt.core.class_ids import assert_class_ids
from keras_srt.core.classifier_outputs import last_activation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.graph_checks import check_unit_range
from keras_srt.core.registry import settings_of
from keras_srt.core.tensorflow import keras, tf
from keras_srt.models.dropout import dropout_seed
from keras_srt.neighborhoods import NEIGHBORHOODS, Neighborhood
from keras_srt.neighborhoods.draws import fold
from keras_srt.objectives import OBJECTIVES, SRT, Batch, Objective
from keras_srt.objectives.losses import Target, cross_entropy
from keras_srt.training import replicas
from keras_srt.training.batch_input import make_batch, with_rows
from keras_srt.training.data_model import DataModel
from keras_srt.training.freezing import head, in_inference_mode
from keras_srt.training.optimization import LossScale, Update, WeightAverage
from keras_srt.training.schedules import SearchGrowth, check_weight_warmup, warmed

# Folded into the seed of a step for Dropout.
_DROPOUT = 7919
# Arguments of `keras.Model.compile` that would have no effect, with the reason.
_WITHOUT_EFFECT = {
    "loss": "the objective is the loss",
    "loss_weights": "the weights of the loss terms are settings of the objective",
    "metrics": "accuracy and robust_accuracy are always computed",
    "weighted_metrics": "accuracy and robust_accuracy are always computed",
}


def linear_warmup(steps: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A schedule that grows linearly from 1/steps at step 0 to 1 and stays there.

    Args:
        steps: Length of the warmup in steps; 0 for a constant 1.

    Returns:
        step (int64 scalar) -> float32 scalar in [0, 1].
    """
    return lambda step: tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / max(1, steps))


@keras.saving.register_keras_serializable("keras_srt")
class RobustModel(DataModel):
    """Train any Keras classifier to be adversarially robust in a neighborhood.

    `fit` takes batches `{"labeled": (images, labels), "unlabeled": images}` as made by
    `keras_srt.data.pair`, with `"pseudo_labels"` of the unlabeled images for objectives that use
    a teacher; or plain `(images, labels)` for objectives that use labeled images only.
    `evaluate` reports clean accuracy and robust accuracy under the neighborhood's search. Images
    with values from 0 to 255 are rescaled to [0, 1].

    Args:
        classifier: Images float32 [batch, height, width, channels] in [0, 1] -> logits [batch,
            classes]. Normalization is part of the classifier.
        neighborhood: The perturbations to be robust to; None for objectives without one.
        objective: The training loss, by default `SRT()`.
        seed: Seed of all random draws. A draw depends on the seed, the step and the row of the
            global batch only.
        weight_decay: λ; the gradient of ½·λ·‖w‖² is added to that of the loss for each
            trainable weight. 0 for optimizers with decoupled weight decay, such as AdamW.
        gradient_clip: Maximum global norm of the gradients, or None.
        ema: Decay of an exponential moving average of the weights, in [0, 1), or None. With an
            average, validation, prediction and export use the averaged weights. The classifier
            must be built.
        loss_scale: Whether to scale the loss dynamically, for mixed_float16.
        strength_warmup: Steps over which the neighborhood grows linearly to its full size. A
            full L∞ ball of ε = 0.3 keeps MNIST models at chance level for long (see Gowal et
            al. 2018, section 4).
        weight_warmup: Steps over which the weight λ of the robust loss grows linearly.
        search_growth: Steps over which the search grows to its full number of rounds; see
            `SearchGrowth`. The classifier must be built.
        training_search: The neighborhood that is searched in training, for example with fewer
            steps; None for `neighborhood`, which validation searches.
        freeze: Steps at the start that train only the last layer, which must be a Dense layer.
            All other layers run in inference mode, and their weights and BatchNorm statistics
            stay the same; for pretrained backbones.

    Example:
        >>> from keras_srt import LInf, RobustModel, SRT, keras
        >>> classifier = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])
        >>> model = RobustModel(classifier, LInf(0.1), SRT())
        >>> model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    """

    train_function: Any  # made by `make_train_function`

    def __init__(
        self,
        classifier: keras.Model,
        neighborhood: Neighborhood | None,
        objective: Objective | None = None,
        *,
        seed: int = 0,
        weight_decay: float = 0.0,
        gradient_clip: float | None = None,
        ema: float | None = None,
        loss_scale: bool = False,
        strength_warmup: int = 0,
        weight_warmup: int = 0,
        search_growth: int = 0,
        training_search: Neighborhood | None = None,
        freeze: int = 0,
        **kwargs: Any,
    ) -> None:
        _check_logits(classifier)
        # Under another policy, Keras would wrap the optimizer in a loss scale of its own.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.classifier = classifier
        self.neighborhood = neighborhood
        self.training_search = training_search or neighborhood
        self.objective = objective if objective is not None else SRT()
        self.objective.check(self.training_search)
        _check_average(self.objective, ema)
        check_weight_warmup(self.objective, weight_warmup)
        self._settings = {
            "seed": seed,
            "weight_decay": weight_decay,
            "gradient_clip": gradient_clip,
            "ema": ema,
            "loss_scale": loss_scale,
            "strength_warmup": strength_warmup,
            "weight_warmup": weight_warmup,
            "search_growth": search_growth,
            "training_search": settings_of(training_search),
            "freeze": freeze,
        }
        self.seed = seed
        self.weight_decay = weight_decay
        self.update = Update(
            gradient_clip,
            WeightAverage(classifier, ema) if ema is not None else None,
            LossScale() if loss_scale else None,
        )
        # As an attribute, so that Keras saves the averaged weights.
        self.average = self.update.average.classifier if self.update.average else None
        self._set_schedules(strength_warmup, weight_warmup, search_growth, freeze)
        self.built = classifier.built
        self._set_metrics()

    def _set_schedules(
        self, strength_warmup: int, weight_warmup: int, search_growth: int, freeze: int
    ) -> None:
        """Set what changes with the step; the arguments are numbers of steps."""
        self.strength = linear_warmup(strength_warmup)
        self.robust_weight = linear_warmup(weight_warmup) if weight_warmup else None
        self.search = SearchGrowth.over(search_growth, self.objective, self.training_search)
        if freeze:
            head(self.classifier)
        self.freeze = freeze
        self._is_frozen = False  # for the step that is traced

    def _set_metrics(self) -> None:
        # The metrics are already global means; by default, Keras would sum them over workers.
        self.distribute_reduction_method = "first"
        names = ("loss", *self.objective.term_names)
        self._term_metrics = {name: keras.metrics.Mean(name=name) for name in names}
        self._accuracy = keras.metrics.Mean(name="accuracy")
        self._robust_accuracy = keras.metrics.Mean(name="robust_accuracy")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss and its terms in training, and the accuracies in evaluation."""
        return [*self._term_metrics.values(), self._accuracy, self._robust_accuracy]

    @property
    def term_metrics(self) -> list[keras.metrics.Metric]:
        """The loss and its terms in training."""
        return list(self._term_metrics.values())

    @property
    def inference_model(self) -> keras.Model:
        """The classifier to evaluate and export: the weight average if there is one."""
        return self.classifier if self.average is None else self.average

    def start_from(self, classifier: keras.Model) -> None:
        """Take over the weights of a classifier of the same structure.

        Raises:
            InvalidSettings: The structures differ.
        """
        shapes = [weight.shape for weight in classifier.get_weights()]
        if shapes != [weight.shape for weight in self.classifier.get_weights()]:
            raise InvalidSettings(
                [
                    "training.initial_weights: got 'teacher' with another model than the "
                    "teacher's; allowed: 'random', or the same model"
                ]
            )
        for model in (self.classifier, self.average):
            if model is not None:
                model.set_weights(classifier.get_weights())

    def compile(
        self,
        optimizer: Any = "sgd",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        *,
        jit_compile: bool = False,
        **kwargs: Any,
    ) -> None:
        """Configure the optimizer; the objective is the loss.

        Args:
            optimizer: A Keras optimizer or its name.
            loss: Refused, as are `metrics`, `loss_weights` and `weighted_metrics`.
            metrics: Refused.
            loss_weights: Refused.
            weighted_metrics: Refused.
            jit_compile: Whether to compile with XLA. Off by default, because the op of spatial
                transformations has no XLA kernel.
            **kwargs: Other arguments of `keras.Model.compile`, such as `run_eagerly`.

        Raises:
            InvalidSettings: An argument would have no effect.
        """
        given = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        problems = [
            f"{name}: got {value!r}; allowed: None, because {_WITHOUT_EFFECT[name]}"
            for name, value in given.items()
            if value is not None
        ]
        if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
            problems.append(
                "optimizer: got a LossScaleOptimizer; allowed: the optimizer inside it, with "
                "RobustModel(…, loss_scale=True), which also scales the gradients of the search"
            )
        if problems:
            raise InvalidSettings(problems)
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        if jit_compile and not self.jit_compile:
            raise InvalidSettings(
                [
                    "jit_compile: got True, but Keras 3 doesn't use XLA while operations are "
                    "deterministic, as in `keras-srt train`; allowed: False, or Keras 2"
                ]
            )

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compile with the arguments that Keras saved."""
        arguments = keras.saving.deserialize_keras_object(dict(config))
        self.compile(**arguments)
        self.optimizer.build(self.classifier.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, serialized.

        Neighborhood and objective are serialized by their names in the registries.
        """
        return {
            "name": self.name,
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "neighborhood": settings_of(self.neighborhood),
            "objective": settings_of(self.objective),
            **self._settings,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> RobustModel:
        """Make a model from what `get_config` returned."""
        arguments = dict(config)
        arguments["classifier"] = keras.saving.deserialize_keras_object(
            config["classifier"], custom_objects=custom_objects
        )
        for name in ("neighborhood", "training_search"):
            if config.get(name) is not None:
                arguments[name] = NEIGHBORHOODS.build(config[name])
        arguments["objective"] = OBJECTIVES.build(config["objective"])
        return cls(**arguments)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the logits [batch, classes] of the inference model."""
        return self.inference_model(images, training=training)

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Keras 3 would build the model by a mean batch, for which replicas need equal parts."""

    def make_train_function(self, force: bool = False) -> Any:
        """Make the function of a training step, as Keras does; with `freeze`, one for each phase.

        A condition inside one graph would not do: replicas can't all-reduce in it.
        """
        if not self.freeze or (self.train_function is not None and not force):
            return super().make_train_function(force)
        phases = []
        for _ in range(2):
            super().make_train_function(True)
            phases.append(self.train_function)
        full, frozen = phases

        def train_by_step(batches: Any) -> Any:
            self._is_frozen = int(self.optimizer.iterations.numpy()) < self.freeze
            return (frozen if self._is_frozen else full)(batches)

        self.train_function = train_by_step
        return train_by_step

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Inner maximization, then one optimizer step on the loss terms."""
        trained, classifier = self.classifier, self.classifier
        if self._is_frozen:
            trained, classifier = head(self.classifier), in_inference_mode(self.classifier)
        batch = make_batch(data, self.objective, self.num_classes())
        self.built = True  # the classifier is after this step; Keras warns of others in a file
        step = self.optimizer.iterations
        if self.objective.uses_average:
            logits = self.inference_model(batch.unlabeled, training=False)
            batch = batch._replace(pseudo_labels=tf.nn.softmax(logits))
        searched = self.update.for_search(self.classifier)
        seed, scale = self._seed_at(step), self.strength(step)
        prepared = self.search.prepare(searched, batch, seed, scale, step)
        with (
            tf.GradientTape() as tape,
            dropout_seed(self.classifier, fold(self._seed_at(step), _DROPOUT)),
        ):
            terms = self.objective.terms(classifier, prepared)
            if self.robust_weight is not None:
                terms = warmed(self.objective, terms, self.robust_weight(step))
            # This replica's shares of the global means.
            shares = replicas.average([term.values for term in terms.values()])
            means = dict(zip(terms, shares, strict=True))
            loss = tf.add_n([terms[name].weight * mean for name, mean in means.items()])
            penalties = [penalty / replicas.count() for penalty in self.classifier.losses]
            total = self.update.scaled(tf.add_n([loss, *penalties]) if penalties else loss)
        weights = trained.trainable_variables
        gradients = tape.gradient(
            total, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        self.update.apply(self.optimizer, self.classifier, gradients, self.weight_decay, weights)
        return self._mean_losses({"loss": loss, **means})

    def _mean_losses(self, shares: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Means over the epoch so far of losses whose shares sum to the loss over the replicas.

        All shares are summed in one collective operation; `Mean.result` would need two for each
        of them. Each step has weight 1 in the saved means, whatever the number of replicas.
        """
        count = replicas.count()
        for name, value in zip(shares, replicas.total(list(shares.values())), strict=True):
            self._term_metrics[name].update_state(value, sample_weight=1 / count)
        return {name: mean.total / mean.count for name, mean in self._term_metrics.items()}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Clean accuracy, and robust accuracy under the neighborhood's search."""
        images, labels = data
        images = check_unit_range(images)
        target = Target(assert_class_ids(labels, self.num_classes()))

        def is_correct(logits: tf.Tensor) -> tf.Tensor:
            return tf.equal(tf.argmax(logits, -1, output_type=tf.int32), target.labels)

        logits = self.inference_model(images, training=False)
        correct = is_correct(logits)
        if self.neighborhood is None:
            return self._accuracies({"accuracy": correct})
        searched = self.update.for_search(self.inference_model)
        found = self.neighborhood.maximize(
            images,
            lambda perturbed: cross_entropy(target, searched(perturbed, training=False)),
            with_rows(Batch(images, target.labels)).seed_for(tf.stack([self.seed, 0]), "labeled"),
            start_loss=cross_entropy(target, logits),
        )
        robust = correct & is_correct(self.inference_model(found.images, training=False))
        return self._accuracies({"accuracy": correct, "robust_accuracy": robust})

    def _accuracies(self, correct: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Shares of correct predictions over the images so far of all replicas.

        Args:
            correct: Whether each prediction is correct, bool [images], by name of the metric.
        """
        flags = [tf.cast(one, tf.float32) for one in correct.values()]
        sums = [tf.reduce_sum(one) for one in flags]
        *right, size = replicas.total([*sums, tf.cast(tf.size(flags[0]), tf.float32)])
        means = {mean.name: mean for mean in (self._accuracy, self._robust_accuracy)}
        for name, number in zip(correct, right, strict=True):
            shares = tf.stack([number, size - number]) / replicas.count()
            means[name].update_state([1.0, 0.0], sample_weight=shares)
        return {name: means[name].total / means[name].count for name in correct}

    def _seed_at(self, step: tf.Tensor) -> tf.Tensor:
        return fold(tf.stack([self.seed, tf.cast(step, tf.int32)]), 0)


def _check_logits(classifier: keras.Model) -> None:
    if (activation := last_activation(classifier)) is not None:
        raise InvalidSettings(
            [
                f"classifier: got a last layer with the activation {activation!r}; allowed: "
                "logits (activation=None), because the losses apply the softmax themselves"
            ]
        )


def _check_average(objective: Objective, ema: float | None) -> None:
    if objective.uses_average and ema is None:
        raise InvalidSettings(
            [
                "training.ema: got null with pseudo_labels 'average'; allowed: the decay of an "
                "average of the weights, such as 0.998"
            ]
        )
