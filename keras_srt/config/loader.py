"""Find, read and validate configs: JSON files with variants and `--set` overrides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_srt.config.overrides import Settings, apply_overrides, expand_source, merge
from keras_srt.config.schema import Components, Config
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.registry import Registry
from keras_srt.core.validation import did_you_mean, unknown_name_message


def find(name: str) -> Path:
    """Find a config by its path, or by its bare name in `configs/`.

    Args:
        name: The path of a JSON file, or a name with or without `.json`.

    Returns:
        The path of the config.

    Raises:
        UserError: No such file exists; the message suggests a similar name.
    """
    package = Path(__file__).resolve().parents[1]
    folders = (Path("configs"), package.parent / "configs", package / "configs")
    # A pipe, as of `--config <(…)`, is read like a file.
    if (given := Path(name)).is_file() or given.is_fifo():
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
    """Read a config, apply a variant and overrides, and validate the result.

    Args:
        path: The JSON file.
        components: The components that the config can name.
        variant: A key of the file's `variants`, or None.
        overrides: Strings `key.path=value`; a value that is not JSON is taken as a string.

    Returns:
        The config, with its components built.

    Raises:
        UserError: The file cannot be read or is not JSON.
        InvalidSettings: Settings are invalid; lists all problems.
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
    return parse(apply_overrides(settings, overrides, components), components)


def parse(settings: Settings, components: Components) -> Config:
    """Validate resolved settings and build their components; see `load`."""
    problems: list[str] = []
    _check_text(settings, "", problems)
    if problems:
        raise InvalidSettings(problems)
    built = _Builder(components, problems).build(settings)
    try:
        config = Config(**built)
    except InvalidSettings as error:
        raise InvalidSettings(problems + list(error.problems)) from None
    if problems:
        raise InvalidSettings(problems)
    _check_combinations(config)
    return config


def _check_text(value: Any, path: str, problems: list[str]) -> None:
    """Find texts that can't be part of a path: with NUL, or not in UTF-8."""
    if isinstance(value, str):
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            problems.append(f"{path}: got {value!r}; allowed: text in UTF-8 without NUL")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check_text(inner, f"{path}.{key}" if path else str(key), problems)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_text(inner, f"{path}[{index}]", problems)


def _read(path: Path) -> Settings:
    def to_dict(pairs: list[tuple[str, Any]]) -> Settings:
        keys = [key for key, _ in pairs]
        duplicates = sorted({key for key in keys if keys.count(key) > 1})
        if duplicates:
            raise ValueError(f"duplicate key {duplicates[0]!r}")
        return dict(pairs)

    def reject(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        settings = json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=to_dict, parse_constant=reject
        )
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: got a {type(settings).__name__}; allowed: a JSON object {{…}}")
    return settings


class _Builder:
    """Builds the components in a config, and collects their problems.

    Args:
        components: The registries.
        problems: A list to which problems are appended.
    """

    def __init__(self, components: Components, problems: list[str]) -> None:
        self._components, self._problems = components, problems

    def build(self, settings: Settings) -> Settings:
        """Return the settings with components in place of their settings."""
        built, components = dict(settings), self._components
        for key, registry in (
            ("model", components.models),
            ("neighborhood", components.neighborhoods),
            ("objective", components.objectives),
        ):
            if key in built:
                built[key] = self._component(registry, built[key], key)
        sections = {
            "data": self._with_dataset,
            "evaluation": self._with_attacks,
            "training": lambda section: self._with_search(section, settings.get("neighborhood")),
        }
        for key, build_in in sections.items():
            if isinstance(built.get(key), Mapping):
                built[key] = build_in(built[key])
        if isinstance(built.get("description"), str):
            built["description"] = [built["description"]]
        return built

    def _component(self, registry: Registry, value: Any, path: str) -> Any:
        named = {"name": value} if isinstance(value, str) else value
        try:
            return registry.build(named)
        except InvalidSettings as error:
            self._problems.extend(error.with_prefix(path).problems)
            return None

    def _with_dataset(self, data: Settings) -> Settings:
        datasets = self._components.datasets
        path = "data" if "source" in data else "data.dataset"
        data = _expand_source(data, datasets, self._problems)
        if "dataset" not in data:
            return data
        return {**data, "dataset": self._component(datasets, data["dataset"], path)}

    def _with_attacks(self, evaluation: Settings) -> Settings:
        attacks, registry = evaluation.get("attacks"), self._components.attacks
        if not isinstance(attacks, list):
            return evaluation
        built = [
            self._component(registry, attack, f"evaluation.attacks[{index}]")
            for index, attack in enumerate(attacks)
        ]
        return {**evaluation, "attacks": built}

    def _with_search(self, training: Settings, neighborhood: Any) -> Settings:
        """Build the neighborhood of the training's search from its differences to another."""
        search = training.get("search")
        if not isinstance(search, Mapping):
            return training
        base = dict(neighborhood) if isinstance(neighborhood, Mapping) else {"name": neighborhood}
        merged, registry = merge(base, search, "search."), self._components.neighborhoods
        return {**training, "search": self._component(registry, merged, "training.search")}


def _expand_source(data: Settings, datasets: Registry, problems: list[str]) -> Settings:
    """Expand `{"source": NAME, …}`: move the dataset's settings into a `dataset` object."""
    if "source" not in data:
        return data
    name = data["source"]
    if "dataset" in data:
        problems.append(f"data.source: got {name!r} and a dataset; allowed: one of them")
    elif not isinstance(name, str) or name not in datasets:
        problems.append(unknown_name_message("data.source", name, list(datasets)))
    else:
        return expand_source(dict(data), datasets)
    rest = {key: value for key, value in data.items() if key != "source"}
    return {"dataset": None} | rest


def _check_combinations(config: Config) -> None:
    """Check settings that are valid by themselves but not in combination."""
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
            f"{config.objective.name!r}; allowed: null, because it uses labeled images only"
        )
    if training.jit_compile and not config.neighborhood.compilable:
        problems.append(
            "training.jit_compile: got true with a spatial neighborhood, whose image transform "
            "has no XLA kernel; allowed: false"
        )
    if config.objective.uses_unlabeled and config.data.unlabeled == 0:
        problems.append(
            f"data.unlabeled: got 0 with the objective {config.objective.name!r}; allowed: more "
            f"than 0, or the objective {config.objective.without_unlabeled!r}, its equivalent "
            "without unlabeled images"
        )
    if problems:
        raise InvalidSettings(problems)
