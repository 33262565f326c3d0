"""The settings of a config: data, training, evaluation."""

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
    """Random changes of training images: pad-crop by `pad` pixels, left-right `flip`."""

    pad: Annotated[int, whole(0)] = 0
    flip: pydantic.StrictBool = False


@component
class DataSettings:
    """Which images, and how they are split.

    Args:
        dataset: a dataset component.
        labeled: images of the training part whose labels the loss sees; null for all that have
            one and are not for validation.
        validation: images of the training part held back to choose the best checkpoint; null for
            a tenth of those that have a label.
        unlabeled: images used without their labels; null for all the rest.
        selection: "stratified", or "first" as in the paper's code.
        augmentation: random changes of training images.
        shuffle_buffer: unlabeled images are read when they are needed, and their order is
            random among so many; null for all images in memory.
        readers: with `shuffle_buffer`, places of the dataset that are read at once.
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
                    f"readers: got {self.readers} with all images in memory; allowed: 1, or some "
                    "with a shuffle_buffer"
                ]
            )


@component
class ScheduleSettings:
    """How the learning rate changes.

    Args:
        name: "constant", "step" (times `factor` at each milestone) or "cosine" (a half
            cosine to 0, after the warm-up).
        milestones: for "step", in the unit of the training length (steps or epochs).
        factor: for "step".
        warmup: share of the training length over which the rate first rises linearly from 0;
            null for 0.05 with "cosine" and for 0 with the others.
    """

    name: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[Annotated[int, whole(1)], ...] = ()
    factor: Annotated[float, real(0, 1)] = 0.1
    warmup: Annotated[float, real(0, 1)] | None = None

    def __post_init__(self) -> None:
        if self.warmup is None:  # in the resolved config it is a number
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
    """What follows where the loss or a weight becomes NaN or infinite; neither is ever saved.

    Args:
        name: "stop", or "go_back" to the last good state, with a lower learning rate from there.
        factor: for "go_back", on the learning rate each time.
        retries: for "go_back", how many times before it stops after all.
    """

    name: Literal["stop", "go_back"] = "stop"
    factor: Annotated[float, real(0.001, 0.999)] = 0.5
    retries: Annotated[int, whole(1, 100)] = 3


@component
class TrainingSettings:
    """How it is trained: by an optimizer, for a number of steps or epochs.

    Args:
        steps: training length in optimizer steps, or
        epochs: in passes over the labeled images, as in the paper's code.
        batch_size: labeled and unlabeled images of a batch together.
        labeled_per_batch: labeled images of a batch; null for the proportional number.
        optimizer: "sgd" or "adamw".
        learning_rate: at its highest.
        momentum: of SGD; β₁ of AdamW.
        weight_decay: with SGD an L2 penalty, see `RobustModel`; with AdamW decoupled from the
            gradient, and times the learning rate.
        schedule: of the learning rate.
        gradient_clip: the largest global norm of the gradients; null for no bound.
        ema: decay of an exponential moving average of the weights, which then is what is
            validated, saved as the best and exported; null for none.
        strength_warmup: share of the training length over which the neighborhood grows
            linearly to its full size; 0 starts at full size.
        search_growth: share of the training length over which the search grows from one
            gradient step or draw to all of them; 0 for all at once.
        weight_warmup: share of the training length over which the objective's robust_weight
            grows linearly from 0; 0 for the full weight at once.
        precision: "float32", "mixed_bfloat16" where the processor has it, or, for GPUs,
            "mixed_float16", with a loss scale.
        strategy: of `tf.distribute`, "one_device", "mirrored" (all GPUs of a machine) or
            "multi_worker" (the cluster of TF_CONFIG); results are the same to rounding.
        jit_compile: whether XLA compiles the training step; not with spatial neighborhoods.
        interval: steps between validations, each with a checkpoint; null for an epoch
            where that is at least 100 steps, else a twentieth of the training.
        on_nan: what follows where the loss or a weight becomes NaN.
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
        """The training length, in steps or in epochs, whichever is given."""
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
    """What the finished model is measured by, on images of the test part.

    Args:
        attacks: attack components.
        limit: test images, the first ones; null for all.
        batch_size: images attacked at once.
        deployment: of the test images, how many are also put, attacked, through the exported
            files; 0 for none.
        masking: of the test images, on how many gradient masking is looked for; 0 for none.
        curves: of the test images, on how many the accuracy is measured against ε, the angle and
            the translation; 0 for none.
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
    """The components that a config may name, by kind."""

    datasets: Registry
    models: Registry
    neighborhoods: Registry
    objectives: Registry
    attacks: Registry


@component
class Config:
    """A whole run: data, model, neighborhood, objective, training, evaluation, export.

    Args:
        name: of the run, its folder and its exported model.
        description: the command, and the time and result to expect, in lines.
        seed: of the split, the weights, the order of images and all random draws.
        data, training, evaluation: see their classes.
        model, neighborhood, objective: components.
        export: folder that holds the exported models.
        variant: the variant it was resolved with, or null.
        tune: what `keras-srt tune` searches; null for nothing.
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
        """The resolved config as JSON that `load` reads back to an equal config."""
        return json.dumps(settings_of(self), indent=2)
