"""What a training costs on other machines: time and price from passes, FLOPs and bandwidths."""

from __future__ import annotations

import math
from typing import NamedTuple

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.objectives import StepPasses

_GIGA, _TERA = 1e9, 1e12
_GRADIENT_BYTES = 4  # float32, in mixed precision too


class Work(NamedTuple):
    """A training, as far as its cost goes.

    Attributes:
        name: for tables.
        forward_flops: of one image's forward pass.
        layers: convolutions and dense layers, each of which is started in each pass.
        parameters: whose gradients the replicas sum up.
        images: of the global batch.
        passes: of a step, over the images of the global batch.
        steps: of the whole training.
        decoded: whether the images of a batch have to be decoded for each step.
    """

    name: str
    forward_flops: float
    layers: int
    parameters: int
    images: int
    passes: StepPasses
    steps: int
    decoded: bool = False

    @property
    def step_flops(self) -> float:
        """Of a step, all replicas together."""
        return self.forward_flops * self.passes.relative_cost


class Machine(NamedTuple):
    """Devices of one kind; the fields are what a user replaces by an offer or a measurement.

    Attributes:
        name: for tables.
        tflops: peak of a device in TFLOP/s, in the precision of the training.
        efficiency: share of it that the passes reach.
        price: of a device, for an hour.
        per_node: devices that share a fast link.
        link: GB/s that a device sends inside a node.
        network: GB/s that a device sends between nodes.
        decoding: images/s that the processor's share of a device decodes.
        launch: seconds that starting a layer takes, whatever its size.
    """

    name: str
    tflops: float
    efficiency: float
    price: float
    per_node: int = 8
    link: float = 300.0
    network: float = 6.25
    decoding: float = 1000.0
    launch: float = 1e-5


# Peaks and links as in the makers' data sheets (dense, bfloat16; NVLink in one direction);
# efficiency, price, decoding and launch are assumptions, see docs/scaling.md.
MACHINES = {
    "a100": Machine("NVIDIA A100 SXM", tflops=312, efficiency=0.2, price=2.0),
    "h100": Machine(
        "NVIDIA H100 SXM", tflops=989, efficiency=0.2, price=4.0, link=450.0, network=50.0
    ),
}


class Prediction(NamedTuple):
    """Seconds of a step and what they come from; the whole training.

    Attributes:
        compute: arithmetic of one device.
        launch: starting its layers.
        reduce: summing up the gradients.
        decode: decoding images, which goes on beside the others.
        step: of them all.
        hours: of the training.
        price: of the training, in the unit of `Machine.price`.
    """

    compute: float
    launch: float
    reduce: float
    decode: float
    step: float
    hours: float
    price: float


def predict(work: Work, machine: Machine, devices: int = 1) -> Prediction:
    """Predicts time and price of a training.

    compute = FLOPs / (devices · peak · efficiency); launch = passes in a row · layers · launch
    time; reduce = 2·(R-1)/R · bytes of the gradients / bandwidth, a ring of R devices. The
    sum, or the decoding where that takes longer, is the time of a step. Nothing is taken to
    overlap but decoding; validation and evaluation are not counted.

    Args:
        work: the training.
        machine: what it runs on.
        devices: how many of them share a batch.

    Returns:
        The prediction.

    Raises:
        InvalidSettings: there are more devices than images in a batch.

    Example:
        >>> work = Work("w", 1e9, 10, 10**6, 100, StepPasses(100, 1000, 120), steps=3600)
        >>> machine = Machine("m", tflops=10, efficiency=0.246, price=2.0, launch=0.0)
        >>> round(predict(work, machine).hours, 6), round(predict(work, machine, 2).compute, 6)
        (1.0, 0.5)
    """
    if not 1 <= devices <= work.images:
        raise InvalidSettings(
            [f"devices: got {devices}; allowed: 1 to the {work.images} images of a batch"]
        )
    compute = work.step_flops / (devices * machine.tflops * _TERA * machine.efficiency)
    # A pass over all images of a batch starts each layer once.
    in_a_row = work.passes.relative_cost / work.images
    launch = in_a_row * work.layers * machine.launch
    bandwidth = machine.link if devices <= machine.per_node else machine.network
    gradients = work.parameters * _GRADIENT_BYTES
    reduce = 2 * (devices - 1) / devices * gradients / (bandwidth * _GIGA)
    decode = work.images / (devices * machine.decoding) if work.decoded else 0.0
    step = max(compute + launch + reduce, decode)
    hours = work.steps * step / 3600
    return Prediction(compute, launch, reduce, decode, step, hours, hours * devices * machine.price)


def fit_throughput(work: Work, step_seconds: float) -> Machine:
    """The machine on which a step took so long, as far as arithmetic explains it.

    Args:
        work: what was measured.
        step_seconds: of one step on one device.

    Returns:
        A machine whose peak is what was reached; `predict` with it gives the time back.
    """
    reached = work.step_flops / step_seconds / _TERA
    return Machine("measured", tflops=reached, efficiency=1.0, price=0.0, launch=0.0)


class ModelSize(NamedTuple):
    """What a model's arithmetic amounts to.

    Attributes:
        forward_flops: of one image, 2 for each multiplication with its addition; those of
            convolutions and dense layers, beside which the others are small.
        layers: how many of these there are.
        parameters: trainable ones of all layers.
    """

    forward_flops: int
    layers: int
    parameters: int


def measure_model(model: keras.Model) -> ModelSize:
    """Counts the arithmetic of a functional model, models inside it included.

    A convolution has 2 · kernel height · kernel width · channels in / groups · channels out
    FLOPs for each pixel of its output, a dense layer 2 · inputs · outputs.

    Args:
        model: built, of one input size.

    Returns:
        Its size.

    Example:
        >>> from keras_srt.core.tensorflow import keras
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(5, 3), keras.layers.Flatten()]
        >>> measure_model(keras.Sequential([*layers, keras.layers.Dense(10)]))
        ModelSize(forward_flops=13320, layers=2, parameters=1950)
    """
    flops = [_flops(layer) for layer in _layers(model)]
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return ModelSize(sum(flops), sum(1 for count in flops if count), parameters)


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    found = []
    for layer in model.layers:
        found += _layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _flops(layer: keras.layers.Layer) -> int:
    """Forward, for one image; 0 for layers without a kernel."""
    kernel = getattr(layer, "kernel", None)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel = layer.depthwise_kernel
    if kernel is None:
        return 0
    # A convolution's kernel holds height · width · channels in / groups · channels out. A
    # dense layer on more than vectors is applied at each place, as a convolution is.
    places = math.prod(layer.output.shape[1:-1])
    return 2 * math.prod(kernel.shape) * places
