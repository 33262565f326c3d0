"""Models under attack: predictions and gradients in batches, with a count of queries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
from typing_extensions import override

from keras_srt.attacks.attack_losses import AttackLoss, cross_entropy, evaluate_loss
from keras_srt.attacks.batch_progress import BatchProgress
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.rounding import RoundingError, bfloat16_is_fast, in_bfloat16
from keras_srt.core.classifier_outputs import log_probabilities, without_last_activation
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.scaling import power_of_two
from keras_srt.core.tensorflow import tf

Precision = Literal["auto", "float32"]

NO_GRADIENTS = (
    "the classifier has no gradient with respect to its images; allowed: a differentiable one, "
    "or attacks that need none (randadv, gridadv, square, pointwise, …)"
)

# A gradient is computed at this multiple of its loss (a power of two, which changes no digit of a
# float32 gradient), so that it doesn't underflow in float16 layers. Where it does nevertheless, or
# overflows, the other scales are tried.
_SCALE, _LARGER, _SMALLER = 2.0**8, (2.0**15,), (2.0**0, 2.0**-8)
# Largest value of a gradient at `_SCALE` below which float16 lacks digits.
_FEW_DIGITS = 2.0**-4


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
        gradients: Number of gradients computed so far.
        vanished: Number of those that were 0, in which case an attack has no direction.
        progress: The progress of the current attack, which reports it.

    Example:
        >>> import numpy as np
        >>> model = QueryModel(lambda images: images.reshape(len(images), -1))
        >>> model.logits(np.float32([[[[0.25], [0.5]]]]))
        array([[0.25, 0.5 ]], dtype=float32)
    """

    has_gradients: ClassVar[bool] = False
    rounding: RoundingError | None = None

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], batch_size: int = 500) -> None:
        self.batch_size = batch_size
        self.queries = self.gradients = self.vanished = 0
        self.progress = BatchProgress()
        self._predict = predict
        self._num_classes: int | None = None
        self._traced: dict[Any, Callable[..., Any]] = {}

    @property
    def precision(self) -> str:
        """Return "bfloat16" if attacks may query in bfloat16 first, else "float32"."""
        return "float32" if self.rounding is None else "bfloat16"

    def num_classes(self, images: np.ndarray) -> int | None:
        """Number of classes if it is known without a query, for images of this shape."""
        return self._num_classes

    def logits(self, images: np.ndarray) -> np.ndarray:
        """f(x), float32 [n, classes]."""
        self.queries += len(images)
        images = np.asarray(images, np.float32)
        starts = range(0, max(1, len(images)), self.batch_size)
        parts = [self._predict(images[start : start + self.batch_size]) for start in starts]
        logits = np.float32(np.concatenate(parts))
        self._num_classes = logits.shape[1]
        return logits

    def predictions(
        self, images: np.ndarray, criterion: Criterion, loss: AttackLoss = cross_entropy
    ) -> Predictions:
        """Predicted classes, and a loss that the criterion maximizes."""
        logits = self.logits(images)
        return Predictions(classes_of(logits), evaluate_loss(loss, logits, criterion))

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

    Of a Keras model that ends with a softmax or sigmoids, the logits before them are attacked.
    Gradients neither underflow nor overflow in float16, see `gradient`.

    Queries shrink as images drop out of an attack. They are padded to one of a few sizes, see
    `padded_size`.

    Args:
        classifier: float32 images [n, height, width, channels] in [0, 1] -> logits, of any
            floating-point type; losses are computed in float32.
        batch_size: Images per query; more images are split into several queries.
        precision: "auto" lets attacks that need no gradients query in bfloat16 first where the
            processor is fast at it; float32 decides. "float32" doesn't.

    Attributes:
        rounding: Measures the difference of bfloat16 from float32; None to query in float32 alone.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> from keras_srt.attacks import Criterion
        >>> model = TargetModel(lambda x: tf.reshape(x, [-1, 4]))
        >>> images = np.float32([[[[0], [1]], [[0], [0]]]])
        >>> model.predictions(images, Criterion(np.int32([1]))).classes
        array([1], dtype=int32)
    """

    has_gradients: ClassVar[bool] = True

    def __init__(
        self,
        classifier: Callable[[tf.Tensor], tf.Tensor],
        batch_size: int = 500,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(self.logits, batch_size)
        if precision not in get_args(Precision):
            allowed = ", ".join(get_args(Precision))
            raise InvalidSettings([f"precision: got {precision!r}; allowed: {allowed}"])
        self._uses_float16, self._setting = False, precision
        use_bfloat16 = precision == "auto" and bfloat16_is_fast()
        self.rounding = RoundingError() if use_bfloat16 else None
        inference: dict[str, Any] = {"training": False} if hasattr(classifier, "layers") else {}
        logits = without_last_activation(classifier)
        self._logits = lambda images: tf.cast(logits(images, **inference), tf.float32)

    def of_log_probabilities(self) -> TargetModel:
        """The model under attack if the classifier's outputs are probabilities."""
        return TargetModel(log_probabilities(self._logits), self.batch_size, self._setting)

    @override
    def num_classes(self, images: np.ndarray) -> int | None:
        if self._num_classes is None:
            spec = tf.TensorSpec([None, *np.shape(images)[1:]], tf.float32)
            traced = tf.function(partial(self._logits), autograph=False)
            shape = traced.get_concrete_function(spec).output_shapes
            self._num_classes = shape[-1] if shape.rank == 2 else None
        return self._num_classes

    @override
    def logits(self, images: np.ndarray) -> np.ndarray:
        logits = self._query(lambda x: (self._logits(x),), "logits", images)[0]
        self._num_classes = logits.shape[-1]
        return logits

    def rounded_logits(self, images: np.ndarray) -> np.ndarray:
        """f(x) with rounding to bfloat16 inside the model, float32 [n, classes]."""
        return self._query(lambda x: (self._logits(x),), "logits", images, convert=in_bfloat16)[0]

    @override
    def predictions(
        self, images: np.ndarray, criterion: Criterion, loss: AttackLoss = cross_entropy
    ) -> Predictions:
        function, key = partial(self._classes_and_loss, loss), ("predictions", loss)
        return Predictions(*self._query(function, key, images, *criterion.columns))

    def gradient(
        self, images: np.ndarray, criterion: Criterion, loss: AttackLoss = cross_entropy
    ) -> tuple[Predictions, np.ndarray]:
        """Compute predictions and the gradient of a loss with respect to the images.

        Each image's gradient goes through the model at a scale of its own, a power of two, which
        is divided out again: in float32 that changes no digit.

        Args:
            images: float32 [n, height, width, channels] in [0, 1].
            criterion: The attack's criterion.
            loss: The loss to maximize; the same function object is traced once.

        Returns:
            Predictions with that loss, and the gradient, float32 of the shape of `images`.

        Raises:
            UserError: The classifier has no gradient.
        """

        def function(
            x: tf.Tensor, scale: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None = None
        ) -> tuple[tf.Tensor, ...]:
            tape, logits = self._record(x)
            with tf.GradientTape(watch_accessed_variables=False) as loss_tape:
                loss_tape.watch(logits)
                values = loss(logits, labels, targets)
            upstream = loss_tape.gradient(values, logits)
            return _classes(logits), values, *_backpropagate(tape, logits, x, upstream, scale)

        key = ("gradient", loss)
        classes, values, gradient = self._query_scaled(function, key, images, *criterion.columns)
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

        def function(x: tf.Tensor, scale: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, ...]:
            tape, logits = self._record(x)
            return logits, *_backpropagate(tape, logits, x, w, scale)

        logits, gradient = self._query_scaled(function, "pullback", images, np.float32(weights))
        return logits, gradient

    def _classes_and_loss(
        self,
        loss: AttackLoss,
        images: tf.Tensor,
        labels: tf.Tensor,
        targets: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        logits = self._logits(images)
        return _classes(logits), loss(logits, labels, targets)

    def _record(self, images: tf.Tensor) -> tuple[tf.GradientTape, tf.Tensor]:
        """Trace f(x), and the tape on which it was recorded."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = self._logits(images)
        self._uses_float16 |= _contains_float16(tf.compat.v1.get_default_graph())
        return tape, logits

    def _query_scaled(
        self, function: Callable[..., Any], key: Any, images: np.ndarray, *columns: np.ndarray
    ) -> list[np.ndarray]:
        """Query a function of images, scales and columns at the scale that each gradient needs.

        The function returns its results, the gradient, and the largest value of the scaled
        gradient, infinite if not all values are finite. The other scales cost queries only for
        images whose gradient overflows, or underflows in float16.
        """

        def query(rows: np.ndarray, scale: float) -> list[np.ndarray]:
            scales = np.full(len(rows), scale, np.float32)
            return self._query(
                function, key, images[rows], scales, *(column[rows] for column in columns)
            )

        *results, gradient, size = query(np.arange(len(images)), _SCALE)
        for scales, poor in (
            (_SMALLER, np.isinf(size)),
            (_LARGER, (size < _FEW_DIGITS) if self._uses_float16 else np.zeros(len(size), bool)),
        ):
            rows = np.flatnonzero(poor)
            for scale in scales:
                if not len(rows):
                    break
                *_, tried, tried_size = query(rows, scale)
                finite = np.isfinite(tried_size)
                gradient[rows[finite]], rows = tried[finite], rows[~finite]
        self.gradients += len(gradient)
        self.vanished += len(gradient) - int(np.count_nonzero(gradient.any(axis=(1, 2, 3))))
        return [*results, gradient]

    def _query(
        self,
        function: Callable[..., Any],
        key: Any,
        images: np.ndarray,
        *columns: np.ndarray,
        convert: Callable[[Any], Callable[..., Any]] = lambda traced: traced,
    ) -> list[np.ndarray]:
        """Call a function of images and further columns, batch by batch, traced and converted."""
        rows = [np.asarray(images, np.float32), *columns]
        traced = convert(self.traced(function, (key, len(rows))))
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


def _classes(logits: tf.Tensor) -> tf.Tensor:
    """`classes_of` for tensors: NaN logits are never a correct prediction."""
    classes = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return tf.where(tf.reduce_any(tf.math.is_nan(logits), axis=-1), -1, classes)


def _backpropagate(
    tape: tf.GradientTape,
    logits: tf.Tensor,
    images: tf.Tensor,
    upstream: tf.Tensor,
    scale: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradient with respect to the images, from the gradient with respect to the logits.

    Args:
        tape: Recorded how the logits depend on the images.
        logits: float32 [n, classes].
        images: float32 [n, height, width, channels].
        upstream: float32 [n, classes]; made as large as `scale` on the way through the model.
        scale: Powers of two, float32 [n].

    Returns:
        The gradient, in which infinite and NaN values, which have no direction, are 0; and the
        largest value of the scaled gradient, float32 [n], infinite if a value was not finite.
    """
    largest = tf.reduce_max(tf.abs(upstream), axis=-1)
    # An infinite logit has no gradient; the rest of the batch does.
    largest = tf.where(tf.math.is_finite(largest), largest, 1.0)
    factor = scale / power_of_two(largest)
    gradient = tape.gradient(logits, images, output_gradients=upstream * factor[:, None])
    if gradient is None:
        raise UserError(NO_GRADIENTS)
    finite = tf.math.is_finite(gradient)
    axes = [1, 2, 3]
    size = tf.reduce_max(tf.where(finite, tf.abs(gradient), np.inf), axis=axes)
    return tf.where(finite, gradient, 0.0) / factor[:, None, None, None], size


def _contains_float16(graph: tf.Graph) -> bool:
    """Whether an operation of a graph, or of a function that it calls, has float16 values."""
    definition = graph.as_graph_def()
    bodies = [definition.node, *(function.node_def for function in definition.library.function)]
    attributes = (value for body in bodies for node in body for value in node.attr.values())
    return any(value.type == tf.float16.as_datatype_enum for value in attributes)
