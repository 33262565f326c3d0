"""Configs: typed, strict, JSON in and out, with variants and overrides.

A config names components (dataset, model, neighborhood, objective, attacks); which ones
exist is told to `load` by its caller, so that this module knows none of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_srt.config.schema import Components, Config
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.registry import Registry
from keras_srt.core.validation import did_you_mean, unknown_name_message

Settings = dict[str, Any]

# Of these only one may be given; an override with one takes the other's place.
_EITHER_OR = (("training.steps", "training.epochs"),)


def find(name: str) -> Path:
    """Finds a config: a path, or a bare name in `configs/`.

    Args:
        name: a path to a JSON file, or a name with or without `.json`.

    Returns:
        The file.

    Raises:
        UserError: there is none; names what was tried and the nearest config.
    """
    package = Path(__file__).resolve().parents[1]
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
            raise InvalidSettings([unknown_name_message("--variant", variant, list(variants))])
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
            problems.extend(error.with_prefix(path).problems)
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
        place = "data.dataset" if built["data"] == settings["data"] else "data"
        built["data"] = build_in(
            built["data"], "dataset", lambda v: build(components.datasets, v, place)
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
        problems.append(unknown_name_message("data.source", name, list(datasets)))
        return rest | {"dataset": None}
    own = {field.name for field in dataclasses.fields(datasets[name])}
    dataset = {"name": name} | {key: value for key, value in rest.items() if key in own}
    return {key: value for key, value in rest.items() if key not in own} | {"dataset": dataset}


def _check_pairs(config: Config) -> None:
    """Settings that are right each by itself, and wrong together."""
    training, problems = config.training, []
    unit = "steps" if training.steps is not None else "epochs"
    late = [m for m in training.schedule.milestones if m >= training.length]
    if late:
        problems.append(
            f"training.schedule.milestones: got {late}; allowed: below training.{unit}, "
            f"which is {training.length}"
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
