"""The numbers of the patent's tables, in `patent.json`."""

from __future__ import annotations

import json
from pathlib import Path


class Patent:
    """The accuracies in tables 1 to 6 of CN111401445A.

    Example:
        >>> Patent().accuracy("table3", "mnist", "srt", "pgd")
        0.966
        >>> len(Patent())
        274
    """

    def __init__(self) -> None:
        path = Path(__file__).with_name("patent.json")
        content = json.loads(path.read_text(encoding="utf-8"))
        self.source: str = content["source"]
        self._cells: dict[tuple[str, str, str, str], float] = {
            (table, dataset, row, column): percent
            for table, printed in content["tables"].items()
            for dataset, rows in printed["rows"].items()
            for row, numbers in rows.items()
            for column, percent in zip(printed["columns"], numbers, strict=True)
        }

    def __len__(self) -> int:
        return len(self._cells)

    def accuracy(self, table: str, dataset: str, row: str, column: str) -> float | None:
        """Return the accuracy of a cell as a fraction, or None if the patent has no such cell."""
        percent = self._cells.get((table, dataset, row, column))
        return None if percent is None else round(percent / 100, 6)
