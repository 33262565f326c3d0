"""What every evaluation attack offers, and the model as attacks see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from keras_srt.checks import UserError
from keras_srt.lazy import tf
from keras_srt.neighborhoods import Composite, Neighborhood


class Answers(NamedTuple):
    """What a model says of images.

    Attributes:
        classes: int32 [n], C(x) = argmax f(x).
        loss: float32 [n], cross-entropy with the labels asked about.
    """

    classes: np.ndarray
    loss: np.ndarray


class Victim:
    """A classifier as attacks query it: in inference mode, in batches, each traced once.

    Args:
        classifier: float32 images [n, height, width, channels] in [0, 1] -> logits.
        batch_size: images of a query; larger questions are split.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> victim = Victim(lambda x: tf.reshape(x, [-1, 4]))
        >>> victim.answers(np.float32([[[[0], [1]], [[0], [0]]]]), np.int32([1])).classes
        array([1], dtype=int32)
    """

    def __init__(self, classifier: Callable[[tf.Tensor], tf.Tensor], batch_size: int = 500) -> None:
        self.batch_size = batch_size
        inference: dict[str, Any] = {"training": False} if hasattr(classifier, "layers") else {}

        def answers(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = tf.cast(classifier(images, **inference), tf.float32)
            classes = tf.argmax(logits, axis=-1, output_type=tf.int32)
            # A model that answers NaN is not right.
            classes = tf.where(tf.reduce_any(tf.math.is_nan(logits), axis=-1), -1, classes)
            return classes, tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

        def gradient(
            images: tf.Tensor, labels: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                classes, loss = answers(images, labels)
            slope = tape.gradient(loss, images)
            if slope is None:
                raise UserError(
                    "the classifier has no gradient with respect to its images; allowed: a "
                    "differentiable one, or attacks that need none (randadv, gridadv, …)"
                )
            return classes, loss, slope

        # The batch size stays open: fooled images drop out of it. TensorFlow counts retraces
        # by code object, and would warn at the fifth victim; a partial has none.
        self._answers = tf.function(partial(answers), reduce_retracing=True, autograph=False)
        self._gradient = tf.function(partial(gradient), reduce_retracing=True, autograph=False)
        self.queries = 0

    def answers(self, images: np.ndarray, labels: np.ndarray) -> Answers:
        """The model's classes, and its loss for `labels`."""
        return Answers(*self._in_batches(self._answers, images, labels))

    def gradient(self, images: np.ndarray, labels: np.ndarray) -> tuple[Answers, np.ndarray]:
        """As `answers`, and the gradient of the loss with respect to the images."""
        classes, loss, gradient = self._in_batches(self._gradient, images, labels)
        return Answers(classes, loss), gradient

    def _in_batches(
        self, function: Callable[..., Any], images: np.ndarray, labels: np.ndarray
    ) -> list[np.ndarray]:
        if not len(images):
            # The columns are still wanted, and some kernels can't take an empty batch.
            one = np.zeros((1, *images.shape[1:])), np.zeros(1)
            return [column[:0] for column in self._in_batches(function, *one)]
        self.queries += len(images)
        parts = [
            function(
                tf.constant(images[first : first + self.batch_size], tf.float32),
                tf.constant(labels[first : first + self.batch_size], tf.int32),
            )
            for first in range(0, len(images), self.batch_size)
        ]
        return [
            np.concatenate([part.numpy() for part in column]) for column in zip(*parts, strict=True)
        ]


class Found(NamedTuple):
    """The outcome of an attack.

    Attributes:
        images: float32 [n, height, width, channels]: a fooling image where one was found,
            else the one of the highest loss.
        parameters: θ of each, as the attack's neighborhood takes it.
        fooled: bool [n], whether the model's answer differs from the label asked about.
    """

    images: np.ndarray
    parameters: Any
    fooled: np.ndarray


class Attack(ABC):
    """An attack for evaluation; a subclass is a component with a `name`.

    It stops working on an image once the model is fooled.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def neighborhood(self) -> Neighborhood:
        """The threat model: what the attack may do to an image."""

    @abstractmethod
    def run(self, victim: Victim, images: np.ndarray, labels: np.ndarray, seed: tf.Tensor) -> Found:
        """Looks for images of the neighborhood whose class is not the label.

        Args:
            victim: the model under attack.
            images: float32 [n, height, width, channels] in [0, 1].
            labels: int32 [n], the answers to change.
            seed: int32 [2].

        Returns:
            What was found, for each image.
        """

    @property
    def norm(self) -> str:
        """Names of the single neighborhoods, in order, joined by `+`."""
        return "+".join(stage.name for stage in self.neighborhood.stages_in_order)

    @property
    def radius(self) -> float | None:
        """ε of the pixel perturbation, or None if there is none."""
        for stage in self.neighborhood.stages_in_order:
            if hasattr(stage, "epsilon"):
                return float(stage.epsilon)
        return None


def take(parameters: Any, index: np.ndarray) -> Any:
    """Rows of parameters, which may be a tuple with one array for each stage."""
    if isinstance(parameters, tuple):
        return tuple(take(part, index) for part in parameters)
    return np.asarray(parameters)[index]


def run_in_sequence(
    stages: tuple[Attack, ...],
    victim: Victim,
    images: np.ndarray,
    labels: np.ndarray,
    seed: tf.Tensor,
) -> Found:
    """Runs attacks one after the other, each from where the last one ended.

    An image that an earlier stage fooled is left as it is: the later stages' parameters
    are 0 for it, which changes nothing.

    Args:
        stages: attacks, first applied first.
        victim: as for `Attack.run`, like the rest.
        images: float32 [n, height, width, channels] in [0, 1].
        labels: int32 [n].
        seed: int32 [2].

    Returns:
        What was found; `parameters` has one entry for each stage.
    """
    now, fooled = np.array(images), np.zeros(len(images), bool)
    parameters = []
    for number, stage in enumerate(stages):
        active = np.flatnonzero(~fooled)
        its_seed = tf.random.experimental.stateless_fold_in(seed, number)
        found = stage.run(victim, now[active], labels[active], its_seed)
        its_own = np.zeros((len(images), *found.parameters.shape[1:]), np.float32)
        its_own[active] = found.parameters
        now[active], fooled[active] = found.images, found.fooled
        parameters.append(its_own)
    return Found(now, tuple(parameters), fooled)


def composite_of(stages: tuple[Attack, ...]) -> Composite:
    """The neighborhood of attacks run in sequence."""
    return Composite(stages=tuple(stage.neighborhood for stage in stages))
