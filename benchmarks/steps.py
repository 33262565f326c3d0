"""Training steps to time: a whole step as `fit` runs it, and its bare passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_srt import RobustModel
from keras_srt.core.tensorflow import keras, tf
from keras_srt.objectives import StepPasses

# Makes each pass depend on the previous one, so that TensorFlow does not merge equal passes.
# Too small to change an image.
_DEPENDENCY = 1e-12


def bare_step(
    classifier: Callable[..., tf.Tensor], passes: StepPasses, images: tf.Tensor, labels: tf.Tensor
) -> Callable[[], tf.Tensor]:
    """Returns a program that runs exactly these passes in one `tf.function`.

    passes.forward / m forward passes over m images, passes.gradient / m forward passes with the
    gradient with respect to the images, and one training pass over passes.training images.

    Args:
        classifier: (images, training=…) -> logits, with `trainable_variables`.
        passes: Image passes of a step on m images, see `Objective.passes`.
        images: float32 [m, height, width, channels] in [0, 1].
        labels: int32 [m].

    Returns:
        The program; its result depends on every pass.

    Raises:
        ValueError: `passes` are not whole rounds over m images.
    """
    rounds = _rounds(passes, len(images))
    # Labeled images, then perturbed images, as in a step; here they are the same images.
    both = tf.concat([images, images], 0)[: passes.training]
    answers = tf.concat([labels, labels], 0)[: passes.training]

    def loss(x: tf.Tensor, y: tf.Tensor, training: bool) -> tf.Tensor:
        logits = classifier(x, training=training)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)

    @tf.function(autograph=False)
    def run() -> tf.Tensor:
        now = images
        for _ in range(rounds.forward):
            now = images + _DEPENDENCY * tf.reduce_sum(loss(now, labels, training=False))
        for _ in range(rounds.gradient):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(now)
                values = loss(now, labels, training=False)
            now = images + _DEPENDENCY * tape.gradient(values, now)
        with tf.GradientTape() as tape:
            mean = tf.reduce_mean(loss(both, answers, training=True))
        gradients = tape.gradient(mean, classifier.trainable_variables)
        return tf.add_n([tf.reduce_sum(now), *map(tf.reduce_sum, gradients)])

    return lambda: run().numpy()


def _rounds(passes: StepPasses, m: int) -> StepPasses:
    """Forward and gradient passes over all m images."""
    if passes.forward % m or passes.gradient % m or not 0 < passes.training <= 2 * m:
        raise ValueError(f"passes: got {passes}; allowed: whole rounds over {m} images")
    return StepPasses(passes.forward // m, passes.gradient // m, passes.training)


def whole_step(model: RobustModel, batch: dict[str, Any]) -> Callable[[], Any]:
    """The training step of a compiled model as `fit` runs it, always on the same batch."""
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    function = model.make_train_function()
    return lambda: {name: value.numpy() for name, value in function(batches).items()}


def random_batch(labeled: int, unlabeled: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """A batch of random images with labels of ten classes, as `fit` takes it."""
    generator = np.random.default_rng(0)
    images = generator.random((labeled + unlabeled, *shape), dtype=np.float32)
    labels = generator.integers(10, size=labeled, dtype=np.int32)
    batch: dict[str, Any] = {"labeled": (tf.constant(images[:labeled]), tf.constant(labels))}
    if unlabeled:
        batch["unlabeled"] = tf.constant(images[labeled:])
    return batch


def compiled(model: RobustModel) -> RobustModel:
    """Compiles a model with SGD at a learning rate that hardly changes the weights."""
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9))
    model.optimizer.build(model.classifier.trainable_variables)
    return model
