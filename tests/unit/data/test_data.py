"""Data: sources, splits and batches."""

import collections
import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.data import (
    CIFAR10,
    DATASETS,
    MNIST,
    AnyTFDS,
    Arrays,
    Augmentation,
    BatchSizes,
    Digits,
    Replicas,
    Split,
    batch_sizes,
    evaluation_batches,
    make_split,
    training_batches,
)
from keras_srt.data.batches import augment

PARTS = ("labeled", "unlabeled", "validation")


def take(dataset, count):
    """The first batches, as NumPy."""
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal_batches(one, other):
    """Equal to the last bit."""
    assert len(one) == len(other)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)


# --- split ---------------------------------------------------------------------------


@pytest.fixture
def class_ids():
    """1,000 labels of four classes: 500, 300, 150 and 50."""
    sizes = (500, 300, 150, 50)
    return np.random.default_rng(0).permutation(np.repeat(np.arange(4), sizes)).astype(np.int32)


@pytest.mark.parametrize("selection", ["stratified", "first"])
@pytest.mark.parametrize("unlabeled", [None, 0, 130])
def test_a_split_is_disjoint_and_covers(selection, unlabeled, class_ids):
    split = make_split(class_ids, 4, 100, 60, unlabeled, selection, seed=3)
    parts = [getattr(split, part) for part in PARTS]
    assert [len(part) for part in parts] == [100, 840 if unlabeled is None else unlabeled, 60]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    assert set(together) <= set(range(1000))
    if unlabeled is None:
        np.testing.assert_array_equal(np.sort(together), np.arange(1000))
    split.check(1000)


def test_each_class_has_exactly_its_share(class_ids):
    split = make_split(class_ids, 4, labeled=100, validation=200)
    np.testing.assert_array_equal(np.bincount(class_ids[split.labeled]), [50, 30, 15, 5])
    np.testing.assert_array_equal(np.bincount(class_ids[split.validation]), [100, 60, 30, 10])
    np.testing.assert_array_equal(np.bincount(class_ids[split.unlabeled]), [350, 210, 105, 35])


def test_shares_that_are_no_whole_numbers_are_rounded_by_less_than_one(class_ids):
    for labeled in range(20, 60):
        split = make_split(class_ids, 4, labeled, validation=0)
        counts = np.bincount(class_ids[split.labeled], minlength=4)
        assert counts.sum() == labeled
        exact = labeled * np.array([0.5, 0.3, 0.15, 0.05])
        assert np.all(np.abs(counts - exact) < 1)


def test_first_takes_the_first_images_as_labeled(class_ids):
    split = make_split(class_ids, 4, 100, 60, selection="first", seed=1)
    np.testing.assert_array_equal(split.labeled, np.arange(100))
    shares = 60 * np.bincount(class_ids[100:]) / 900
    assert np.all(np.abs(np.bincount(class_ids[split.validation]) - shares) < 1)


@pytest.mark.parametrize("selection", ["stratified", "first"])
def test_the_seed_decides_the_draw(selection, class_ids):
    one, again, other = (
        make_split(class_ids, 4, 100, 60, 50, selection, seed) for seed in (1, 1, 2)
    )
    for part in PARTS:
        np.testing.assert_array_equal(getattr(one, part), getattr(again, part))
        same = np.array_equal(getattr(one, part), getattr(other, part))
        assert same == (selection == "first" and part == "labeled")


def test_unlabeled_images_are_drawn_from_everywhere(class_ids):
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
def test_a_split_that_cannot_be_read_is_an_error_with_a_way_out(damage, class_ids, tmp_path):
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
def test_a_split_of_other_data_is_noticed(change):
    split = Split(np.array([0, 1]), np.array([2, 3]), np.array([4]), 0, "stratified")
    split.check(1000)
    changed = dataclasses.replace(split, labeled=np.array(change["labeled"]))
    with pytest.raises(UserError, match="images twice or outside the 1000"):
        changed.check(1000)


def test_all_that_is_wrong_with_a_split_is_told(class_ids):
    with pytest.raises(InvalidSettings) as caught:
        make_split(class_ids, 4, labeled=3, validation=900, unlabeled=98)
    assert caught.value.problems == (
        "data: got labeled + validation + unlabeled = 1001; allowed: at most the 1000 images of "
        "the training part",
        "data.labeled: got 3; allowed: at least 4, one for each class",
    )


