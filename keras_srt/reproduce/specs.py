"""What a table or figure is made of: models, attacks and their layout; data, no work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

# From seconds for all, over minutes a model on two cores, to the reference settings.
SCALES = ("smoke", "quick", "full")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A classifier to train; the dataset, the scale and the seed come from the job.

    Args:
        family: which base config: "pixel", "pixel-0.1" (ε = 0.1), "spatial" or "composite".
        objective: the name of a training objective.
        robust_weight: λ or β; None for what the recipe says.
        labeled: images with labels.
        unlabeled: images without labels; None for all the rest.

    Example:
        >>> ModelSpec("pixel", "srt", robust_weight=2.0, labeled=300).name
        'pixel-300-srt-weight2'
    """

    family: str
    objective: str
    robust_weight: float | None = None
    labeled: int = 10_000
    unlabeled: int | None = None

    @property
    def name(self) -> str:
        """Readable, and unique among the models of a dataset and scale."""
        parts = [self.family, str(self.labeled), self.objective]
        if self.robust_weight is not None:
            parts.append(f"weight{self.robust_weight:g}")
        if self.unlabeled is not None:
            parts.append(f"unlabeled{self.unlabeled}")
        return "-".join(parts)


@dataclasses.dataclass(frozen=True)
class AttackSpec:
    """An attack and the images it is run on.

    Args:
        settings: `{"name": …, setting: value, …}`, as the registry of attacks takes them.
        images: the first so many test images; None for as many as the job says.
        passes: of an image through the model, forward or back, at most; for estimates.
    """

    settings: Mapping[str, Any]
    images: int | None = None
    passes: int = 1


@dataclasses.dataclass(frozen=True)
class Cell:
    """Where a number comes from.

    Args:
        model: which model.
        attacks: none for the untampered images; several for their worst case, image by image.
    """

    model: ModelSpec
    attacks: tuple[AttackSpec, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table, a color of a figure.

    Args:
        key: as in `paper.json`.
        title: as it is shown.
        cells: one for each column.
    """

    key: str
    title: str
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table, a group of bars or a place on the x axis.

    Args:
        key: as in `paper.json`.
        title: as it is shown.
    """

    key: str
    title: str


@dataclasses.dataclass(frozen=True)
class Panel:
    """A table with its figure.

    Args:
        title: what it shows.
        columns: from left to right.
        rows: from top to bottom.
        axis: what the columns are, for a figure of lines; None for one of bars.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    axis: str | None = None

    def cells(self) -> Iterator[Cell]:
        """All cells, row by row."""
        return (cell for row in self.rows for cell in row.cells)


@dataclasses.dataclass(frozen=True)
class Target:
    """A table or figure of the paper, on one dataset and at one scale.

    Args:
        name: "table1", say.
        dataset: "mnist" or "cifar10".
        scale: one of `SCALES`.
        title: what it shows.
        panels: its parts.
        images: test images of an attack that doesn't say otherwise; None for all.
        notes: what was assumed.
        in_paper: whether the paper has it.
    """

    name: str
    dataset: str
    scale: str
    title: str
    panels: tuple[Panel, ...]
    images: int | None
    notes: tuple[str, ...] = ()
    in_paper: bool = True

    @property
    def file_name(self) -> str:
        """Of its files, without an ending."""
        return f"{self.name}-{self.dataset}-{self.scale}"

    def models(self) -> list[ModelSpec]:
        """Each model once, in order."""
        return list(dict.fromkeys(cell.model for panel in self.panels for cell in panel.cells()))

    def attacks_on(self, model: ModelSpec) -> list[AttackSpec]:
        """Each attack on a model once, in order."""
        found: list[AttackSpec] = []
        for panel in self.panels:
            for cell in panel.cells():
                if cell.model == model:
                    found += [attack for attack in cell.attacks if attack not in found]
        return found
