"""Specifications of tables and figures: models, attacks and layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

# Seconds for everything; minutes a model on two cores; hours a table on two cores; the reference
# settings.
SCALES = ("smoke", "quick", "cpu", "full")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A classifier to train; dataset, scale and seed come from the job.

    Args:
        family: The base config: "pixel", "pixel-0.1" (ε = 0.1), "spatial", "composite" or
            "composite-t2" (its stages in the other order).
        objective: The name of a training objective.
        robust_weight: λ or β of separate means; None for the default of the recipe.
        labeled: Number of labeled images; None for all.
        unlabeled: Number of unlabeled images; None for all others.
        batch_size: Images per step; None for the base config's.

    Example:
        >>> ModelSpec("pixel", "srt", robust_weight=2.0, labeled=300).name
        'pixel-300-srt-weight2'
    """

    family: str
    objective: str
    robust_weight: float | None = None
    labeled: int | None = 10_000
    unlabeled: int | None = None
    batch_size: int | None = None

    @property
    def name(self) -> str:
        """A readable name, unique among the models of a dataset and scale."""
        parts = [self.family, "all" if self.labeled is None else str(self.labeled), self.objective]
        if self.robust_weight is not None:
            parts.append(f"weight{self.robust_weight:g}")
        if self.unlabeled is not None:
            parts.append(f"unlabeled{self.unlabeled}")
        if self.batch_size is not None:
            parts.append(f"batch{self.batch_size}")
        return "-".join(parts)


@dataclasses.dataclass(frozen=True)
class AttackSpec:
    """An attack and its number of test images.

    Args:
        settings: `{"name": …, setting: value, …}`, the input of the registry of attacks.
        images: Number of first test images; None for the default of the job.
        passes: Maximum number of passes per image, for estimates.
    """

    settings: Mapping[str, Any]
    images: int | None = None
    passes: int = 1


@dataclasses.dataclass(frozen=True)
class Cell:
    """The model and attacks behind a number.

    Args:
        model: The model.
        attacks: Empty for clean accuracy; several for their per-image worst case.
    """

    model: ModelSpec
    attacks: tuple[AttackSpec, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table, a color of a figure.

    Args:
        key: The key in `patent.json`.
        title: The title to show.
        cells: One per column.
    """

    key: str
    title: str
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table, a group of bars or a position on the x axis.

    Args:
        key: The key in `patent.json`.
        title: The title to show.
    """

    key: str
    title: str


@dataclasses.dataclass(frozen=True)
class Panel:
    """A table with its figure.

    Args:
        title: The title of the panel.
        columns: The columns from left to right.
        rows: The rows from top to bottom.
        axis: The x label of a line figure; None for a bar figure.
        patent_cells: Table and column of the patent with which all columns are compared; None
            for the cells of the same target and column.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    axis: str | None = None
    patent_cells: tuple[str, str] | None = None

    def cells(self) -> Iterator[Cell]:
        """Iterate over all cells, row by row."""
        return (cell for row in self.rows for cell in row.cells)


@dataclasses.dataclass(frozen=True)
class Target:
    """A table or figure, for one dataset and scale.

    Args:
        name: The name, such as "table1".
        dataset: "mnist" or "cifar10".
        scale: One of `SCALES`.
        title: The title of the table or figure.
        panels: The panels.
        images: Default number of test images per attack; None for all.
        notes: Assumptions to mention.
        in_patent: Whether the patent has this table or figure.
        reading: How λ and RT are read, one of `readings.READINGS`.
    """

    name: str
    dataset: str
    scale: str
    title: str
    panels: tuple[Panel, ...]
    images: int | None
    notes: tuple[str, ...] = ()
    in_patent: bool = True
    reading: str = "patent"

    @property
    def file_name(self) -> str:
        """The name of the output files without extension."""
        name = f"{self.name}-{self.dataset}-{self.scale}"
        return name if self.reading == "patent" else f"{name}-{self.reading}"

    def models(self) -> list[ModelSpec]:
        """Return each model once, in order."""
        return list(dict.fromkeys(cell.model for panel in self.panels for cell in panel.cells()))

    def attacks_on(self, model: ModelSpec) -> list[AttackSpec]:
        """Return each attack on a model once, in order."""
        found: list[AttackSpec] = []
        for panel in self.panels:
            for cell in panel.cells():
                if cell.model == model:
                    found += [attack for attack in cell.attacks if attack not in found]
        return found