def test_a_class_without_a_label_is_an_error():
    class_ids = np.repeat([0, 1, 2], [50, 48, 2])
    with pytest.raises(InvalidSettings, match=r"none of class \[1, 2\]"):
        make_split(class_ids, 3, labeled=10, validation=0, selection="first")
    with pytest.raises(InvalidSettings, match=r"none of class \[2\]"):
        make_split(class_ids, 3, labeled=10, validation=0)


# --- batch sizes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        ((128, 10_000, 50_000), (21, 107)),
        ((128, 10_000, 0), (128, 0)),
        ((128, 600, 59_400), (1, 127)),
        ((128, 300, 59_700, 32), (32, 96)),
        ((10, 999, 1), (9, 1)),
        ((2, 1, 1), (1, 1)),
        ((64, 5, 5, 63), (63, 1)),
    ],
)
def test_batch_sizes_are_proportional_or_set(arguments, sizes):
    assert batch_sizes(*arguments) == BatchSizes(*sizes)


@pytest.mark.parametrize("batch_size", [3, 16, 127, 500])
@pytest.mark.parametrize(("labeled", "unlabeled"), [(500, 500), (900, 100), (600, 1000)])
def test_proportions_are_kept_within_one_image(batch_size, labeled, unlabeled):
    sizes = batch_sizes(batch_size, labeled, unlabeled)
    assert sum(sizes) == batch_size
    assert min(sizes) >= 1
    assert abs(sizes.labeled - batch_size * labeled / (labeled + unlabeled)) < 1


def test_less_than_one_labeled_image_is_an_error_with_both_ways_out():
    with pytest.raises(InvalidSettings) as caught:
        batch_sizes(128, 300, 59_700)
    assert caught.value.problems == (
        "training.batch_size: got 128, for 0.64 labeled images in proportion; allowed: "
        "at least 200, or set training.labeled_per_batch",
    )
    assert batch_sizes(200, 300, 59_700) == BatchSizes(1, 199)


@pytest.mark.parametrize("labeled", [0, 128, 200])
def test_a_set_number_of_labeled_images_fits_the_batch(labeled):
    with pytest.raises(InvalidSettings, match=f"labeled_per_batch: got {labeled}; .*127"):
        batch_sizes(128, 300, 59_700, labeled)


# --- batches -------------------------------------------------------------------------


@pytest.fixture
def numbered():
    """Settings of `training_batches`: image i has the pixel values i, label i mod 3."""
    ids = np.arange(30, dtype=np.uint8)
    pixels = np.broadcast_to(ids[:, None, None, None], (30, 4, 4, 1))
    return {
        "labeled_images": pixels[:10],
        "labels": np.int32(ids[:10] % 3),
        "unlabeled_images": pixels[10:],
        "sizes": BatchSizes(4, 3),
        "seed": 5,
    }


def ids_of(images):
    """Which image each one is."""
    return np.round(images[:, 0, 0, 0] * 255).astype(int)


def test_batches_have_the_form_that_training_takes(numbered):
    dataset = training_batches(**numbered)
    spec = dataset.element_spec
    assert set(spec) == {"labeled", "unlabeled"}
    assert [part.shape for part in spec["labeled"]] == [(4, 4, 4, 1), (4,)]
    assert [part.dtype for part in spec["labeled"]] == [tf.float32, tf.int32]
    assert isinstance(spec["unlabeled"], tf.TensorSpec)  # images alone, no label
    assert spec["unlabeled"].shape == (3, 4, 4, 1)
    assert spec["unlabeled"].dtype == tf.float32
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY


def test_pseudo_labels_come_with_their_own_images(numbered):
    answers = np.arange(10, 30, dtype=np.int32) % 7
    settings = {**numbered, "pseudo_labels": answers, "augmentation": Augmentation(flip=True)}
    dataset = training_batches(**settings)
    assert dataset.element_spec["pseudo_labels"] == tf.TensorSpec((3,), tf.int32)
    batches = take(dataset, 8)
    for batch in batches:
        np.testing.assert_array_equal(batch["pseudo_labels"], ids_of(batch["unlabeled"]) % 7)
    assert_equal_batches(take(training_batches(**settings, first_step=5), 3), batches[5:])
    for batch, without in zip(batches, take(training_batches(**numbered), 8), strict=True):
        np.testing.assert_array_equal(ids_of(batch["unlabeled"]), ids_of(without["unlabeled"]))


