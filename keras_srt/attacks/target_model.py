"""The model as attacks see it: answers, logits and gradients, in batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks.attack_losses import AttackLoss, cross_entropy
from keras_srt.attacks.criterion import Criterion
from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf


class Answers(NamedTuple):
    """What a model says of images.

    Attributes:
        classes: int32 [n], C(x) = argmax f(x); -1 where a logit is NaN.
        loss: float32 [n], the loss that the attack raises.
    """

    classes: np.ndarray
    loss: np.ndarray


class TargetModel:
    """A classifier as attacks query it: in inference mode, in batches, each traced once.

    As images drop out of an attack its queries get smaller, by a few images at a time. They are
    filled up to one of few sizes, see `filled_size`.

    Args:
        classifier: float32 images [n, height, width, channels] in [0, 1] -> logits.
        batch_size: images of a query; larger questions are split.

    Attributes:
        queries: how many images it was asked about.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> from keras_srt.attacks import Criterion
        >>> model = TargetModel(lambda x: tf.reshape(x, [-1, 4]))
        >>> model.answers(np.float32([[[[0], [1]], [[0], [0]]]]), Criterion(np.int32([1]))).classes
        array([1], dtype=int32)
    """

    def __init__(self, classifier: Callable[[tf.Tensor], tf.Tensor], batch_size: int = 500) -> None:
        self.batch_size = batch_size
        self.queries = 0
        inference: dict[str, Any] = {"training": False} if hasattr(classifier, "layers") else {}
        self._logits = lambda images: tf.cast(classifier(images, **inference), tf.float32)
        self._traced: dict[Any, Callable[..., Any]] = {}

    def logits(self, images: np.ndarray) -> np.ndarray:
        """f(x): float32 [n, classes]."""
        return self._ask(lambda x: (self._logits(x),), "logits", images)[0]

    def answers(self, images: np.ndarray, criterion: Criterion) -> Answers:
        """The model's classes, and the cross-entropy that the criterion raises."""
        return Answers(
            *self._ask(partial(self._answer, cross_entropy), "answers", images, criterion)
        )

    def gradient(
        self, images: np.ndarray, criterion: Criterion, loss: AttackLoss = cross_entropy
    ) -> tuple[Answers, np.ndarray]:
        """Answers with that loss, and its gradient with respect to the images.

        Args:
            images: float32 [n, height, width, channels] in [0, 1].
            criterion: of the attack.
            loss: to raise; the same function object is traced once.

        Returns:
            Answers, and float32 of the shape of `images`.

        Raises:
            UserError: the classifier has no gradient.
        """

        def slope(x: tf.Tensor, *criterion_rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                classes, values = self._answer(loss, x, *criterion_rows)
            return classes, values, _checked(tape.gradient(values, x))

        classes, values, gradient = self._ask(slope, ("gradient", loss), images, criterion)
        return Answers(classes, values), gradient

    def pullback(self, images: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f(x), and the gradient of Σ_j w_j·f_j(x) with respect to the images.

        Args:
            images: float32 [n, height, width, channels] in [0, 1].
            weights: float32 [n, classes], w of each image.

        Returns:
            Logits float32 [n, classes], and float32 of the shape of `images`.

        Raises:
            UserError: the classifier has no gradient.
        """

        def pull(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                logits = self._logits(x)
            return logits, _checked(tape.gradient(logits, x, output_gradients=w))

        logits, gradient = self._ask(pull, "pullback", images, np.float32(weights))
        return logits, gradient

    def traced(self, function: Callable[..., Any], key: Any = None) -> Callable[..., Any]:
        """The function as a graph, which is kept: an attack calls it for each of its batches.

        Args:
            function: of tensors, whose first dimension stays open.
            key: of equal functions; by default the function itself, and for a method its object:
                an attack makes its neighborhood anew for each batch, equal to the one before.

        Returns:
            The `tf.function`.
        """
        if key is None:
            key = getattr(function, "__func__", function), getattr(function, "__self__", None)
        if key not in self._traced:
            # The batch size stays open: fooled images drop out of it. TensorFlow counts retraces
            # by code object, and would warn at the fifth model; a partial has none.
            self._traced[key] = tf.function(
                partial(function), reduce_retracing=True, autograph=False
            )
        return self._traced[key]

    def _answer(
        self,
        loss: AttackLoss,
        images: tf.Tensor,
        labels: tf.Tensor,
        targets: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        logits = self._logits(images)
        classes = tf.argmax(logits, axis=-1, output_type=tf.int32)
        # A model that answers NaN is not right.
        classes = tf.where(tf.reduce_any(tf.math.is_nan(logits), axis=-1), -1, classes)
        return classes, loss(logits, labels, targets)

    def _ask(
        self,
        function: Callable[..., Any],
        key: Any,
        images: np.ndarray,
        about: Criterion | np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Runs a function on images, and on what is asked about them, batch by batch."""
        columns = [np.asarray(images, np.float32), *_columns(about)]
        traced = self.traced(function, (key, len(columns)))
        self.queries += len(images)
        # An empty question is asked about one black image: what its answers look like is wanted.
        parts = [
            self._ask_filled(
                traced, [column[first : first + self.batch_size] for column in columns]
            )
            for first in range(0, max(1, len(images)), self.batch_size)
        ]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _ask_filled(
        self, traced: Callable[..., Any], columns: list[np.ndarray]
    ) -> list[np.ndarray]:
        """Answers to the rows of one query, which rows of zeros fill up."""
        n = len(columns[0])
        missing = min(filled_size(n), self.batch_size) - n
        if missing:
            columns = [
                np.concatenate([column, np.zeros((missing, *column.shape[1:]), column.dtype)])
                for column in columns
            ]
        return [answer.numpy()[:n] for answer in traced(*map(tf.constant, columns))]


class QueryModel(TargetModel):
    """A model that answers and shows no gradient: a TFLite file, a server.

    Args:
        predict: float32 images [n, height, width, channels] in [0, 1], as NumPy array ->
            logits or log-probabilities [n, classes].
        batch_size: images of a query.

    Example:
        >>> import numpy as np
        >>> model = QueryModel(lambda images: images.reshape(len(images), -1))
        >>> model.logits(np.float32([[[[0.25], [0.5]]]]))
        array([[0.25, 0.5 ]], dtype=float32)
    """

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], batch_size: int = 500) -> None:
        super().__init__(_no_tensors, batch_size)
        self._predict = predict

    def logits(self, images: np.ndarray) -> np.ndarray:
        """What the model answers: float32 [n, classes]."""
        self.queries += len(images)
        images = np.asarray(images, np.float32)
        first_of_each = range(0, max(1, len(images)), self.batch_size)
        parts = [self._predict(images[first : first + self.batch_size]) for first in first_of_each]
        return np.float32(np.concatenate(parts))

    def answers(self, images: np.ndarray, criterion: Criterion) -> Answers:
        """The model's classes, and the cross-entropy that the criterion raises."""
        logits = self.logits(images)
        targets = None if criterion.targets is None else tf.constant(criterion.targets, tf.int32)
        labels = tf.constant(criterion.labels, tf.int32)
        loss = cross_entropy(tf.constant(logits), labels, targets)
        return Answers(classes_of(logits), loss.numpy())

    def gradient(
        self, images: np.ndarray, criterion: Criterion, loss: AttackLoss = cross_entropy
    ) -> tuple[Answers, np.ndarray]:
        """There is none: `UserError`."""
        raise UserError(_NO_GRADIENT)

    def pullback(self, images: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """There is none: `UserError`."""
        raise UserError(_NO_GRADIENT)


_NO_GRADIENT = (
    "the classifier has no gradient with respect to its images; allowed: a differentiable one, "
    "or attacks that need none (randadv, gridadv, square, pointwise, …)"
)


def _no_tensors(images: tf.Tensor) -> tf.Tensor:
    raise UserError(_NO_GRADIENT)


def filled_size(n: int) -> int:
    """To how many images a query of n is filled up: a power of 2, or a multiple of 16.

    For each new size oneDNN makes new kernels, which takes up to half as long as the pass itself.

    Example:
        >>> [filled_size(n) for n in (0, 1, 3, 16, 17, 500)]
        [1, 1, 4, 16, 32, 512]
    """
    return -(-n // 16) * 16 if n > 16 else 1 << max(0, n - 1).bit_length()


def _checked(gradient: tf.Tensor | None) -> tf.Tensor:
    if gradient is None:
        raise UserError(_NO_GRADIENT)
    # Where it is infinite or NaN it shows no direction, and would make the image NaN, too.
    return tf.where(tf.math.is_finite(gradient), gradient, 0.0)


def classes_of(logits: np.ndarray) -> np.ndarray:
    """C(x) = argmax f(x), int32 [n]: a model that answers NaN is not right, and has class -1."""
    return np.int32(np.where(np.isnan(logits).any(axis=1), -1, np.argmax(logits, axis=1)))


def _columns(about: Criterion | np.ndarray | None) -> list[np.ndarray]:
    """What is asked about each image, as arrays of that many rows."""
    if about is None:
        return []
    if isinstance(about, Criterion):
        labels = np.asarray(about.labels, np.int32)
        return [labels] if about.targets is None else [labels, np.asarray(about.targets, np.int32)]
    return [about]
