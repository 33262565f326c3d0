"""Operations whose gradients use only builtin operations of TFLite.

TFLite has no builtin operations for TensorFlow's gradients of convolution, pooling, ReLU and
BatchNorm; graphs with them need full TensorFlow ("Flex"). Each function here equals a `tf.nn`
operation, and its gradient equals TensorFlow's (including ties and 0). All shapes, including the
batch size, are static.
"""

from __future__ import annotations

from collections.abc import Callable

from keras_srt.core.tensorflow import tf

Pair = tuple[int, int]


def same_padding(size: int, window: int, stride: int) -> Pair:
    """Compute the zeros that padding "SAME" adds before and after an axis.

    Args:
        size: Size of the axis.
        window: Size of the kernel or pooling window.
        stride: Stride of the window.

    Returns:
        Zeros before and after; if the total is odd, one more after.

    Example:
        >>> same_padding(28, 3, 2)
        (0, 1)
    """
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def conv2d(images: tf.Tensor, kernel: tf.Tensor, strides: Pair, padding: str) -> tf.Tensor:
    """Compute `tf.nn.conv2d`.

    Args:
        images: Float32 [batch, height, width, channels].
        kernel: Float32 [rows, columns, channels, filters].
        strides: Vertical and horizontal stride.
        padding: "SAME" or "VALID".

    Returns:
        Float32 [batch, new height, new width, filters].
    """

    @tf.custom_gradient
    def operation(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            to_images = tf.nn.conv2d_transpose(upstream, w, x.shape, strides, padding)
            return to_images, _to_kernel(x, upstream, w.shape[:2], strides, padding)

        return tf.nn.conv2d(x, w, strides, padding), gradient

    return operation(images, kernel)


def _to_kernel(
    x: tf.Tensor, upstream: tf.Tensor, window: Pair, strides: Pair, padding: str
) -> tf.Tensor:
    """Gradient of the kernel: per kernel position, a product of shifted images and `upstream`."""
    if padding == "SAME":
        rows, columns = map(same_padding, x.shape[1:3], window, strides)
        x = tf.pad(x, [(0, 0), rows, columns, (0, 0)])
    channels, filters = x.shape[-1], upstream.shape[-1]
    flat = tf.reshape(upstream, [-1, filters])
    # Distance between the first and the last position of the kernel, plus 1.
    tall, wide = ((n - 1) * s + 1 for n, s in zip(upstream.shape[1:3], strides, strict=True))
    products = [
        tf.matmul(
            tf.reshape(x[:, i : i + tall : strides[0], j : j + wide : strides[1]], [-1, channels]),
            flat,
            transpose_a=True,
        )
        for i in range(window[0])
        for j in range(window[1])
    ]
    return tf.reshape(tf.concat(products, axis=0), [*window, channels, filters])


def relu(x: tf.Tensor) -> tf.Tensor:
    """Compute `tf.nn.relu`: max(x, 0), any shape."""

    @tf.custom_gradient
    def operation(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        return tf.nn.relu(x), lambda upstream: upstream * tf.cast(x > 0, x.dtype)

    return operation(x)


def leaky_relu(x: tf.Tensor, slope: float) -> tf.Tensor:
    """Compute `tf.nn.leaky_relu`: x where x > 0, else slope·x; any shape."""

    @tf.custom_gradient
    def operation(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        return tf.nn.leaky_relu(x, slope), lambda up: tf.where(x > 0, up, slope * up)

    return operation(x)


def max_pool(images: tf.Tensor, size: int, padding: str) -> tf.Tensor:
    """Compute `tf.nn.max_pool2d` with strides equal to the window size.

    Args:
        images: Float32 [batch, height, width, channels].
        size: Height and width of a window.
        padding: "SAME" or "VALID".

    Returns:
        Float32 [batch, new height, new width, channels].
    """

    @tf.custom_gradient
    def operation(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        largest = tf.nn.max_pool2d(x, size, size, padding)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            free, parts = 1.0, []
            # Uniform backgrounds have ties: as in TensorFlow, the first position gets everything.
            for place in _places(x, size, padding, fill=x.dtype.min):
                taken = free * tf.cast(tf.equal(place, largest), x.dtype)
                free = free - taken
                parts.append(upstream * taken)
            return _from_places(parts, x.shape, size, padding)

        return largest, gradient

    return operation(images)


def average_pool(images: tf.Tensor, size: int, padding: str) -> tf.Tensor:
    """Compute `tf.nn.avg_pool2d` with strides equal to the window size; see `max_pool`."""

    @tf.custom_gradient
    def operation(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            ones = tf.ones([1, *x.shape[1:3], 1], x.dtype)
            # Padding is not averaged: windows at the edge have fewer values.
            counts = tf.add_n(_places(ones, size, padding, fill=0.0))
            return _from_places([upstream / counts] * size**2, x.shape, size, padding)

        return tf.nn.avg_pool2d(x, size, size, padding), gradient

    return operation(images)


def _around(shape: tf.TensorShape, size: int, padding: str) -> list[Pair]:
    """Padding before and after each axis; negative where pooling ignores values."""
    if padding == "SAME":
        rows, columns = (same_padding(n, size, size) for n in shape[1:3])
    else:
        rows, columns = ((0, -(n % size)) for n in shape[1:3])
    return [(0, 0), rows, columns, (0, 0)]


def _places(x: tf.Tensor, size: int, padding: str, fill: float) -> list[tf.Tensor]:
    """Values at the first position of every window, at the second, …, row by row."""
    around = _around(x.shape, size, padding)
    kept = x[:, : x.shape[1] + min(around[1][1], 0), : x.shape[2] + min(around[2][1], 0)]
    padded = tf.pad(kept, [(a, max(b, 0)) for a, b in around], constant_values=fill)
    return [padded[:, i::size, j::size] for i in range(size) for j in range(size)]


def _from_places(parts: list[tf.Tensor], shape: tf.TensorShape, size: int, padding: str):
    """Inverse of `_places`: images of the given shape, 0 outside of all windows."""
    whole = tf.concat(parts, axis=-1)
    whole = tf.nn.depth_to_space(whole, size) if size > 1 else whole
    (_, _), (top, bottom), (left, right), (_, _) = _around(shape, size, padding)
    whole = tf.pad(whole, [(0, 0), (0, max(-bottom, 0)), (0, max(-right, 0)), (0, 0)])
    return whole[:, top : top + shape[1], left : left + shape[2]]


def standardize(x: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Compute (x - mean)/sqrt(variance + epsilon) with the moments of the batch, as BatchNorm.

    Args:
        x: Float32 [batch, …, channels].
        epsilon: Positive constant that avoids division by 0.

    Returns:
        The standardized values (shape of `x`), and means and biased variances [channels]; only
        the standardized values have a gradient.
    """

    @tf.custom_gradient
    def operation(x: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Callable]:
        axes = list(range(len(x.shape) - 1))
        mean = tf.reduce_mean(x, axes)
        variance = tf.reduce_mean(tf.square(x - mean), axes)
        inverse = tf.math.rsqrt(variance + epsilon)
        standard = (x - mean) * inverse

        def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
            slope = tf.reduce_mean(upstream * standard, axes)
            return inverse * (upstream - tf.reduce_mean(upstream, axes) - standard * slope)

        return (standard, mean, variance), gradient

    return operation(x)
