"""Operations whose gradients are made of TFLite's builtin operations alone.

TensorFlow's own gradients of convolution, pooling, ReLU and BatchNorm are operations that
TFLite lacks, so that a graph with them runs in full TensorFlow only ("Flex"). Each function
here computes what the `tf.nn` operation does, with the same gradient (at ties and at 0 too)
in other words. Shapes are static, batch included.
"""

from __future__ import annotations

from collections.abc import Callable

from keras_srt.core.tensorflow import tf

Pair = tuple[int, int]


def same_padding(size: int, window: int, stride: int) -> Pair:
    """The zeros that padding "SAME" puts before and after an axis.

    Args:
        size: of the axis.
        window: size of the kernel or the pool.
        stride: its step.

    Returns:
        Zeros before and after; an odd one goes after.

    Example:
        >>> same_padding(28, 3, 2)
        (0, 1)
    """
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def conv2d(images: tf.Tensor, kernel: tf.Tensor, strides: Pair, padding: str) -> tf.Tensor:
    """`tf.nn.conv2d`.

    Args:
        images: float32 [batch, height, width, channels].
        kernel: float32 [rows, columns, channels, filters].
        strides: vertical and horizontal.
        padding: "SAME" or "VALID".

    Returns:
        float32 [batch, new height, new width, filters].
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
    """The kernel's gradient: for each of its places a product of shifted images and upstream."""
    if padding == "SAME":
        rows, columns = map(same_padding, x.shape[1:3], window, strides)
        x = tf.pad(x, [(0, 0), rows, columns, (0, 0)])
    channels, filters = x.shape[-1], upstream.shape[-1]
    flat = tf.reshape(upstream, [-1, filters])
    # How far the kernel's place moves over the images, from its first position to its last.
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
    """`tf.nn.relu`: max(x, 0), any shape."""

    @tf.custom_gradient
    def operation(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        return tf.nn.relu(x), lambda upstream: upstream * tf.cast(x > 0, x.dtype)

    return operation(x)


def leaky_relu(x: tf.Tensor, slope: float) -> tf.Tensor:
    """`tf.nn.leaky_relu`: x where it is above 0, else slope·x; any shape."""

    @tf.custom_gradient
    def operation(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        return tf.nn.leaky_relu(x, slope), lambda up: tf.where(x > 0, up, slope * up)

    return operation(x)


def max_pool(images: tf.Tensor, size: int, padding: str) -> tf.Tensor:
    """`tf.nn.max_pool2d` over windows that don't overlap (strides = size).

    Args:
        images: float32 [batch, height, width, channels].
        size: height and width of a window.
        padding: "SAME" or "VALID".

    Returns:
        float32 [batch, new height, new width, channels].
    """

    @tf.custom_gradient
    def operation(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        largest = tf.nn.max_pool2d(x, size, size, padding)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            free, parts = 1.0, []
            # An even background makes ties: as in TensorFlow, the first place takes all.
            for place in _places(x, size, padding, fill=x.dtype.min):
                taken = free * tf.cast(tf.equal(place, largest), x.dtype)
                free = free - taken
                parts.append(upstream * taken)
            return _from_places(parts, x.shape, size, padding)

        return largest, gradient

    return operation(images)


def average_pool(images: tf.Tensor, size: int, padding: str) -> tf.Tensor:
    """`tf.nn.avg_pool2d` over windows that don't overlap; arguments: see `max_pool`."""

    @tf.custom_gradient
    def operation(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            ones = tf.ones([1, *x.shape[1:3], 1], x.dtype)
            # Padding doesn't count: windows at the edge have fewer values.
            counts = tf.add_n(_places(ones, size, padding, fill=0.0))
            return _from_places([upstream / counts] * size**2, x.shape, size, padding)

        return tf.nn.avg_pool2d(x, size, size, padding), gradient

    return operation(images)


def _around(shape: tf.TensorShape, size: int, padding: str) -> list[Pair]:
    """What pooling puts before and after each axis; negative where it leaves values out."""
    if padding == "SAME":
        rows, columns = (same_padding(n, size, size) for n in shape[1:3])
    else:
        rows, columns = ((0, -(n % size)) for n in shape[1:3])
    return [(0, 0), rows, columns, (0, 0)]


def _places(x: tf.Tensor, size: int, padding: str, fill: float) -> list[tf.Tensor]:
    """The values at the first place of every window, at the second, … row by row."""
    around = _around(x.shape, size, padding)
    kept = x[:, : x.shape[1] + min(around[1][1], 0), : x.shape[2] + min(around[2][1], 0)]
    padded = tf.pad(kept, [(a, max(b, 0)) for a, b in around], constant_values=fill)
    return [padded[:, i::size, j::size] for i in range(size) for j in range(size)]


def _from_places(parts: list[tf.Tensor], shape: tf.TensorShape, size: int, padding: str):
    """The inverse of `_places`: images of a shape, 0 where no window was."""
    whole = tf.concat(parts, axis=-1)
    whole = tf.nn.depth_to_space(whole, size) if size > 1 else whole
    (_, _), (top, bottom), (left, right), (_, _) = _around(shape, size, padding)
    whole = tf.pad(whole, [(0, 0), (0, max(-bottom, 0)), (0, max(-right, 0)), (0, 0)])
    return whole[:, top : top + shape[1], left : left + shape[2]]


def standardize(x: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """BatchNorm's (x - mean)/sqrt(variance + epsilon), with the moments of the batch.

    Args:
        x: float32 [batch, …, channels].
        epsilon: keeps the divisor above 0.

    Returns:
        The standardized values, the shape of `x`, their means and biased variances
        [channels]; the gradient flows through the first alone.
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
