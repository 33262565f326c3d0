"""The sections of a config, and the config itself."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import Field

from keras_srt.config.tune import TuneSettings
from keras_srt.core import processor
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import Registry, component, settings_of
from keras_srt.core.validation import real, whole


@component
class AugmentationSettings:
    """Random augmentation of labeled and unlabeled training images.

    Args:
        pad: Pixels of padding before a random crop to the original size.
        flip: Whether images are flipped left-right with probability 1/2.
        reflect: Whether the padding mirrors the image instead of being black.
        color: s: brightness and contrast are multiplied by random factors from 1 - s to 1 + s.
        cutout: The side in pixels of a random square that is filled with the image's mean color
            (DeVries & Taylor 2017).
    """

    pad: Annotated[int, whole(0)] = 0
    flip: pydantic.StrictBool = False
    reflect: pydantic.StrictBool = False
    color: Annotated[float, real(0, 1)] = 0.0
    cutout: Annotated[int, whole(0)] = 0


@component
class DataSettings:
    """The `data` section: the dataset and its split.

    Args:
        dataset: The dataset component.
        labeled: The number of training images whose labels the loss uses; null for all labeled
            images outside the validation set.
        validation: The number of training images held out to select the best checkpoint; null
            for a tenth of the labeled images, but ten per class if that takes at most a fifth; 0
            for none: the last checkpoint is then used.
        unlabeled: The number of images that are used without labels; null for all others.
        validation_from: "rest" holds out images beside `labeled`; "labeled" holds out a part of
            `labeled`, so that no other label is used.
        selection: "stratified", "random" as in the patent, or "first" as in the paper's code.
        balance: Whether every class has the same share of the labeled images of the batches: the
            images of small classes are repeated. "auto": if the sizes of two classes differ by
            more than 3:1.
        augmentation: The data augmentation.
        shuffle_buffer: Read unlabeled images on demand, shuffled in a buffer of this size; null
            to load all images into memory.
        readers: With `shuffle_buffer`, the number of places in the dataset to read in parallel.
    """

    dataset: Any
    labeled: Annotated[int, whole(1)] | None = None
    validation: Annotated[int, whole(0)] | None = None
    unlabeled: Annotated[int, whole(0)] | None = None
    validation_from: Literal["rest", "labeled"] = "rest"
    selection: Literal["stratified", "random", "first"] = "stratified"
    balance: pydantic.StrictBool | Literal["auto"] = "auto"
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
        name: "constant", "step" (multiply by `factor` at each milestone), "cosine" (half a
            cosine down to 0, after the warm-up) or "linear" (down to 0, after the warm-up and
            `hold`).
        milestones: For "step": when to multiply, in the unit of the training length (steps or
            epochs).
        factor: For "step": the factor.
        warmup: Fraction of the training over which the rate rises linearly from 0; null for 0.05
            with "cosine" and 0 with the others.
        hold: For "linear": fraction of the training at the peak rate, after the warm-up.
    """

    name: Literal["constant", "step", "cosine", "linear"] = "constant"
    milestones: tuple[Annotated[int, whole(1)], ...] = ()
    factor: Annotated[float, real(0, 1)] = 0.1
    warmup: Annotated[float, real(0, 1)] | None = None
    hold: Annotated[float, real(0, 1)] = 0.0

    def __post_init__(self) -> None:
        if self.warmup is None:  # the resolved config holds a number
            object.__setattr__(self, "warmup", 0.05 if self.name == "cosine" else 0.0)
        if self.hold and (self.name != "linear" or (self.warmup or 0) + self.hold >= 1):
            raise InvalidSettings(
                [
                    f"hold: got {self.hold:g} with the schedule {self.name!r} and a warmup of "
                    f'{self.warmup:g}; allowed: 0, or with "linear" less than 1 - warmup'
                ]
            )
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
        name: "stop", or "roll_back" to roll back to the last finite state with a lower learning
            rate.
        factor: For "roll_back": the factor on the learning rate at each rollback.
        retries: For "roll_back": the number of rollbacks before the training stops.
    """

    name: Literal["stop", "roll_back"] = "stop"
    factor: Annotated[float, real(0.001, 0.999)] = 0.5
    retries: Annotated[int, whole(1, 100)] = 3


@component
class EarlyStoppingSettings:
    """When to stop a training whose validation accuracy no longer improves.

    The accuracy is the one that selects the best classifier: robust accuracy, or clean accuracy
    for objectives without a neighborhood.

    Args:
        patience: Number of validations without improvement after which the training stops.
            Validations while layers are frozen, or while the neighborhood, the search or the
            weight λ grows, don't count.
        min_delta: The smallest gain in accuracy that counts as an improvement, as a fraction.
    """

    patience: Annotated[int, whole(1)]
    min_delta: Annotated[float, real(0, 1)] = 0.0


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
        nesterov: Whether SGD uses Nesterov's momentum.
        weight_decay: With SGD an L2 penalty (see `RobustModel`); with AdamW decoupled from the
            gradient and multiplied by the learning rate.
        schedule: The learning rate schedule.
        gradient_clip: Maximum global norm of the gradients; null for no clipping.
        ema: Decay of an exponential moving average of the weights, which is then validated, saved
            as the best classifier and exported; null for none.
        initial_weights: "random", or "teacher": the weights of the teacher, which needs the same
            model.
        search: Settings of the neighborhood that differ in the training's search, such as fewer
            `num_steps`; null for none. Validation searches the config's neighborhood.
        strength_warmup: Fraction of the training over which the neighborhood grows linearly to
            its full size; 0 to start at full size.
        search_growth: Fraction of the training over which the search grows from one gradient step
            or candidate to all of them; 0 to start with all.
        weight_warmup: Fraction of the training over which the objective's robust_weight grows
            linearly from 0; 0 to start at the full weight.
        freeze: Fraction of the training, at its start, in which only the last layer of a model with
            pretrained weights is trained; 0 to train all layers from the start.
        precision: "float32"; "mixed_bfloat16" for processors that support it; "mixed_float16" for
            GPUs, with loss scaling; "auto" for "mixed_bfloat16" where the processor has bfloat16
            instructions, else "float32".
        strategy: The `tf.distribute` strategy: "one_device", "mirrored" (all GPUs of a machine)
            or "multi_worker" (the cluster of TF_CONFIG). Results agree up to rounding.
        jit_compile: Whether XLA compiles the training step; false with spatial neighborhoods.
        interval: Steps between validations, each with a checkpoint; null for one epoch if that is
            at least 100 steps, else a twentieth of the training.
        on_nan: The reaction to a NaN or infinite loss or weight.
        early_stopping: When to stop before the end; null for never.
    """

    steps: Annotated[int, whole(1)] | None = None
    epochs: Annotated[int, whole(1)] | None = None
    batch_size: Annotated[int, whole(2)] = 128
    labeled_per_batch: Annotated[int, whole(1)] | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, real(0)] = 0.1
    momentum: Annotated[float, real(0, 1)] = 0.9
    nesterov: pydantic.StrictBool = False
    weight_decay: Annotated[float, real(0)] = 0.0005
    schedule: ScheduleSettings = ScheduleSettings()
    gradient_clip: Annotated[float, real(1e-6)] | None = None
    ema: Annotated[float, real(0, 0.999999)] | None = None
    initial_weights: Literal["random", "teacher"] = "random"
    search: Any = None
    strength_warmup: Annotated[float, real(0, 1)] = 0.0
    search_growth: Annotated[float, real(0, 1)] = 0.0
    weight_warmup: Annotated[float, real(0, 1)] = 0.0
    freeze: Annotated[float, real(0, 1)] = 0.0
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    strategy: Literal["one_device", "mirrored", "multi_worker"] = "one_device"
    jit_compile: pydantic.StrictBool = False
    interval: Annotated[int, whole(1)] | None = None
    on_nan: OnNaNSettings = OnNaNSettings()
    early_stopping: EarlyStoppingSettings | None = None

    @property
    def length(self) -> int:
        """The training length in steps or in epochs, whichever is set."""
        (length,) = (given for given in (self.steps, self.epochs) if given is not None)
        return length

    def __post_init__(self) -> None:
        if self.precision == "auto":  # the resolved config holds what this machine takes
            object.__setattr__(self, "precision", processor.fast_precision())
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
class TeacherSettings:
    """The `teacher` section: how the teacher of the pseudo-labels is trained.

    What is not set is as for the student, without what concerns a neighborhood.

    Args:
        objective: The objective, without a neighborhood: "standard" on the labeled images, or
            "noisy_student" with pseudo-labels of a teacher of its own.
        model: Settings of the model that differ from the student's, or null.
        augmentation: Settings of the augmentation that differ from the student's, or null.
        training: Settings of the training that differ from the student's, or null.
        temperature: T: soft pseudo-labels are proportional to p^(1/T), with p the teacher's
            probabilities; below 1 they become more certain.
        teacher: The teacher's own teacher, or null.
    """

    objective: Any = "standard"
    model: dict[str, Any] | None = None
    augmentation: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    temperature: Annotated[float, real(0.01, 100)] = 1.0
    teacher: TeacherSettings | None = None


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
        corruptions: The number of test images to corrupt, with each corruption at five
            severities; 0 for none.
        smoothing: The number of test images to certify by randomized smoothing; 0 for none.
        sigma: σ of the smoothing noise, in units of pixel values in [0, 1].
        noise_samples: Random images for each certificate.
        precision: "auto" queries transforms in bfloat16 where the processor is fast at it (AMX);
            float32 decides wherever rounding could change a verdict. "float32" doesn't.
    """

    attacks: tuple[Any, ...]
    limit: Annotated[int, whole(1)] | None = None
    batch_size: Annotated[int, whole(1)] = 500
    deployment: Annotated[int, whole(0)] = 500
    masking: Annotated[int, whole(0)] = 100
    curves: Annotated[int, whole(0)] = 100
    corruptions: Annotated[int, whole(0)] = 0
    smoothing: Annotated[int, whole(0)] = 0
    sigma: Annotated[float, real(0.001, 10)] = 0.25
    noise_samples: Annotated[int, whole(1)] = 1000
    precision: Literal["auto", "float32"] = "auto"

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
        teacher: The teacher of the pseudo-labels, for objectives that use one; null for the
            student's settings.
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
    teacher: TeacherSettings | None = None
    export: str = "saved_models"
    variant: str | None = None
    tune: TuneSettings | None = None

    @property
    def searched(self) -> Any:
        """The neighborhood that the training searches."""
        return self.training.search or self.neighborhood

    def to_json(self) -> str:
        """Return the resolved config as JSON, which `loader.load` reads as an equal config."""
        return json.dumps(settings_of(self), indent=2)
