"""Reading `history.csv`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def read_history(path: Path | None) -> dict[str, np.ndarray]:
    """Read the numeric columns of `history.csv`.

    Args:
        path: The file; may be None or absent.

    Returns:
        Column name -> float64 [steps], NaN where a cell is empty; columns without any number
        are left out. Empty if the file is absent.
    """
    if path is None or not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        # A resumed run repeats the steps after its checkpoint: the last row of a step counts.
        rows = list({row["step"]: row for row in csv.DictReader(file)}.values())
    columns = {
        name: np.array([float(row[name] or "nan") for row in rows])
        for name in (rows[0] if rows else ())
    }
    return {name: values for name, values in columns.items() if np.isfinite(values).any()}
