"""Configs: typed, strict, JSON in and out, with variants and overrides.

A config names components (dataset, model, neighborhood, objective, attacks); which ones
exist is told to `load` by its caller, so that this module knows none of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import Field

from keras_srt.checks import (
    InvalidSettings,
    UserError,
    did_you_mean,
    real,
    unknown_name,
    whole,
)
from keras_srt.components import Registry, component, settings_of
from keras_srt.search_space import TuneSettings

Settings = dict[str, Any]

# Of these only one may be given; an override with one takes the other's place.
_EITHER_OR = (("training.steps", "training.epochs"),)


class Components(NamedTuple):
    """The components that a config may name, by kind."""

    datasets: Registry
    models: Registry
    neighborhoods: Registry
    objectives: Registry
    attacks: Registry


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


def find(name: str) -> Path:
    """Finds a config: a path, or a bare name in `configs/`.

    Args:
        name: a path to a JSON file, or a name with or without `.json`.

    Returns:
        The file.

    Raises:
        UserError: there is none; names what was tried and the nearest config.
    """
    package = Path(__file__).resolve().parent
    folders = (Path("configs"), package.parent / "configs", package / "configs")
    if (given := Path(name)).is_file():
        return given
    if given.name == name:
        for folder in folders:
            for candidate in (folder / name, folder / f"{name}.json"):
                if candidate.is_file():
                    return candidate
    known = sorted({path.name for folder in folders for path in folder.glob("*.json")})
    hint = did_you_mean(given.name, known)
    raise UserError(
        f"--config {name}: no such file, here or in configs/; allowed: a path, or one of "
        f"{', '.join(known) or '(none found)'}{hint}"
    )


def load(
    path: Path, components: Components, variant: str | None = None, overrides: Iterable[str] = ()
) -> Config:
    """Reads a config, applies a variant and overrides, and checks everything.

    Args:
        path: a JSON file.
        components: what it may name.
        variant: a key of its `variants`, or None.
        overrides: `key.path=value`, the value as JSON or, failing that, as a string.

    Returns:
        The config; its components are built.

    Raises:
        UserError: the file can't be read or isn't JSON.
        InvalidSettings: with all problems found.
    """
    settings = _read(path)
    variants = settings.pop("variants", {})
    if not isinstance(variants, dict):
        raise InvalidSettings([f"variants: got {variants!r}; allowed: an object {{name: {{…}}}}"])
    if variant is not None:
        if variant not in variants:
            raise InvalidSettings([unknown_name("--variant", variant, list(variants))])
        if not isinstance(variants[variant], dict):
            raise InvalidSettings(
                [f"variants.{variant}: got {variants[variant]!r}; allowed: an object {{…}}"]
            )
        settings = merge(settings, variants[variant])
        if "name" in settings and "name" not in variants[variant]:
            settings["name"] = f"{settings['name']}-{variant}"
        settings["variant"] = variant
    for override in overrides:
        settings = merge(settings, _parse_override(override))
    return parse(settings, components)


def parse(settings: Settings, components: Components) -> Config:
    """Checks resolved settings and builds their components; see `load`."""
    problems: list[str] = []
    built = _build_components(settings, components, problems)
    try:
        config = Config(**built)
    except InvalidSettings as error:
        raise InvalidSettings(problems + list(error.problems)) from None
    if problems:
        raise InvalidSettings(problems)
    _check_pairs(config)
    return config


def merge(base: Settings, change: Mapping[str, Any], path: str = "") -> Settings:
    """Settings with a change applied: objects key by key, everything else replaced.

    An object that names another component (`"name"` differs) starts from that
    component's defaults; what only the old one knew would be wrong for it.
    """
    merged = dict(base)
    if path and "name" in change and "name" in base and change["name"] != base["name"]:
        return dict(change)
    for key, value in change.items():
        here = f"{path}{key}"
        for pair in _EITHER_OR:
            if here in pair and value is not None:
                for other in pair:
                    if other != here and other.rpartition(".")[2] not in change:
                        merged.pop(other.rpartition(".")[2], None)
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value, f"{here}.")
        else:
            merged[key] = value
    return merged


def _read(path: Path) -> Settings:
    def unique(pairs: list[tuple[str, Any]]) -> Settings:
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"key {twice[0]!r} stands there twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number of JSON")

    try:
        settings = json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=unique, parse_constant=refuse
        )
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: got a {type(settings).__name__}; allowed: a JSON object {{…}}")
    return settings


def _parse_override(override: str) -> Settings:
    key, equals, text = override.partition("=")
    if not equals or not key or "" in key.split("."):
        raise InvalidSettings(
            [f"--set {override}: got no value; allowed: key.path=value, as training.epochs=3"]
        )
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _build_components(settings: Settings, components: Components, problems: list[str]) -> Settings:
    """The settings with their components built; what is wrong goes to `problems`."""

    def build(registry: Registry, value: Any, path: str) -> Any:
        named = {"name": value} if isinstance(value, str) else value
        try:
            return registry.build(named)
        except InvalidSettings as error:
            problems.extend(error.under(path).problems)
            return None

    def build_in(section: Any, key: str, make: Callable[[Any], Any]) -> Any:
        if isinstance(section, Mapping) and key in section:
            return {**section, key: make(section[key])}
        return section

    built = dict(settings)
    for key, registry in (
        ("model", components.models),
        ("neighborhood", components.neighborhoods),
        ("objective", components.objectives),
    ):
        if key in built:
            built[key] = build(registry, built[key], key)
    if "data" in built:
        built["data"] = _named_source(built["data"], components.datasets, problems)
        built["data"] = build_in(
            built["data"], "dataset", lambda v: build(components.datasets, v, "data.dataset")
        )
    if "evaluation" in built:
        built["evaluation"] = build_in(
            built["evaluation"],
            "attacks",
            lambda attacks: (
                [
                    build(components.attacks, attack, f"evaluation.attacks[{index}]")
                    for index, attack in enumerate(attacks)
                ]
                if isinstance(attacks, list)
                else attacks
            ),
        )
    if isinstance(built.get("description"), str):
        built["description"] = [built["description"]]
    return built


def _named_source(data: Any, datasets: Registry, problems: list[str]) -> Any:
    """`{"source": NAME, …}` in its long form: what the dataset knows belongs to it."""
    if not isinstance(data, Mapping) or "source" not in data:
        return data
    rest = {key: value for key, value in data.items() if key != "source"}
    name = data["source"]
    if "dataset" in rest:
        problems.append(f"data.source: got {name!r} beside a dataset; allowed: one of them")
        return rest
    if not isinstance(name, str) or name not in datasets:
        problems.append(unknown_name("data.source", name, list(datasets)))
        return rest | {"dataset": None}
    own = {field.name for field in dataclasses.fields(datasets[name])}
    dataset = {"name": name} | {key: value for key, value in rest.items() if key in own}
    return {key: value for key, value in rest.items() if key not in own} | {"dataset": dataset}


def _check_pairs(config: Config) -> None:
    """Settings that are right each by itself, and wrong together."""
    training, problems = config.training, []
    length = training.steps if training.steps is not None else training.epochs
    unit = "steps" if training.steps is not None else "epochs"
    late = [m for m in training.schedule.milestones if m >= length]
    if late:
        problems.append(
            f"training.schedule.milestones: got {late}; allowed: below training.{unit}, "
            f"which is {length}"
        )
    if training.labeled_per_batch is not None and not config.objective.uses_unlabeled:
        problems.append(
            f"training.labeled_per_batch: got {training.labeled_per_batch} with the objective "
            f"{config.objective.name!r}; allowed: null, because all its images are labeled"
        )
    if training.jit_compile and not config.neighborhood.compilable:
        problems.append(
            "training.jit_compile: got true with a spatial neighborhood, whose transform has no "
            "XLA kernel; allowed: false"
        )
    if config.objective.uses_unlabeled and config.data.unlabeled == 0:
        problems.append(
            f"data.unlabeled: got 0 with the objective {config.objective.name!r}; allowed: more "
            f"than 0, or the objective {config.objective.without_unlabeled!r}, which is the same "
            "without unlabeled images"
        )
    if problems:
        raise InvalidSettings(problems)
