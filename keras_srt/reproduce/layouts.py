"""Layouts of tables and figures: which models stand under which attacks in which panels."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from typing_extensions import override

from keras_srt.reproduce.attack_settings import SEARCHES, UNSTATED_ATTACKS, attack, searched
from keras_srt.reproduce.readings import with_weight
from keras_srt.reproduce.specs import AttackSpec, Cell, Column, ModelSpec, Panel, Row

_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
TITLES = {
    "clean": "clean", "fgsm": "FGSM", "pgd": "PGD", "mi_fgsm": "MI-FGSM", "jsma": "JSMA",
    "cw": "C&W", "pointwise": "Pointwise", "ddn": "DDN", "autoattack": "AutoAttack",
    "randadv": "RandAdv", "randadv_r": "RandAdv.R", "randadv_t": "RandAdv.T",
    "gridadv": "GridAdv", "gridadv_r": "GridAdv.R", "gridadv_t": "GridAdv.T",
    "pgd_plus": "PGD+", "gridadv_plus": "GridAdv+",
    "standard": "standard", "adversarial": "AT", "trades": "TRADES", "uat": "UAT++",
    "rst": "RST", "rt": "RT", "srt": "SRT", "worst_of_k": "worst of k", "klr": "KLR",
}  # fmt: skip


class Setting(NamedTuple):
    """What a target is made for: a dataset, a scale, and a reading of λ."""

    dataset: str
    scale: str
    reading: str


@dataclasses.dataclass(frozen=True)
class Defense:
    """A row of a table, a line or a panel of a figure.

    Args:
        key: The key in `patent.json`.
        title: The title to show.
        family: The family of the model.
        objective: The training objective.
        weight: λ as the patent prints it; None for the default of the recipe.
    """

    key: str
    title: str
    family: str
    objective: str
    weight: float | None = None

    def model(self, setting: Setting) -> ModelSpec:
        """Return the spec of the model, with λ as the setting reads it."""
        if self.weight is None:
            return ModelSpec(self.family, self.objective)
        weighed = self.family, self.objective, self.weight
        return with_weight(*weighed, setting.dataset, setting.reading)


def named(family: str, objective: str, weight: float | None = None) -> Defense:
    """Return a defense whose key and title are those of its objective."""
    return Defense(objective, TITLES[objective], family, objective, weight)


def by_weight(family: str, weights: tuple[float, ...]) -> tuple[Defense, ...]:
    """Return RT and SRT with each λ."""
    return tuple(
        Defense(f"{name}_{weight:g}", f"{TITLES[name]}, λ = {weight:.2f}", family, name, weight)
        for weight in weights
        for name in ("rt", "srt")
    )


class Layout(ABC):
    """The layout of a target: panels with models and attacks."""

    @abstractmethod
    def panels(self, setting: Setting) -> tuple[Panel, ...]:
        """Make the panels for a setting."""


@dataclasses.dataclass(frozen=True)
class Table(Layout):
    """One panel of every defense under every attack.

    Args:
        rows: The defenses.
        attacks: The attacks after the column of clean images.
        epsilon: Radius of the attacks, if it is not the dataset's.
        worst_case: Whether a last column has the per-image worst case of all attacks.
        attack_sets: The sets of `attack_settings` to show, with a panel each.
    """

    rows: tuple[Defense, ...]
    attacks: tuple[str, ...]
    epsilon: float | None = None
    worst_case: bool = False
    attack_sets: tuple[str, ...] = ("ours",)

    @override
    def panels(self, setting: Setting) -> tuple[Panel, ...]:
        first, *others = self.attack_sets
        found = [self._panel(setting, first, self.attacks)]
        for name in others:
            found.append(self._panel(setting, name, UNSTATED_ATTACKS))
        return tuple(found)

    def _panel(self, setting: Setting, attack_set: str, names: tuple[str, ...]) -> Panel:
        columns: dict[str, tuple[AttackSpec, ...]] = {"clean": ()}
        for name in names:
            dataset, scale, _ = setting
            wanted = attack(name, dataset, scale, epsilon=self.epsilon, attack_set=attack_set)
            columns[name] = (wanted,)
        titles = dict(TITLES)
        if self.worst_case:
            columns["worst_case"] = tuple(one for attacks in columns.values() for one in attacks)
            titles["worst_case"] = "worst case"
        rows = []
        for defense in self.rows:
            model = defense.model(setting)
            cells = tuple(Cell(model, attacks) for attacks in columns.values())
            rows.append(Row(defense.key, defense.title, cells))
        title = "Accuracy" if attack_set == "ours" else f"The {attack_set} attack settings"
        return Panel(title, tuple(Column(key, titles[key]) for key in columns), tuple(rows))


@dataclasses.dataclass(frozen=True)
class Budgets(Layout):
    """A panel for each of `SEARCHES`: an attack by its budget, beside the patent's column.

    Args:
        rows: Defenses of Table 3.
    """

    rows: tuple[Defense, ...]

    @override
    def panels(self, setting: Setting) -> tuple[Panel, ...]:
        found = []
        for search in SEARCHES:
            attacks = searched(search, setting.dataset, setting.scale)
            columns = tuple(Column(f"{budget:g}", f"{budget:g}") for budget in search.budgets)
            rows = tuple(
                Row(
                    defense.key,
                    defense.title,
                    tuple(Cell(defense.model(setting), (one,)) for one in attacks),
                )
                for defense in self.rows
            )
            cells = ("table3", search.column)
            found.append(Panel(search.title, columns, rows, patent_cells=cells))
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class Shares(Layout):
    """Accuracy by share of the largest perturbation.

    Args:
        rows: The defenses.
        attacks: The attacks.
        panel_of_defense: Whether a panel is a defense and a line an attack, or the other way.
    """

    rows: tuple[Defense, ...]
    attacks: tuple[str, ...]
    panel_of_defense: bool

    @override
    def panels(self, setting: Setting) -> tuple[Panel, ...]:
        if self.panel_of_defense:
            titled = [
                (one.title, [(name, TITLES[name], one, name) for name in self.attacks])
                for one in self.rows
            ]
        else:
            titled = [
                (TITLES[name], [(one.key, one.title, one, name) for one in self.rows])
                for name in self.attacks
            ]
        columns = tuple(Column(f"{share:g}", f"{share:g}") for share in (0.0, *_SHARES))
        return tuple(
            Panel(
                title,
                columns,
                tuple(
                    Row(key, line, _by_share(defense, name, setting))
                    for key, line, defense, name in lines
                ),
                "share of the largest perturbation",
            )
            for title, lines in titled
        )


def _by_share(defense: Defense, name: str, setting: Setting) -> tuple[Cell, ...]:
    """Return the cells of the clean images and of each share of the perturbation."""
    model = defense.model(setting)
    attacked = [attack(name, setting.dataset, setting.scale, share) for share in _SHARES]
    return (Cell(model), *(Cell(model, (one,)) for one in attacked))


@dataclasses.dataclass(frozen=True)
class Unlabeled(Layout):
    """Accuracy of SRT by number of unlabeled images, beside training with all labels.

    Args:
        labeled: Number of labeled images.
        spatial_weight: λ of the models on poses.
        counts: Numbers of unlabeled images between 0 and all others.
    """

    labeled: int
    spatial_weight: float
    counts: tuple[int, ...] = (1_000, 5_000, 20_000)

    @override
    def panels(self, setting: Setting) -> tuple[Panel, ...]:
        columns = (
            Column("0", "0"),
            *(Column(str(count), f"{count:,}") for count in self.counts),
            Column("all", "all others"),
        )
        axis = f"unlabeled images beside {self.labeled:,} labels"
        return (
            self._panel("pixel", "pgd", "adversarial", None, columns, axis, setting),
            self._panel(
                "spatial", "gridadv", "worst_of_k", self.spatial_weight, columns, axis, setting
            ),
        )

    def _panel(
        self, family: str, name: str, all_labels: str, weight: float | None,
        columns: tuple[Column, ...], axis: str, setting: Setting,
    ) -> Panel:  # fmt: skip
        srt, rt = (
            dataclasses.replace(
                Defense(key, key, family, key, weight).model(setting), labeled=self.labeled
            )
            for key in ("srt", "rt")
        )
        some = (dataclasses.replace(srt, unlabeled=count) for count in self.counts)
        lines = {
            "srt": ("SRT", (rt, *some, srt)),
            "all_labels": (
                f"{TITLES[all_labels]}, all labels",
                (ModelSpec(family, all_labels, labeled=None),) * len(columns),
            ),
        }
        return _lines(f"{TITLES[name]} on {family} models", name, lines, columns, axis, setting)


@dataclasses.dataclass(frozen=True)
class Labels(Layout):
    """Accuracy of SRT and RT by number of labels, all other images unlabeled."""

    counts: tuple[int, ...] = (100, 300, 1_000, 3_000, 10_000)

    @override
    def panels(self, setting: Setting) -> tuple[Panel, ...]:
        columns = tuple(Column(str(count), f"{count:,}") for count in self.counts)
        axis = "labels, all other images unlabeled"
        panels = []
        for family, name in (("pixel", "pgd"), ("spatial", "gridadv")):
            lines = {
                key: (
                    TITLES[key],
                    tuple(ModelSpec(family, key, labeled=count) for count in self.counts),
                )
                for key in ("srt", "rt")
            }
            title = f"{TITLES[name]} on {family} models"
            panels.append(_lines(title, name, lines, columns, axis, setting))
        return tuple(panels)


def _lines(
    title: str, name: str, lines: Mapping[str, tuple[str, tuple[ModelSpec, ...]]],
    columns: tuple[Column, ...], axis: str, setting: Setting,
) -> Panel:  # fmt: skip
    """Make a panel of clean and robust accuracy with a model for each line and column."""
    attacked = (attack(name, setting.dataset, setting.scale),)
    rows = []
    for key, (line, models) in lines.items():
        for attacks, end in (((), "clean"), (attacked, name)):
            cells = tuple(Cell(model, attacks) for model in models)
            rows.append(Row(f"{key}_{end}", f"{line}, {TITLES[end]}", cells))
    return Panel(title, columns, tuple(rows), axis)
