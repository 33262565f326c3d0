"""The sections of a config, and the config itself."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import Field

from keras_srt.config.tune import TuneSettings
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import Registry, component, settings_of
from keras_srt.core.validation import real, whole


@component
class AugmentationSettings:
    """Data augmentation: random crops after zero padding by `pad` pixels, and left-right `flip`."""

    pad: Annotated[int, whole(0)] = 0
    flip: pydantic.StrictBool = False


@component
class DataSettings:
    """The `data` section: the dataset and its split.

    Args:
        dataset: The dataset component.
        labeled: The number of training images whose labels the loss uses; null for all labeled
            images outside the validation set.
        validation: The number of training images held out to select the best checkpoint; null
            for a tenth of the labeled images.
        unlabeled: The number of images that are used without labels; null for all others.
        selection: "stratified", or "first" as in the paper's code.
        augmentation: The data augmentation.
        shuffle_buffer: Read unlabeled images on demand, shuffled in a buffer of this size; null
            to load all images into memory.
        readers: With `shuffle_buffer`, the number of places in the dataset to read in parallel.
    """

    dataset: Any
    labeled: Annotated[int, whole(1)] | None = None
    validation: Annotated[int, whole(1)] | None = None
    unlabeled: Annotated[int, whole(0)] | None = None
    selection: Literal["stratified", "first"] = "stratified"
    augmentation: AugmentationSettings = AugmentationSettings()
    shuffle_buffer: Annotated[int, whole(1)] | None = None
    readers: Annotated[int, whole(1)] = 1

    def __post_init__(self) -> None:
        if self.readers > 1 and self.shuffle_buffer is None:
            raise InvalidSettings(
                [
                    f"readers: got {self.readers} with all images in memory; allowed: 1, or more "
                    "with a shuffle_buffer"
                ]
            )


@component
class ScheduleSettings:
    """The learning rate schedule.

    Args:
        name: "constant", "step" (multiply by `factor` at each milestone) or "cosine" (half a
            cosine down to 0, after the warm-up).
        milestones: For "step": when to multiply, in the unit of the training length (steps or
            epochs).
        factor: For "step": the factor.
        warmup: Fraction of the training over which the rate rises linearly from 0; null for 0.05
            with "cosine" and 0 with the others.
    """

    name: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[Annotated[int, whole(1)], ...] = ()
    factor: Annotated[float, real(0, 1)] = 0.1
    warmup: Annotated[float, real(0, 1)] | None = None

    def __post_init__(self) -> None:
        if self.warmup is None:  # the resolved config holds a number
            object.__setattr__(self, "warmup", 0.05 if self.name == "cosine" else 0.0)
        if (self.name == "step") != bool(self.milestones):
            raise InvalidSettings(
                [
                    f"milestones: got {list(self.milestones)} with the schedule {self.name!r}; "
                    'allowed: some for "step", none for the others'
                ]
            )


@component
class OnNaNSettings:
    """The reaction to a NaN or infinite loss or weight; such weights are never saved.

    Args:
        name: "stop", or "go_back" to roll back to the last finite state with a lower learning
            rate.
        factor: For "go_back": the factor on the learning rate at each rollback.
        retries: For "go_back": the number of rollbacks before the training stops.
    """

    name: Literal["stop", "go_back"] = "stop"
    factor: Annotated[float, real(0.001, 0.999)] = 0.5
    retries: Annotated[int, whole(1, 100)] = 3


@component
class TrainingSettings:
    """The `training` section: optimizer, length and schedule.

    Args:
        steps: Training length in optimizer steps; give either `steps` or `epochs`.
        epochs: Training length in passes over the labeled images, as in the paper's code.
        batch_size: Labeled plus unlabeled images per batch.
        labeled_per_batch: Labeled images per batch; null for the proportional number.
        optimizer: "sgd" or "adamw".
        learning_rate: The peak learning rate.
        momentum: Momentum of SGD, β₁ of AdamW.
        weight_decay: With SGD an L2 penalty (see `RobustModel`); with AdamW decoupled from the
            gradient and multiplied by the learning rate.
        schedule: The learning rate schedule.
        gradient_clip: Maximum global norm of the gradients; null for no clipping.
        ema: Decay of an exponential moving average of the weights, which is then validated, saved
            as the best classifier and exported; null for none.
        strength_warmup: Fraction of the training over which the neighborhood grows linearly to
            its full size; 0 to start at full size.
        search_growth: Fraction of the training over which the search grows from one gradient step
            or candidate to all of them; 0 to start with all.
        weight_warmup: Fraction of the training over which the objective's robust_weight grows
            linearly from 0; 0 to start at the full weight.
        precision: "float32"; "mixed_bfloat16" for processors that support it; "mixed_float16" for
            GPUs, with loss scaling.
        strategy: The `tf.distribute` strategy: "one_device", "mirrored" (all GPUs of a machine)
            or "multi_worker" (the cluster of TF_CONFIG). Results agree up to rounding.
        jit_compile: Whether XLA compiles the training step; false with spatial neighborhoods.
        interval: Steps between validations, each with a checkpoint; null for one epoch if that is
            at least 100 steps, else a twentieth of the training.
        on_nan: The reaction to a NaN or infinite loss or weight.
    """

    steps: Annotated[int, whole(1)] | None = None
    epochs: Annotated[int, whole(1)] | None = None
    batch_size: Annotated[int, whole(2)] = 128
    labeled_per_batch: Annotated[int, whole(1)] | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, real(0)] = 0.1
    momentum: Annotated[float, real(0, 1)] = 0.9
    weight_decay: Annotated[float, real(0)] = 0.0005
    schedule: ScheduleSettings = ScheduleSettings()
    gradient_clip: Annotated[float, real(1e-6)] | None = None
    ema: Annotated[float, real(0, 0.999999)] | None = None
    strength_warmup: Annotated[float, real(0, 1)] = 0.0
    search_growth: Annotated[float, real(0, 1)] = 0.0
    weight_warmup: Annotated[float, real(0, 1)] = 0.0
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    strategy: Literal["one_device", "mirrored", "multi_worker"] = "one_device"
    jit_compile: pydantic.StrictBool = False
    interval: Annotated[int, whole(1)] | None = None
    on_nan: OnNaNSettings = OnNaNSettings()

    @property
    def length(self) -> int:
        """The training length in steps or in epochs, whichever is set."""
        (length,) = (given for given in (self.steps, self.epochs) if given is not None)
        return length

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            given = "neither" if self.steps is None else "both"
            raise InvalidSettings(
                [f"steps: got {given} of steps and epochs; allowed: exactly one of them"]
            )
        if self.labeled_per_batch is not None and self.labeled_per_batch >= self.batch_size:
            raise InvalidSettings(
                [
                    f"labeled_per_batch: got {self.labeled_per_batch}; allowed: below "
                    f"batch_size, which is {self.batch_size}"
                ]
            )


@component
class EvaluationSettings:
    """The `evaluation` section: how the trained model is evaluated on test images.

    Args:
        attacks: The attack components.
        limit: The number of test images, from the first; null for all.
        batch_size: Images per attack batch.
        deployment: The number of adversarial test images to classify with the exported files, too;
            0 for none.
        masking: The number of test images for the gradient masking checks; 0 for none.
        curves: The number of test images for the curves of accuracy over ε, angle and
            translation; 0 for none.
    """

    attacks: tuple[Any, ...]
    limit: Annotated[int, whole(1)] | None = None
    batch_size: Annotated[int, whole(1)] = 500
    deployment: Annotated[int, whole(0)] = 500
    masking: Annotated[int, whole(0)] = 100
    curves: Annotated[int, whole(0)] = 100

    def __post_init__(self) -> None:
        if not self.attacks:
            raise InvalidSettings(["attacks: got []; allowed: a list of at least one attack"])


class Components(NamedTuple):
    """The components that a config can name, by kind."""

    datasets: Registry
    models: Registry
    neighborhoods: Registry
    objectives: Registry
    attacks: Registry


@component
class Config:
    """The settings of a run.

    Args:
        name: The name of the run, its folder and its exported model.
        description: Lines with the command, and the time and result to expect.
        seed: The seed of the split, the initial weights, the order of images and all other
            random draws.
        data, training, evaluation: The sections; see their classes.
        model, neighborhood, objective: The components.
        export: The folder of exported models.
        variant: The name of the applied variant, or null.
        tune: The search space of `keras-srt tune`; null for none.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: DataSettings
    model: Any
    neighborhood: Any
    objective: Any
    training: TrainingSettings
    evaluation: EvaluationSettings
    description: tuple[str, ...] = ()
    seed: Annotated[int, whole(0, 2**31 - 1)] = 0
    export: str = "saved_models"
    variant: str | None = None
    tune: TuneSettings | None = None

    def to_json(self) -> str:
        """Return the resolved config as JSON, which `loader.load` reads as an equal config."""
        return json.dumps(settings_of(self), indent=2)
