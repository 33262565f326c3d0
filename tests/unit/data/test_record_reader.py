"""Reading of selected records."""

import numpy as np
from numbered_records import LENGTHS, UNLABELED, Numbered, ids_of, take

from keras_srt.data import (
    ordered_batches,
)
from keras_srt.data.record_reader import Reader


def test_reader_yields_selected_records_with_their_ordinals():
    for lane in (None, (30, 61), (91, 92)):
        read = list(Reader(Numbered(LENGTHS), UNLABELED, lane).in_order().as_numpy_iterator())
        begin, end = lane or (0, len(UNLABELED))
        np.testing.assert_array_equal([ordinal for ordinal, _ in read], np.arange(begin, end))
        expected = np.asarray(UNLABELED)[begin:end]
        np.testing.assert_array_equal([record for _, record in read], expected)


def test_ordered_batches_contain_all_selected_images_once():
    batches = take(ordered_batches(Numbered(LENGTHS), UNLABELED, 40), 9)
    assert [len(batch) for batch in batches] == [40, 40, 12]
    np.testing.assert_array_equal(ids_of(np.concatenate(batches)), UNLABELED)