def test_images_come_with_their_own_labels_and_in_units_of_0_to_1(numbered):
    for batch in take(training_batches(**numbered), 8):
        images, labels = batch["labeled"]
        ids = ids_of(images)
        np.testing.assert_array_equal(labels, ids % 3)
        expected = np.broadcast_to((ids / np.float32(255))[:, None, None, None], images.shape)
        np.testing.assert_allclose(images, expected, rtol=1e-6)
        assert set(ids) <= set(range(10))
        assert set(ids_of(batch["unlabeled"])) <= set(range(10, 30))


def test_black_is_0_and_white_is_1():
    pixels = np.array([0, 255], np.uint8)[:, None, None, None] * np.ones((2, 4, 4, 1), np.uint8)
    batch = take(training_batches(pixels, [0, 1], pixels[:0], BatchSizes(2, 0), seed=0), 1)[0]
    assert set(batch) == {"labeled"}
    assert sorted(batch["labeled"][0][:, 0, 0, 0]) == [0.0, 1.0]


def test_each_pass_sees_each_image_once_also_across_batches(numbered):
    batches = take(training_batches(**numbered), 20)  # 80 = 8 passes of 10; 60 = 3 of 20
    labeled = np.concatenate([ids_of(batch["labeled"][0]) for batch in batches])
    unlabeled = np.concatenate([ids_of(batch["unlabeled"]) for batch in batches])
    passes = labeled.reshape(8, 10)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(10), (8, 1)))
    np.testing.assert_array_equal(
        np.sort(unlabeled.reshape(3, 20)), np.tile(np.arange(10, 30), (3, 1))
    )
    assert len(np.unique(passes, axis=0)) == 8  # each pass in its own order


def test_the_rows_of_all_replicas_are_the_single_batch(numbered):
    settings = {
        **numbered,
        "augmentation": Augmentation(pad=1, flip=True),
        "pseudo_labels": np.arange(20, dtype=np.int32),
        "first_step": 3,
    }
    whole = take(training_batches(**settings), 4)
    for total, local in ((2, 2), (3, 1), (4, 2)):
        processes = [
            take(training_batches(**settings, replicas=Replicas(total, first, local)), 4 * local)
            for first in range(0, total, local)
        ]
        for step, expected in enumerate(whole):
            rows = [b for process in processes for b in process[step * local : (step + 1) * local]]
            together = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *rows)
            assert_equal_batches([together], [expected])


@pytest.mark.parametrize("augmentation", [None, Augmentation(pad=2, flip=True)])
def test_a_batch_is_a_function_of_seed_and_step(augmentation, numbered):
    settings = {**numbered, "augmentation": augmentation}
    whole = take(training_batches(**settings), 7)
    assert_equal_batches(take(training_batches(**settings), 7), whole)
    for step in (1, 5):
        assert_equal_batches(
            take(training_batches(**settings, first_step=step), 2), whole[step:][:2]
        )
    others = take(training_batches(**{**settings, "seed": 6}), 7)
    assert any(
        np.any(a["labeled"][0] != b["labeled"][0]) for a, b in zip(whole, others, strict=True)
    )
    late = take(training_batches(**settings, first_step=10**9), 1)
    assert_equal_batches(take(training_batches(**settings, first_step=10**9), 1), late)


def test_labels_of_unlabeled_images_reach_nothing(class_ids):
    """Scrambled, they give the same batches, bit for bit."""
    pixels = np.random.default_rng(1).integers(0, 256, (1000, 4, 4, 1), np.uint8)
    split = make_split(class_ids, 4, labeled=20, validation=0)

    def batches(labels):
        source = Arrays(
            train_images=pixels,
            train_labels=labels,
            test_images=pixels,
            test_labels=labels,
            class_names=tuple("abcd"),
        )
        data = source.load_train(None)
        return take(
            training_batches(
                data.images[split.labeled],
                data.labels[split.labeled],
                data.images[split.unlabeled],
                BatchSizes(4, 12),
                seed=0,
            ),
            5,
        )

    scrambled = class_ids.copy()
    scrambled[split.unlabeled] = 3 - scrambled[split.unlabeled]
    assert_equal_batches(batches(scrambled), batches(class_ids))
    scrambled[split.labeled] = 3 - scrambled[split.labeled]
    with pytest.raises(AssertionError):
        assert_equal_batches(batches(scrambled), batches(class_ids))


def test_evaluation_batches_are_in_order_and_complete():
    pixels = np.arange(0, 250, 25, dtype=np.uint8)[:, None, None, None] * np.ones(
        (10, 2, 2, 1), np.uint8
    )
    batches = take(evaluation_batches(pixels, np.arange(10), 4), 9)
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), np.arange(10))
    images = np.concatenate([x for x, _ in batches])
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, pixels / 255, rtol=1e-6)


