"""Models under attack: predictions and gradients in batches, with a count of queries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from typing_extensions import override

from keras_srt.attacks.attack_losses import AttackLoss, cross_entropy, evaluate_loss
from keras_srt.attacks.criterion import Criterion
from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf

NO_GRADIENTS = (
    "the classifier has no gradient with respect to its images; allowed: a differentiable one, "
    "or attacks that need none (randadv, gridadv, square, pointwise, …)"
)


class Predictions(NamedTuple):
    """Predictions of a model.

    Attributes:
        classes: C(x) = argmax f(x), int32 [n]; -1 where a logit is NaN.
        loss: Loss that the attack maximizes, float32 [n].
    """

    classes: np.ndarray
    loss: np.ndarray


class QueryModel:
    """A model known only by its predictions, such as a TFLite file or a server.

    Args:
        predict: float32 images [n, height, width, channels] in [0, 1], a NumPy array ->
            logits or log-probabilities [n, classes].
        batch_size: Images per query; more images are split into several queries.

    Attributes:
        has_gradients: Whether this is a `TargetModel`, which attacks with gradients need.
        queries: Number of images queried so far.

    Example:
        >>> import numpy as np
        >>> model = QueryModel(lambda images: images.reshape(len(images), -1))
        >>> model.logits(np.float32([[[[0.25], [0.5]]]]))
        array([[0.25, 0.5 ]], dtype=float32)
    """

    has_gradients: ClassVar[bool] = False

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], batch_size: int = 500) -> None:
        self.batch_size = batch_size
        self.queries = 0
        self._predict = predict
        self._traced: dict[Any, Callable[..., Any]] = {}

    def logits(self, images: np.ndarray) -> np.ndarray:
        """f(x), float32 [n, classes]."""
        self.queries += len(images)
        images = np.asarray(images, np.float32)
        starts = range(0, max(1, len(images)), self.batch_size)
        parts = [self._predict(images[start : start + self.batch_size]) for start in starts]
        return np.float32(np.concatenate(parts))

    def predictions(self, images: np.ndarray, criterion: Criterion) -> Predictions:
        """Predicted classes, and the cross-entropy that the criterion maximizes."""
        logits = self.logits(images)
        loss = evaluate_loss(cross_entropy, logits, criterion)
        return Predictions(classes_of(logits), loss)

    def traced(self, function: Callable[..., Any], key: Any = None) -> Callable[..., Any]:
        """Trace a function once, to reuse its graph for all batches of an attack.

        Args:
            function: A function of tensors; their first dimension stays open.
            key: Key of equal functions. The default is the function itself and, for a method, its
                object: an attack makes an equal neighborhood for each batch.

        Returns:
            The `tf.function`.
        """
        if key is None:
            key = getattr(function, "__func__", function), getattr(function, "__self__", None)
        if key not in self._traced:
            # The batch size stays open because successes drop out. TensorFlow counts retraces by
            # code object and would warn at the fifth model; a partial has no code object.
            self._traced[key] = tf.function(
                partial(function), reduce_retracing=True, autograph=False
            )
        return self._traced[key]


class TargetModel(QueryModel):
    """A differentiable classifier under attack, called in inference mode and in batches.

    Queries shrink as images drop out of an attack. They are padded to one of a few sizes, see
    `padded_size`.

    Args:
        classifier: float32 images [n, height, width, channels] in [0, 1] -> logits.
        batch_size: Images per query; more images are split into several queries.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> from keras_srt.attacks import Criterion
        >>> model = TargetModel(lambda x: tf.reshape(x, [-1, 4]))
        >>> images = np.float32([[[[0], [1]], [[0], [0]]]])
        >>> model.predictions(images, Criterion(np.int32([1]))).classes
        array([1], dtype=int32)
    """

    has_gradients: ClassVar[bool] = True

    def __init__(self, classifier: Callable[[tf.Tensor], tf.Tensor], batch_size: int = 500) -> None:
        super().__init__(self.logits, batch_size)
        inference: dict[str, Any] = {"training": False} if hasattr(classifier, "layers") else {}
        self._logits = lambda images: tf.cast(classifier(images, **inference), tf.float32)

    @override
    def logits(self, images: np.ndarray) -> np.ndarray:
        return self._query(lambda x: (self._logits(x),), "logits", images)[0]

    @override
    def predictions(self, images: np.ndarray, criterion: Criterion) -> Predictions:
        function = partial(self._classes_and_loss, cross_entropy)
        return Predictions(*self._query(function, "predictions", images, *criterion.columns))

    def gradient(
        self, images: np.ndarray, criterion: Criterion, loss: AttackLoss = cross_entropy
    ) -> tuple[Predictions, np.ndarray]:
        """Compute predictions and the gradient of a loss with respect to the images.

        Args:
            images: float32 [n, height, width, channels] in [0, 1].
            criterion: The attack's criterion.
            loss: The loss to maximize; the same function object is traced once.

        Returns:
            Predictions with that loss, and the gradient, float32 of the shape of `images`.

        Raises:
            UserError: The classifier has no gradient.
        """

        def function(x: tf.Tensor, *columns: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                classes, values = self._classes_and_loss(loss, x, *columns)
            return classes, values, _finite(tape.gradient(values, x))

        key = ("gradient", loss)
        classes, values, gradient = self._query(function, key, images, *criterion.columns)
        return Predictions(classes, values), gradient

    def pullback(self, images: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute f(x) and the gradient of Σ_j w_j·f_j(x) with respect to the images.

        Args:
            images: float32 [n, height, width, channels] in [0, 1].
            weights: w of each image, float32 [n, classes].

        Returns:
            Logits float32 [n, classes], and the gradient, float32 of the shape of `images`.

        Raises:
            UserError: The classifier has no gradient.
        """

        def function(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                logits = self._logits(x)
            return logits, _finite(tape.gradient(logits, x, output_gradients=w))

        logits, gradient = self._query(function, "pullback", images, np.float32(weights))
        return logits, gradient

    def _classes_and_loss(
        self,
        loss: AttackLoss,
        images: tf.Tensor,
        labels: tf.Tensor,
        targets: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        logits = self._logits(images)
        classes = tf.argmax(logits, axis=-1, output_type=tf.int32)
        # NaN logits are never a correct prediction.
        classes = tf.where(tf.reduce_any(tf.math.is_nan(logits), axis=-1), -1, classes)
        return classes, loss(logits, labels, targets)

    def _query(
        self, function: Callable[..., Any], key: Any, images: np.ndarray, *columns: np.ndarray
    ) -> list[np.ndarray]:
        """Call a function of images and further columns, batch by batch."""
        rows = [np.asarray(images, np.float32), *columns]
        traced = self.traced(function, (key, len(rows)))
        self.queries += len(images)
        # An empty query is padded to one black image, so that its outputs have their shapes.
        parts = [
            self._query_padded(traced, [row[start : start + self.batch_size] for row in rows])
            for start in range(0, max(1, len(images)), self.batch_size)
        ]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _query_padded(
        self, traced: Callable[..., Any], columns: list[np.ndarray]
    ) -> list[np.ndarray]:
        """Call a traced function on one batch, padded with rows of zeros."""
        n = len(columns[0])
        missing = min(padded_size(n), self.batch_size) - n
        if missing:
            columns = [
                np.concatenate([column, np.zeros((missing, *column.shape[1:]), column.dtype)])
                for column in columns
            ]
        return [output.numpy()[:n] for output in traced(*map(tf.constant, columns))]


def padded_size(n: int) -> int:
    """Size to which a query of n images is padded: a power of 2, or a multiple of 16.

    For each new size oneDNN builds new kernels, which takes up to half as long as a pass.

    Example:
        >>> [padded_size(n) for n in (0, 1, 3, 16, 17, 500)]
        [1, 1, 4, 16, 32, 512]
    """
    return -(-n // 16) * 16 if n > 16 else 1 << max(0, n - 1).bit_length()


def classes_of(logits: np.ndarray) -> np.ndarray:
    """C(x) = argmax f(x), int32 [n]; -1 where a logit is NaN."""
    return np.int32(np.where(np.isnan(logits).any(axis=1), -1, np.argmax(logits, axis=1)))


def _finite(gradient: tf.Tensor | None) -> tf.Tensor:
    """Replace infinite and NaN values, which have no direction, by 0."""
    if gradient is None:
        raise UserError(NO_GRADIENTS)
    return tf.where(tf.math.is_finite(gradient), gradient, 0.0)
