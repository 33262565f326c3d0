"""Splits: sizes, class frequencies, saving and checking."""

import dataclasses
import json

import numpy as np
import pytest

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.data import (
    IndexRanges,
    Split,
    make_split,
    make_streamed_split,
)
from keras_srt.data.split import window

PARTS = ("labeled", "unlabeled", "validation")


@pytest.mark.parametrize("selection", ["stratified", "random", "first"])
@pytest.mark.parametrize("unlabeled", [None, 0, 130])
def test_split_is_disjoint_and_complete(selection, unlabeled, class_ids):
    split = make_split(class_ids, 4, 100, 60, unlabeled, selection, seed=3)
    parts = [getattr(split, part) for part in PARTS]
    assert [len(part) for part in parts] == [100, 840 if unlabeled is None else unlabeled, 60]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    assert set(together) <= set(range(1000))
    if unlabeled is None:
        np.testing.assert_array_equal(np.sort(together), np.arange(1000))
    split.check(1000)


def test_stratified_split_keeps_class_frequencies(class_ids):
    split = make_split(class_ids, 4, labeled=100, validation=200)
    np.testing.assert_array_equal(np.bincount(class_ids[split.labeled]), [50, 30, 15, 5])
    np.testing.assert_array_equal(np.bincount(class_ids[split.validation]), [100, 60, 30, 10])
    np.testing.assert_array_equal(np.bincount(class_ids[split.unlabeled]), [350, 210, 105, 35])


def test_fractional_class_sizes_are_rounded_by_less_than_one(class_ids):
    for labeled in range(20, 60):
        split = make_split(class_ids, 4, labeled, validation=0)
        counts = np.bincount(class_ids[split.labeled], minlength=4)
        assert counts.sum() == labeled
        exact = labeled * np.array([0.5, 0.3, 0.15, 0.05])
        assert np.all(np.abs(counts - exact) < 1)


def test_first_selection_labels_the_first_images(class_ids):
    split = make_split(class_ids, 4, 100, 60, selection="first", seed=1)
    np.testing.assert_array_equal(split.labeled, np.arange(100))
    shares = 60 * np.bincount(class_ids[100:]) / 900
    assert np.all(np.abs(np.bincount(class_ids[split.validation]) - shares) < 1)


@pytest.mark.parametrize("selection", ["stratified", "random", "first"])
def test_split_depends_on_the_seed(selection, class_ids):
    one, again, other = (
        make_split(class_ids, 4, 100, 60, 50, selection, seed) for seed in (1, 1, 2)
    )
    for part in PARTS:
        np.testing.assert_array_equal(getattr(one, part), getattr(again, part))
        same = np.array_equal(getattr(one, part), getattr(other, part))
        assert same == (selection == "first" and part == "labeled")


@pytest.mark.parametrize("selection", ["stratified", "random", "first"])
@pytest.mark.parametrize("validation", [40, None])
def test_validation_from_the_labeled_images_uses_no_other_label(selection, validation, class_ids):
    split = make_split(
        class_ids, 4, 100, validation, selection=selection, validation_from="labeled"
    )
    held_out = 20 if validation is None else 40  # a fifth
    assert [len(getattr(split, part)) for part in PARTS] == [100 - held_out, 900, held_out]
    split.check(1000)
    together = np.concatenate([split.labeled, split.validation])
    if selection == "first":
        np.testing.assert_array_equal(np.sort(together), np.arange(100))
    unseen = class_ids.copy()
    unseen[split.unlabeled] = -1
    again = make_split(
        unseen, 4, 100, validation, selection=selection, validation_from="labeled", seed=0
    )
    assert set(again.labeled) | set(again.validation) == set(together)


def test_the_sizes_of_the_patent():
    """[0217]: 10,000 labeled images; all other images of MNIST are unlabeled."""
    labels = np.random.default_rng(1).integers(0, 10, 60_000)
    split = make_split(
        labels, 10, 10_000, 1000, selection="random", validation_from="labeled", seed=1
    )
    assert [len(getattr(split, part)) for part in PARTS] == [9000, 50_000, 1000]


def test_a_random_selection_is_uniform(class_ids):
    """The number of images of a class varies by chance."""
    of_class = []
    for seed in range(200):
        split = make_split(np.minimum(class_ids, 1), 2, 100, 60, selection="random", seed=seed)
        of_class.append(np.sum(class_ids[split.labeled] == 0))
    assert abs(np.mean(of_class) - 50) < 1
    assert 3 < np.std(of_class) < 7  # hypergeometric: sqrt(100·0.5·0.5·900/999) = 4.7


def test_unlabeled_images_come_from_all_indices(class_ids):
    split = make_split(class_ids, 4, labeled=100, validation=60, unlabeled=400)
    assert abs(np.mean(split.unlabeled) - 500) < 50


def test_save_and_load(class_ids, tmp_path):
    split = make_split(class_ids, 4, 100, 60, 50, "first", seed=7)
    split.save(tmp_path / "split.json")
    back = Split.load(tmp_path / "split.json")
    assert (back.seed, back.selection) == (7, "first")
    for part in PARTS:
        assert getattr(back, part).dtype == np.int64
        np.testing.assert_array_equal(getattr(back, part), getattr(split, part))


@pytest.mark.parametrize("damage", ["truncated", "no key", "no object", "binary", "absent"])
def test_unreadable_split_is_an_error_with_a_remedy(damage, class_ids, tmp_path):
    path = tmp_path / "split.json"
    make_split(class_ids, 4, 100, 60).save(path)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "no key":
        path.write_text(json.dumps({k: v for k, v in json.loads(content).items() if k != "seed"}))
    elif damage == "no object":
        path.write_text("[1, 2]")
    elif damage == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    else:
        path.unlink()
    with pytest.raises(UserError, match=r"split\.json: can't be read.*another --run-dir"):
        Split.load(path)


