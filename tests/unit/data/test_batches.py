"""Batches: sizes, order, replicas and augmentation."""

import numpy as np
import pytest
import tensorflow as tf
from numbered_records import assert_equal_batches, take

from keras_srt.config.schema import AugmentationSettings
from keras_srt.core.errors import InvalidSettings
from keras_srt.data import (
    Arrays,
    BatchSizes,
    Replicas,
    batch_sizes,
    evaluation_batches,
    make_split,
    training_batches,
)
from keras_srt.data.augmentation import augment
from keras_srt.data.batches import pass_order


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
def test_batch_sizes_are_proportional_or_fixed(arguments, sizes):
    assert batch_sizes(*arguments) == BatchSizes(*sizes)


@pytest.mark.parametrize("batch_size", [3, 16, 127, 500])
@pytest.mark.parametrize(("labeled", "unlabeled"), [(500, 500), (900, 100), (600, 1000)])
def test_proportions_are_exact_up_to_one_image(batch_size, labeled, unlabeled):
    sizes = batch_sizes(batch_size, labeled, unlabeled)
    assert sum(sizes) == batch_size
    assert min(sizes) >= 1
    assert abs(sizes.labeled - batch_size * labeled / (labeled + unlabeled)) < 1


def test_less_than_one_labeled_image_per_batch_is_an_error():
    with pytest.raises(InvalidSettings) as caught:
        batch_sizes(128, 300, 59_700)
    assert caught.value.problems == (
        "training.batch_size: got 128, for 0.64 labeled images in proportion; allowed: "
        "at least 200, or set training.labeled_per_batch",
    )
    assert batch_sizes(200, 300, 59_700) == BatchSizes(1, 199)


@pytest.mark.parametrize("labeled", [0, 128, 200])
def test_labeled_per_batch_must_fit_the_batch(labeled):
    with pytest.raises(InvalidSettings, match=f"labeled_per_batch: got {labeled}; .*127"):
        batch_sizes(128, 300, 59_700, labeled)


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


def test_batches_have_keys_shapes_and_dtypes(numbered):
    dataset = training_batches(**numbered)
    spec = dataset.element_spec
    assert set(spec) == {"labeled", "unlabeled"}
    assert [part.shape for part in spec["labeled"]] == [(4, 4, 4, 1), (4,)]
    assert [part.dtype for part in spec["labeled"]] == [tf.float32, tf.int32]
    assert isinstance(spec["unlabeled"], tf.TensorSpec)  # images alone, no label
    assert spec["unlabeled"].shape == (3, 4, 4, 1)
    assert spec["unlabeled"].dtype == tf.float32
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY


def test_pseudo_labels_match_their_images(numbered):
    answers = np.arange(10, 30, dtype=np.int32) % 7
    settings = {
        **numbered,
        "pseudo_labels": answers,
        "augmentation": AugmentationSettings(flip=True),
    }
    dataset = training_batches(**settings)
    assert dataset.element_spec["pseudo_labels"] == tf.TensorSpec((3,), tf.int32)
    batches = take(dataset, 8)
    for batch in batches:
        np.testing.assert_array_equal(batch["pseudo_labels"], ids_of(batch["unlabeled"]) % 7)
    assert_equal_batches(take(training_batches(**settings, first_step=5), 3), batches[5:])
    for batch, without in zip(batches, take(training_batches(**numbered), 8), strict=True):
        np.testing.assert_array_equal(ids_of(batch["unlabeled"]), ids_of(without["unlabeled"]))


def test_labels_match_their_images_which_are_scaled_to_0_1(numbered):
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


def test_each_pass_contains_each_image_once(numbered):
    batches = take(training_batches(**numbered), 20)  # 80 = 8 passes of 10; 60 = 3 of 20
    labeled = np.concatenate([ids_of(batch["labeled"][0]) for batch in batches])
    unlabeled = np.concatenate([ids_of(batch["unlabeled"]) for batch in batches])
    passes = labeled.reshape(8, 10)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(10), (8, 1)))
    np.testing.assert_array_equal(
        np.sort(unlabeled.reshape(3, 20)), np.tile(np.arange(10, 30), (3, 1))
    )
    assert len(np.unique(passes, axis=0)) == 8  # each pass in its own order


def test_rows_of_all_replicas_form_the_global_batch(numbered):
    settings = {
        **numbered,
        "augmentation": AugmentationSettings(pad=1, flip=True),
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


@pytest.mark.parametrize("augmentation", [None, AugmentationSettings(pad=2, flip=True)])
def test_batch_depends_on_seed_and_step_only(augmentation, numbered):
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


def test_batches_do_not_depend_on_labels_of_unlabeled_images(class_ids):
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
        data = source.open().load_train()
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


def windows(image, pad):
    """All shifted windows of an image with zeros around it, by their offsets."""
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    height, width = image.shape[:2]
    offsets = range(2 * pad + 1)
    return {(i, j): padded[i : i + height, j : j + width] for i in offsets for j in offsets}


def test_no_augmentation_is_the_identity(numbered):
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8))
    np.testing.assert_array_equal(augment(pixels, AugmentationSettings(), (1, 2)), pixels)
    plain = take(training_batches(**numbered), 3)
    assert_equal_batches(
        take(training_batches(**numbered, augmentation=AugmentationSettings()), 3), plain
    )


@pytest.mark.parametrize("part", ["labeled", "unlabeled"])
def test_labeled_and_unlabeled_images_are_augmented_alike(part, numbered):
    """The same draws with and without augmentation: each image is a window, mirrored or not."""
    pixels = np.random.default_rng(2).integers(1, 256, (30, 4, 4, 1), np.uint8)
    numbered |= {"labeled_images": pixels[:10], "unlabeled_images": pixels[10:]}
    plain = take(training_batches(**numbered), 10)
    changed = take(
        training_batches(**numbered, augmentation=AugmentationSettings(pad=1, flip=True)), 10
    )
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


@pytest.mark.parametrize(("balance", "rows"), [("auto", 12), (True, 12), (False, 8)])
def test_uneven_classes_have_equal_rows_in_a_pass(balance, rows):
    labels = np.int32([2, 2, 0, 5, 2, 0, 2, 0])  # 4, 3 and 1 images
    order = pass_order(labels, balance)
    assert len(order) == rows
    assert set(order) == set(range(8))
    if rows == 12:
        assert np.bincount(labels[order]).tolist() == [4, 0, 4, 0, 0, 4]


def test_classes_within_three_to_one_are_left_alone():
    labels = np.int32([0, 0, 0, 1])
    np.testing.assert_array_equal(pass_order(labels, "auto"), [0, 1, 2, 3])
    np.testing.assert_array_equal(pass_order(labels, True), [0, 1, 2, 3, 3, 3])


def test_balanced_batches_draw_the_small_class_as_often():
    labels = np.int32([0] * 9 + [1])
    images = np.uint8(np.arange(10)).reshape(10, 1, 1, 1)
    batches = training_batches(images, labels, images[:0], BatchSizes(6, 0), seed=1, balance="auto")
    drawn = np.concatenate([batch["labeled"][1] for batch in batches.take(3)])  # one pass
    assert np.bincount(drawn).tolist() == [9, 9]
