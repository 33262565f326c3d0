"""Index ranges."""

import numpy as np
import pytest

from keras_srt.data import (
    IndexRanges,
)


def test_ranges_equal_their_indices():
    drawn = np.random.default_rng(0).permutation(60)[:25]
    ranges, rest = IndexRanges.of(drawn), IndexRanges.of(drawn).complement(60)
    np.testing.assert_array_equal(ranges, np.sort(drawn))
    np.testing.assert_array_equal(np.union1d(ranges, rest), np.arange(60))
    assert (len(ranges), len(rest)) == (25, 35)
    for index in range(61):
        assert ranges.rank(index) == np.sum(drawn < index)
    for count in range(30):
        np.testing.assert_array_equal(ranges.head(count), np.sort(drawn)[:count])
    assert len(IndexRanges([])) == len(IndexRanges.of(np.arange(5)).complement(5)) == 0


@pytest.mark.parametrize("bounds", [[[3, 3]], [[5, 2]], [[0, 4], [3, 6]], [[4, 6], [0, 2]]])
def test_unsorted_overlapping_or_empty_ranges_are_rejected(bounds):
    with pytest.raises(ValueError, match="sorted, disjoint"):
        IndexRanges(bounds)
