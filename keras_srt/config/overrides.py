"""`--set` overrides: apply them to settings, and reset what no longer applies."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keras_srt.config.schema import Components, DataSettings
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import Registry

logger = logging.getLogger(__name__)

Settings = dict[str, Any]

# Mutually exclusive settings: an override with one removes the other.
_EXCLUSIVE = (("training.steps", "training.epochs"),)


def merge(base: Settings, change: Mapping[str, Any], path: str = "") -> Settings:
    """Apply a change to settings: merge objects by key, replace all other values.

    A changed `"name"` selects another component: its object replaces the old one, whose settings
    belong to the old component. An object with the keys "0", "1", … changes items of a list.

    Args:
        base: The settings.
        change: The settings to add or replace.
        path: The dotted path of `base` with a trailing dot, for nested calls.

    Raises:
        InvalidSettings: A list has no item with the given index.

    Example:
        >>> merge({"seed": 0, "training": {"steps": 5}}, {"training": {"epochs": 2}})
        {'seed': 0, 'training': {'epochs': 2}}
        >>> merge({"attacks": ["fgsm", "pgd"]}, {"attacks": {"1": {"restarts": 2}}})
        {'attacks': ['fgsm', {'name': 'pgd', 'restarts': 2}]}
    """
    merged = dict(base)
    if path and "name" in change and "name" in base and change["name"] != base["name"]:
        return dict(change)
    for key, value in change.items():
        here = f"{path}{key}"
        for pair in _EXCLUSIVE:
            if here in pair and value is not None:
                for other in pair:
                    if other != here and other.rpartition(".")[2] not in change:
                        merged.pop(other.rpartition(".")[2], None)
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[key] = merge(dict(old), value, f"{here}.")
        elif isinstance(old, list) and _is_by_index(value):
            merged[key] = _merge_items(old, value, here)
        else:
            merged[key] = value
    return merged


def _is_by_index(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(key.isascii() and key.isdigit() for key in value)
    )


def _merge_items(items: list[Any], change: Mapping[str, Any], path: str) -> list[Any]:
    merged = list(items)
    for index, value in change.items():
        if int(index) >= len(items):
            raise InvalidSettings(
                [f"{path}.{index}: got the index {index}; allowed: 0 to {len(items) - 1}"]
            )
        old = merged[int(index)]
        old = {"name": old} if isinstance(old, str) else old
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[int(index)] = merge(dict(old), value, f"{path}.{index}.") if both else value
    return merged


def apply_overrides(
    settings: Settings, overrides: Iterable[str], components: Components
) -> Settings:
    """Apply `--set` overrides, and reset settings that no longer apply.

    With another objective, settings that it doesn't use are reset to their defaults; with another
    image size, translations keep their share of it. Settings that an override gives stay.

    Args:
        settings: The settings of the config file and its variant.
        overrides: Strings `key.path=value`; a value that is not JSON is taken as a string.
        components: The components that the config can name.

    Raises:
        InvalidSettings: An override is malformed.
    """
    changed, given = settings, set[str]()
    for override in overrides:
        change = _parse(override)
        changed = merge(_with_counts(changed, change, components.datasets), change)
        given.update(_paths(change))
    if not given:
        return settings
    changed = _follow_objective(changed, given, components.objectives)
    return _follow_size(settings, changed, given)


def _parse(override: str) -> Settings:
    key, equals, text = override.partition("=")
    if not equals or not key or "" in key.split("."):
        raise InvalidSettings(
            [f"--set {override}: got no value; allowed: key.path=value, such as training.epochs=3"]
        )
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _paths(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of all values, and of the objects above them."""
    for key, value in settings.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")


def expand_source(data: Settings, datasets: Registry) -> Settings:
    """Expand `{"source": NAME, …}`: move the dataset's settings into a `dataset` object."""
    rest = {key: value for key, value in data.items() if key != "source"}
    own = {field.name for field in dataclasses.fields(datasets[data["source"]])}
    dataset = {"name": data["source"]} | {key: rest[key] for key in rest if key in own}
    return {key: rest[key] for key in rest if key not in own} | {"dataset": dataset}


def _with_counts(settings: Settings, change: Settings, datasets: Registry) -> Settings:
    """Expand the source if a number would replace a path: `data.labeled` can be either."""
    data, new = settings.get("data"), change.get("data")
    if not isinstance(data, Mapping) or not isinstance(new, Mapping):
        return settings
    if "dataset" in data or data.get("source") not in datasets:
        return settings
    counts = new.keys() & {field.name for field in dataclasses.fields(DataSettings)}
    if any(isinstance(new[key], int) and isinstance(data.get(key), str) for key in counts):
        return settings | {"data": expand_source(dict(data), datasets)}
    return settings


def _follow_objective(settings: Settings, given: set[str], objectives: Registry) -> Settings:
    """Reset settings that the objective doesn't use, if an override changes the objective."""
    if "objective" not in given:
        return settings
    named = settings["objective"]
    try:
        objective = objectives.build({"name": named} if isinstance(named, str) else named)
    except InvalidSettings:  # reported when the config is built
        return settings
    resets: Settings = {}
    if not objective.uses_unlabeled:
        resets["training.labeled_per_batch"] = None
    if not objective.warmed_terms:
        resets["training.weight_warmup"] = 0.0
    if not objective.uses_neighborhood:
        resets |= {
            "training.strength_warmup": 0.0,
            "training.search_growth": 0.0,
            "training.search": None,
        }
    if not objective.uses_teacher:
        resets |= {"teacher": None, "training.initial_weights": "random"}
    done = []
    for path, default in resets.items():
        section, _, key = path.rpartition(".")
        place = settings.get(section, {}) if section else settings
        if path not in given and isinstance(place, Mapping) and place.get(key, default) != default:
            changed = {**place, key: default}
            settings = settings | {section: changed} if section else changed
            done.append(path)
    if done:
        logger.info(
            "reset, because the objective %r doesn't use them: %s", objective.name, ", ".join(done)
        )
    return settings


def _follow_size(before: Settings, settings: Settings, given: set[str]) -> Settings:
    """Scale translations, in pixels, by the change of the image size."""
    old, new = _size(before), _size(settings)
    if old is None or new is None or old == new:
        return settings
    scaled: list[str] = []

    def scale(value: Any, path: str) -> Any:
        if isinstance(value, list):
            return [scale(item, f"{path}.{index}") for index, item in enumerate(value)]
        if not isinstance(value, Mapping):
            return value
        result = {key: scale(inner, f"{path}.{key}") for key, inner in value.items()}
        own = f"{path}.max_translation"
        if isinstance(result.get("max_translation"), (int, float)) and own not in given:
            result["max_translation"] = round(result["max_translation"] * new / old, 3)
            scaled.append(own)
        return result

    for key in ("neighborhood", "training", "evaluation"):
        if key in settings:
            settings = settings | {key: scale(settings[key], key)}
    if scaled:
        logger.info("scaled to images of %g pixels: %s", new, ", ".join(scaled))
    return settings


def _size(settings: Settings) -> float | None:
    """Return the smaller side of the images of a folder, in pixels."""
    data = settings.get("data")
    data = data if isinstance(data, Mapping) else {}
    dataset = data.get("dataset")
    size = dataset.get("size") if isinstance(dataset, Mapping) else data.get("size")
    sides = size if isinstance(size, list) else [size]
    return min(sides) if sides and all(isinstance(side, int) for side in sides) else None
