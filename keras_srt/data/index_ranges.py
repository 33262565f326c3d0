"""Sets of indices as sorted ranges, for datasets with millions of images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class IndexRanges:
    """A set of indices, stored as sorted, disjoint, non-empty ranges.

    Args:
        bounds: int64 [k, 2], the first index of each range, and its last index plus one.

    Raises:
        ValueError: The ranges are not sorted, overlap, or are empty.

    Example:
        >>> IndexRanges([[0, 3], [7, 9]])
        IndexRanges([[0, 3], [7, 9]])
        >>> np.asarray(IndexRanges([[0, 3], [7, 9]]))
        array([0, 1, 2, 7, 8])
    """

    def __init__(self, bounds: Iterable[Iterable[int]]) -> None:
        self.bounds = np.asarray(bounds, dtype=np.int64).reshape(-1, 2)
        flat = self.bounds.ravel()
        if np.any(flat[1::2] <= flat[::2]) or np.any(flat[2::2] < flat[1:-1:2]):
            raise ValueError("ranges must be sorted, disjoint and not empty")
        # The number of indices before each range, and the total number.
        self.before = np.concatenate([[0], np.cumsum(self.bounds[:, 1] - self.bounds[:, 0])])

    @classmethod
    def of(cls, indices: np.ndarray) -> IndexRanges:
        """Return the ranges of an array of indices in any order.

        Example:
            >>> IndexRanges.of(np.array([4, 2, 3, 9]))
            IndexRanges([[2, 5], [9, 10]])
        """
        values = np.unique(np.asarray(indices, np.int64))
        if not len(values):
            return cls([])
        cuts = np.flatnonzero(np.diff(values) > 1)
        first = values[np.concatenate([[0], cuts + 1])]
        last = values[np.concatenate([cuts, [len(values) - 1]])]
        return cls(np.stack([first, last + 1], axis=1))

    def complement(self, total: int) -> IndexRanges:
        """Return all other indices below `total`.

        Example:
            >>> IndexRanges([[0, 3], [7, 9]]).complement(20)
            IndexRanges([[3, 7], [9, 20]])
        """
        gaps = np.concatenate([[0], self.bounds.ravel(), [total]]).reshape(-1, 2)
        return IndexRanges(gaps[gaps[:, 0] < gaps[:, 1]])

    def head(self, count: int) -> IndexRanges:
        """Return the `count` lowest indices.

        Example:
            >>> IndexRanges([[0, 3], [7, 9]]).head(4)
            IndexRanges([[0, 3], [7, 8]])
        """
        bounds = self.bounds[self.before[:-1] < count].copy()
        if len(bounds):
            excess = self.before[len(bounds)] - count
            bounds[-1, 1] -= max(0, excess)
        return IndexRanges(bounds)

    def rank(self, index: np.ndarray) -> np.ndarray:
        """Return, for each given index, the number of indices of the set below it.

        Example:
            >>> IndexRanges([[0, 3], [7, 9]]).rank(np.array([0, 5, 8, 100])).tolist()
            [0, 3, 4, 5]
        """
        place = np.searchsorted(self.bounds[:, 0], index, side="right") - 1
        inside = np.minimum(index, self.bounds[place, 1]) - self.bounds[place, 0]
        return np.where(place < 0, 0, self.before[place] + inside)

    def __len__(self) -> int:
        return int(self.before[-1])

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        parts = [np.arange(first, end, dtype=np.int64) for first, end in self.bounds]
        values = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return values if dtype is None else values.astype(dtype)

    def __repr__(self) -> str:
        return f"IndexRanges({self.bounds.tolist()})"