# --- augmentation --------------------------------------------------------------------


def windows(image, pad):
    """All shifted windows of an image with zeros around it, by their offsets."""
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    height, width = image.shape[:2]
    offsets = range(2 * pad + 1)
    return {(i, j): padded[i : i + height, j : j + width] for i in offsets for j in offsets}


def test_pad_crop_shifts_and_fills_with_zeros():
    image = np.random.default_rng(0).integers(1, 256, (5, 7, 3), np.uint8)
    found = augment(tf.constant(np.tile(image, (400, 1, 1, 1))), Augmentation(pad=1), (1, 2))
    counts = collections.Counter()
    for result in found.numpy():
        matches = [k for k, window in windows(image, 1).items() if np.array_equal(window, result)]
        assert len(matches) == 1
        counts[matches[0]] += 1
    assert len(counts) == 9  # all offsets, about equally often: 400/9 = 44
    assert 20 < min(counts.values()) <= max(counts.values()) < 80


def test_flip_mirrors_half_of_the_images():
    image = np.random.default_rng(0).integers(1, 256, (5, 7, 3), np.uint8)
    found = augment(tf.constant(np.tile(image, (400, 1, 1, 1))), Augmentation(flip=True), (1, 2))
    mirrored = [np.array_equal(result, image[:, ::-1]) for result in found.numpy()]
    kept = [np.array_equal(result, image) for result in found.numpy()]
    assert sum(mirrored) + sum(kept) == 400
    assert 150 < sum(mirrored) < 250


def test_no_augmentation_leaves_the_images(numbered):
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8))
    np.testing.assert_array_equal(augment(pixels, Augmentation(), (1, 2)), pixels)
    plain = take(training_batches(**numbered), 3)
    assert_equal_batches(take(training_batches(**numbered, augmentation=Augmentation()), 3), plain)


@pytest.mark.parametrize("part", ["labeled", "unlabeled"])
def test_labeled_and_unlabeled_images_are_augmented_alike(part, numbered):
    """The same draws with and without augmentation: each image is a window, mirrored or not."""
    pixels = np.random.default_rng(2).integers(1, 256, (30, 4, 4, 1), np.uint8)
    numbered |= {"labeled_images": pixels[:10], "unlabeled_images": pixels[10:]}
    plain = take(training_batches(**numbered), 10)
    changed = take(training_batches(**numbered, augmentation=Augmentation(1, True)), 10)
    seen = set()
    for before, after in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(before["labeled"][1], after["labeled"][1])
        pairs = (before["labeled"][0], after["labeled"][0])
        pairs = pairs if part == "labeled" else (before["unlabeled"], after["unlabeled"])
        for image, result in zip(*pairs, strict=True):
            matches = [
                (offset, mirrored)
                for offset, window in windows(image, 1).items()
                for mirrored, version in enumerate((window, window[:, ::-1]))
                if np.array_equal(version, result)
            ]
            assert len(matches) == 1
            seen.add(matches[0])
    assert len(seen) > 9


# --- sources -------------------------------------------------------------------------


def test_digits():
    source = Digits()
    info = source.info(None)
    train, test = source.load_train(None), source.load_test(None)
    assert info.input_shape == (28, 28, 1)
    assert info.class_names == tuple("0123456789")
    assert (info.num_train, info.num_test) == (1297, 500)
    for part, count in ((train, 1297), (test, 500)):
        assert part.images.shape == (count, 28, 28, 1)
        assert part.images.dtype == np.uint8
        assert part.labels.shape == (count,)
        assert part.labels.dtype == np.int32
        assert part.images.min() == 0
        assert part.images.max() == 255
    shares = np.bincount(test.labels) - 500 * np.bincount(np.r_[train.labels, test.labels]) / 1797
    assert np.all(np.abs(shares) < 1)


def test_digits_share_no_image_between_training_and_test():
    """At the dataset's own size; every image is in one of the parts, once."""
    from sklearn.datasets import load_digits

    source = Digits(size=8)
    train, test = (
        [(image.tobytes(), label) for image, label in zip(*part, strict=True)]
        for part in (source.load_train(None), source.load_test(None))
    )
    assert not set(train) & set(test)
    digits = load_digits()
    pixels = np.uint8(np.round(digits.images * (255 / 16)))
    everything = [
        (image.tobytes(), label) for image, label in zip(pixels, digits.target, strict=True)
    ]
    assert collections.Counter(train + test) == collections.Counter(everything)


