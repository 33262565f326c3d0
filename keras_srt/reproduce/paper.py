"""The published numbers that are available in `paper.json`."""

from __future__ import annotations

import json
from pathlib import Path


class Paper:
    """The published accuracies.

    Example:
        >>> Paper().accuracy("table3", "mnist", "srt", "pgd")
        0.966
    """

    def __init__(self) -> None:
        path = Path(__file__).with_name("paper.json")
        content = json.loads(path.read_text(encoding="utf-8"))
        self.source: str = content["source"]
        self._tables = content["tables"]

    def accuracy(self, target: str, dataset: str, row: str, column: str) -> float | None:
        """Return the accuracy of a cell as a fraction, or None if it is not available."""
        rows = self._tables.get(target, {}).get(dataset, {})
        percent = rows.get(row, {}).get(column)
        return None if percent is None else round(percent / 100, 6)