@pytest.mark.parametrize(
    "change", [{"labeled": [1, 2]}, {"labeled": [1000]}, {"labeled": [-1]}, {"labeled": [5, 5]}]
)
def test_split_of_another_dataset_is_rejected(change):
    split = Split(np.array([0, 1]), np.array([2, 3]), np.array([4]), 0, "stratified")
    split.check(1000)
    changed = dataclasses.replace(split, labeled=np.array(change["labeled"]))
    with pytest.raises(UserError, match="images twice or outside the 1000"):
        changed.check(1000)


def test_all_problems_of_a_split_are_reported(class_ids):
    with pytest.raises(InvalidSettings) as caught:
        make_split(class_ids, 4, labeled=3, validation=900, unlabeled=98)
    assert caught.value.problems == (
        "data: got labeled + validation + unlabeled = 1001; allowed: at most the 1000 training "
        "images",
        "data.labeled: got 3; allowed: at least 4, one for each class",
    )


def test_class_without_labeled_images_is_an_error():
    class_ids = np.repeat([0, 1, 2], [50, 48, 2])
    with pytest.raises(InvalidSettings, match=r"none of class \[1, 2\]"):
        make_split(class_ids, 3, labeled=10, validation=0, selection="first")
    with pytest.raises(InvalidSettings, match=r"none of class \[3\]"):
        make_split(class_ids, 4, labeled=10, validation=0)


@pytest.mark.parametrize(
    ("sizes", "labeled", "validation"),
    [
        ([*[1000] * 9, 20], 40, None),
        ([200, 10, 10], 10, None),
        ([100, 3, 3], 20, None),
        ([4, 1, 1], None, None),
        ([2, 1, 1], None, None),
        ([1, 1, 2], 3, None),
        ([500, 2, 2, 2], 4, 4),
        ([500, 1, 1, 1], 4, 100),
    ],
    ids=str,
)
def test_rare_classes_have_a_label_in_training_and_where_they_can_in_validation(
    sizes, labeled, validation
):
    class_ids = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    for seed in range(5):
        split = make_split(class_ids, len(sizes), labeled, validation, seed=seed)
        assert set(class_ids[split.labeled]) == set(range(len(sizes)))
        assert len(split.labeled) == labeled or labeled is None
        assert len(split.validation) == validation or validation is None
        several = {number for number, size in enumerate(sizes) if size > 1}
        if len(split.validation) >= len(several):
            assert several <= set(class_ids[split.validation])
        parts = np.concatenate([split.labeled, split.validation, split.unlabeled])
        assert len(set(parts)) == len(parts) <= len(class_ids)


def test_splits_without_rare_classes_stay_the_same():
    """Literals of the first version: results of runs depend on them."""
    split = make_split(np.arange(40) % 4, 4, labeled=8, validation=6, seed=3)
    assert (split.labeled.tolist(), split.validation.tolist()) == (
        [2, 3, 4, 12, 21, 33, 38, 39],
        [11, 17, 20, 23, 30, 32],
    )


def test_streamed_split_reads_labels_of_the_first_records_only(tmp_path):
    asked = []

    def read_labels(count):
        asked.append(count)
        return np.arange(count, dtype=np.int32) % 4

    total = 10**9
    split = make_streamed_split(read_labels, total, 4, labeled=40, validation=80, seed=1)
    assert asked == [480]
    np.testing.assert_array_equal(np.bincount(split.labeled % 4), [10] * 4)
    np.testing.assert_array_equal(np.bincount(split.validation % 4), [20] * 4)
    assert max(split.labeled.max(), split.validation.max()) < 480
    assert len(split.unlabeled) == total - 120
    split.check(total)
    split.save(tmp_path / "split.json")
    assert (tmp_path / "split.json").stat().st_size < 5000
    back = Split.load(tmp_path / "split.json")
    np.testing.assert_array_equal(back.unlabeled.bounds, split.unlabeled.bounds)
    np.testing.assert_array_equal(back.labeled, split.labeled)


def test_streamed_split_limits_unlabeled_images():
    def first_labels(count):
        return np.arange(count) % 2

    split = make_streamed_split(first_labels, 1000, 2, 10, 10, unlabeled=300, selection="first")
    np.testing.assert_array_equal(split.labeled, np.arange(10))
    taken = set(split.labeled) | set(split.validation)
    expected = [index for index in range(1000) if index not in taken][:300]
    np.testing.assert_array_equal(split.unlabeled, expected)


def test_window_is_four_times_the_draw_and_100_per_class():
    assert window(10**6, 10, 1000, 500) == 6000
    assert window(10**6, 1000, 1000, 500) == 100_000
    assert window(5000, 10, 1000, 500) == 5000


def test_long_index_lists_are_saved_as_ranges(tmp_path):
    path = tmp_path / "split.json"
    few = Split(np.array([0]), np.arange(2, 99), np.array([1]), 0, "first")
    few.save(path)
    assert json.loads(path.read_text())["unlabeled"] == list(range(2, 99))
    many = Split(np.array([0]), np.arange(2, 200_000), np.array([1]), 0, "first")
    many.save(path)
    assert json.loads(path.read_text())["unlabeled"] == {"ranges": [[2, 200_000]]}
    np.testing.assert_array_equal(Split.load(path).unlabeled, many.unlabeled)
    Split.load(path).check(200_000)
    with pytest.raises(UserError, match="images twice or outside the 199999"):
        Split.load(path).check(199_999)


def test_overlapping_ranges_and_lists_are_rejected():
    split = Split(np.array([50]), IndexRanges([[0, 51]]), np.array([60]), 0, "first")
    with pytest.raises(UserError, match="images twice"):
        split.check(100)