def test_digits_are_the_same_each_time_and_of_the_size_asked_for():
    one, again = Digits(size=12).load_train(None), Digits(size=12).load_train(None)
    np.testing.assert_array_equal(one.images, again.images)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert one.images.shape[1:] == Digits(size=12).info(None).input_shape == (12, 12, 1)


def test_every_dataset_of_the_registry_is_in_this_file():
    assert set(DATASETS) == {"digits", "mnist", "cifar10", "tfds", "folder", "synthetic"}


@pytest.fixture
def arrays():
    """Settings of `Arrays`."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
    return {
        "train_images": pixels,
        "train_labels": [0, 1, 1, 0, 1, 0],
        "test_images": pixels[:2],
        "test_labels": [1, 0],
        "class_names": ("no", "yes"),
    }


def test_arrays(arrays):
    source = Arrays(**arrays)
    assert source.info(None) == ("arrays", (4, 5, 1), ("no", "yes"), 6, 2, None, None)
    np.testing.assert_array_equal(source.load_train(None).images[..., 0], arrays["train_images"])
    np.testing.assert_array_equal(source.load_train(None).labels, arrays["train_labels"])
    np.testing.assert_array_equal(source.load_test(None).images[..., 0], arrays["test_images"])
    np.testing.assert_array_equal(source.load_test(None).labels, arrays["test_labels"])
    assert source.load_train(None).labels.dtype == np.int32


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"train_labels": [0, 1]}, "train_labels: got shape (2,); allowed: one class id for each"),
        ({"test_labels": [0, 2]}, "test_labels: got 0 to 2; allowed: 0 to 1"),
        ({"test_labels": [-1, 0]}, "test_labels: got -1 to 0; allowed: 0 to 1"),
        ({"train_images": np.zeros((6, 4, 5), np.float32)}, "train_images: got "),
        ({"train_images": np.zeros((6, 4), np.uint8)}, "train_images: got "),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(change, start, arrays):
    with pytest.raises(InvalidSettings) as caught:
        Arrays(**arrays | change)
    (problem,) = caught.value.problems
    assert problem.startswith(start)


@pytest.mark.parametrize(
    ("source", "shape", "train", "test", "classes"),
    [
        (MNIST(), (28, 28, 1), 60_000, 10_000, tuple("0123456789")),
        (
            CIFAR10(),
            (32, 32, 3),
            50_000,
            10_000,
            (
                *("airplane", "automobile", "bird", "cat", "deer"),
                *("dog", "frog", "horse", "ship", "truck"),
            ),
        ),
        (AnyTFDS(dataset="mnist"), (28, 28, 1), 60_000, 10_000, tuple("0123456789")),
    ],
)
def test_tfds_sizes(source, shape, train, test, classes, shared_data_dir):
    info = source.info(shared_data_dir)
    assert info[1:5] == (shape, classes, train, test)
    images, labels = source.load_test(shared_data_dir)
    assert images.shape == (test, *shape)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert set(labels) == set(range(10))
    if source.name == "cifar10":
        np.testing.assert_array_equal(np.bincount(labels), 1000)
    else:
        counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        np.testing.assert_array_equal(np.bincount(labels), counts)


@pytest.mark.parametrize("source", [MNIST(), CIFAR10()])
def test_training_never_reads_the_test_part(source, shared_data_dir, monkeypatch):
    import tensorflow_datasets as tfds

    asked = []

    def spy(self, split=None, **_):
        asked.append(split)
        count = self.info.splits[split].num_examples
        shape = self.info.features["image"].shape
        empty = {"image": np.zeros(shape, np.uint8), "label": np.int64(1)}
        return tf.data.Dataset.from_tensors(empty).repeat(count)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", spy)
    source.load_train(shared_data_dir)
    assert asked == ["train"]
    source.load_test(shared_data_dir)
    assert asked == ["train", "test"]


def test_a_dataset_that_is_neither_there_nor_loadable_is_an_error_with_a_way_out(
    tmp_path, monkeypatch
):
    import tensorflow_datasets as tfds

    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", offline)
    with pytest.raises(UserError) as caught:
        MNIST().load_train(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"dataset 'mnist': not prepared in {tmp_path / 'mnist'}")
    assert "ConnectionError: no route to host" in message
    assert "--data-dir" in message
    assert "\n" not in message
