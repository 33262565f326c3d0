"""Streamed data: records in shards, their order, replicas, resume, and what can go wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers import python
from prepared import prepare

from keras_srt import SRT, LInf, RobustModel
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras
from keras_srt.data import (
    AnyTFDS,
    Augmentation,
    BatchSizes,
    Digits,
    Images,
    IndexRanges,
    Records,
    Replicas,
    Split,
    Streaming,
    Synthetic,
    load_labels,
    load_records,
    make_streamed_split,
    ordered_batches,
    streamed_batches,
    translate_read_errors,
)
from keras_srt.data.record_reader import Reader
from keras_srt.data.split import window
from keras_srt.data.streaming import shuffled_passes


class Numbered(Records):
    """Record i is an image of two bytes that spell i; labels are i mod 3."""

    def __init__(self, lengths):
        self.lengths, self.image_shape = tuple(lengths), (4, 4, 2)
        self._starts = np.concatenate([[0], np.cumsum(lengths)])

    def read(self, shard, first):
        starts = tf.constant(self._starts)
        return tf.data.Dataset.range(tf.gather(starts, shard) + first, starts[shard + 1])

    def image(self, record):
        spelled = tf.stack([record % 256, record // 256])
        return tf.cast(tf.broadcast_to(spelled, self.image_shape), tf.uint8)

    def label(self, record):
        return tf.cast(record % 3, tf.int32)


LENGTHS = (17, 40, 1, 23, 19)  # 100 records
TAKEN = np.array([0, 1, 5, 16, 17, 57, 58, 99])  # at ends of shards, and one whole shard
UNLABELED = IndexRanges.of(TAKEN).complement(100)


def ids_of(images):
    """Which records these are."""
    spelled = np.round(np.asarray(images, np.float64)[:, 0, 0] * 255).astype(int)
    return spelled[:, 0] + 256 * spelled[:, 1]


def streamed(lengths=LENGTHS, unlabeled=UNLABELED, sizes=(3, 7), buffer=20, readers=1, **settings):
    records = Numbered(lengths)
    spelled = np.stack([TAKEN % 256, TAKEN // 256], axis=1)[:, None, None]
    images = np.uint8(np.broadcast_to(spelled, (len(TAKEN), *records.image_shape)))
    labeled = Images(images, np.int32(TAKEN % 3))
    return streamed_batches(
        labeled,
        records,
        unlabeled,
        BatchSizes(*sizes),
        Streaming(buffer, readers),
        **{"seed": 5, **settings},
    )


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal_batches(one, other):
    """Equal to the last bit."""
    assert len(one) == len(other)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)


# --- ranges --------------------------------------------------------------------------


def test_ranges_stand_for_their_indices():
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
def test_ranges_are_sorted_disjoint_and_not_empty(bounds):
    with pytest.raises(ValueError, match="sorted, disjoint"):
        IndexRanges(bounds)


# --- split ---------------------------------------------------------------------------


def test_a_streamed_split_reads_the_labels_of_the_first_records_alone(tmp_path):
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


def test_the_unlabeled_images_of_a_streamed_split_can_be_limited():
    def first_labels(count):
        return np.arange(count) % 2

    split = make_streamed_split(first_labels, 1000, 2, 10, 10, unlabeled=300, selection="first")
    np.testing.assert_array_equal(split.labeled, np.arange(10))
    taken = set(split.labeled) | set(split.validation)
    expected = [index for index in range(1000) if index not in taken][:300]
    np.testing.assert_array_equal(split.unlabeled, expected)


def test_a_window_holds_four_times_what_is_wanted_and_a_hundred_of_each_class():
    assert window(10**6, 10, 1000, 500) == 6000
    assert window(10**6, 1000, 1000, 500) == 100_000
    assert window(5000, 10, 1000, 500) == 5000


def test_a_long_list_of_indices_is_saved_as_ranges_and_a_short_one_as_before(tmp_path):
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


def test_an_image_in_a_range_and_in_another_part_is_noticed():
    split = Split(np.array([50]), IndexRanges([[0, 51]]), np.array([60]), 0, "first")
    with pytest.raises(UserError, match="images twice"):
        split.check(100)


# --- order ---------------------------------------------------------------------------


def ordinals(reader, count, position=0, bound=20, seed=5):
    passes = shuffled_passes(reader, position, bound, seed, lane=0)
    return np.array([ordinal for ordinal, _ in passes.take(count).as_numpy_iterator()])


def test_a_reader_reads_the_chosen_records_with_their_ordinals():
    for lane in (None, (30, 61), (91, 92)):
        read = list(Reader(Numbered(LENGTHS), UNLABELED, lane).in_order().as_numpy_iterator())
        begin, end = lane or (0, len(UNLABELED))
        np.testing.assert_array_equal([ordinal for ordinal, _ in read], np.arange(begin, end))
        expected = np.asarray(UNLABELED)[begin:end]
        np.testing.assert_array_equal([record for _, record in read], expected)


@pytest.mark.parametrize("bound", [7, 1000])
def test_each_pass_sees_each_record_once_in_its_own_order(bound):
    reader = Reader(Numbered(LENGTHS), UNLABELED)
    passes = ordinals(reader, 3 * 92, bound=bound).reshape(3, 92)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(92), (3, 1)))
    assert len(np.unique(passes, axis=0)) == 3
    np.testing.assert_array_equal(passes[0], ordinals(reader, 92, bound=bound))
    assert np.any(passes[0] != ordinals(reader, 92, bound=bound, seed=6))


@pytest.mark.parametrize("bound", [2, 25])
def test_no_record_moves_farther_than_the_bound(bound):
    """In one shard, where the order before the shuffling is known."""
    shuffled = ordinals(Reader(Numbered([100]), IndexRanges([[0, 100]])), 300, bound=bound)
    moved = np.abs(shuffled.reshape(3, 100) - np.arange(100))
    assert 0 < moved.max() < bound


def test_shards_come_in_a_random_order():
    records, size = Numbered([10] * 8), 80
    shuffled = ordinals(Reader(records, IndexRanges([[0, size]])), 2 * size, bound=1).reshape(
        2, 8, 10
    )
    order = shuffled[:, :, 0] // 10
    np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(8), (2, 1)))
    assert np.any(order[0] != order[1])
    np.testing.assert_array_equal(shuffled, order[..., None] * 10 + np.arange(10))


def test_any_place_of_the_order_is_found():
    reader = Reader(Numbered(LENGTHS), UNLABELED)
    whole = ordinals(reader, 300)
    for position in (20, 91, 250):
        np.testing.assert_array_equal(ordinals(reader, 30, position), whole[position:][:30])
    far = ordinals(reader, 92, position=92 * 10**9)
    np.testing.assert_array_equal(np.sort(far), np.arange(92))


def test_shards_before_the_place_are_not_opened():
    opened = []

    class Watched(Numbered):
        def read(self, shard, first):
            tf.py_function(
                lambda *place: opened.append([int(p) for p in place]), [shard, first], []
            )
            return super().read(shard, first)

    reader = Reader(Watched([100] * 5), IndexRanges([[0, 500]]))
    dataset = reader.read(tf.constant([3, 1, 0, 2, 4], tf.int64), tf.constant(250, tf.int64))
    assert next(dataset.as_numpy_iterator())[0] == 50
    assert opened == [[0, 50]]


# --- batches -------------------------------------------------------------------------


def test_streamed_batches_have_the_form_of_those_in_memory():
    dataset = streamed(pseudo_labels=np.arange(92, dtype=np.int32))
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    spec = dataset.element_spec
    assert [part.shape for part in spec["labeled"]] == [(3, 4, 4, 2), (3,)]
    assert [part.dtype for part in spec["labeled"]] == [tf.float32, tf.int32]
    assert spec["unlabeled"] == tf.TensorSpec((7, 4, 4, 2), tf.float32)
    assert spec["pseudo_labels"] == tf.TensorSpec((7,), tf.int32)
    assert set(streamed().element_spec) == {"labeled", "unlabeled"}
    for batch in take(dataset, 20):
        np.testing.assert_array_equal(batch["labeled"][1], ids_of(batch["labeled"][0]) % 3)
        expected = UNLABELED.rank(ids_of(batch["unlabeled"]))
        np.testing.assert_array_equal(batch["pseudo_labels"], expected)


@pytest.mark.parametrize("readers", [1, 3])
def test_all_unlabeled_records_are_used_and_no_other(readers):
    batches = take(streamed(readers=readers), 60)  # 420 of 92
    counts = np.bincount(np.concatenate([ids_of(b["unlabeled"]) for b in batches]), minlength=100)
    assert np.all(counts[TAKEN] == 0)
    rest = counts[np.asarray(UNLABELED)]
    # Three readers pass through lanes of 30, 31 and 31 with 2, 2 and 3 rows of a batch.
    assert (rest.min(), rest.max()) == ((4, 5) if readers == 1 else (3, 6))
    labeled = np.concatenate([ids_of(batch["labeled"][0]) for batch in batches[:8]])
    np.testing.assert_array_equal(np.sort(labeled.reshape(3, 8)), np.tile(TAKEN, (3, 1)))


def test_resume_gives_the_batches_of_an_uninterrupted_run():
    settings = {"readers": 2, "augmentation": Augmentation(pad=1, flip=True)}
    whole = take(streamed(**settings), 45)
    for step in (3, 40):  # inside the first block, some passes later
        assert_equal_batches(take(streamed(**settings, first_step=step), 3), whole[step:][:3])


@pytest.mark.parametrize(("total", "local", "readers"), [(2, 2, 1), (4, 2, 3)])
def test_the_rows_of_all_replicas_are_the_single_batch(total, local, readers):
    settings = {
        "sizes": (5, 7),
        "readers": readers,
        "augmentation": Augmentation(pad=1, flip=True),
        "pseudo_labels": np.arange(92, dtype=np.int32),
        "first_step": 4,
    }
    steps = 4
    whole = take(streamed(**settings), steps)
    processes = [
        take(streamed(**settings, replicas=Replicas(total, first, local)), steps * local)
        for first in range(0, total, local)
    ]
    for step, expected in enumerate(whole):
        rows = [b for process in processes for b in process[step * local : (step + 1) * local]]
        together = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *rows)
        assert_equal_batches([together], [expected])


def test_a_process_opens_the_shards_of_its_own_rows_alone():
    opened = set()

    class Watched(Numbered):
        def read(self, shard, first):
            tf.py_function(lambda shard: opened.add(int(shard)), [shard], [])
            return super().read(shard, first)

    records, labeled = Watched([50] * 4), Images(np.zeros((2, 4, 4, 2), np.uint8), np.int32([0, 1]))
    for first, own in ((0, {0, 1}), (1, {2, 3})):
        opened.clear()
        batches = streamed_batches(
            labeled,
            records,
            IndexRanges([[0, 200]]),
            BatchSizes(2, 8),
            Streaming(40, readers=4),
            seed=0,
            replicas=Replicas(2, first),
        )
        take(batches, 40)
        assert opened == own


def test_ordered_batches_are_all_chosen_images_once():
    batches = take(ordered_batches(Numbered(LENGTHS), UNLABELED, 40), 9)
    assert [len(batch) for batch in batches] == [40, 40, 12]
    np.testing.assert_array_equal(ids_of(np.concatenate(batches)), UNLABELED)


@pytest.mark.parametrize(
    ("sizes", "streaming", "words"),
    [
        ((3, 7), (6, 1), "shuffle_buffer: got 6; allowed: at least the 7 unlabeled"),
        ((3, 7), (20, 8), "readers: got 8; allowed: 1 to the 7 unlabeled"),
    ],
)
def test_a_bound_below_the_batch_and_too_many_readers_are_refused(sizes, streaming, words):
    with pytest.raises(InvalidSettings, match=words):
        streamed(sizes=sizes, buffer=streaming[0], readers=streaming[1])


def test_a_replica_without_an_unlabeled_image_is_refused():
    with pytest.raises(InvalidSettings, match="got 7 unlabeled images in a step on 8 repl"):
        streamed(replicas=Replicas(8))


# --- the synthetic dataset -----------------------------------------------------------


def test_a_synthetic_image_is_a_function_of_its_index():
    small, large = (Synthetic(num_train=n, size=8, shard=s) for n, s in ((50, 7), (10**9, 10**4)))
    chosen = np.array([3, 11, 30, 49])
    one, again = (load_records(source.records(None), chosen) for source in (small, large))
    np.testing.assert_array_equal(one.images, again.images)
    np.testing.assert_array_equal(one.labels, again.labels)
    whole = small.load_train(None)
    np.testing.assert_array_equal(whole.images[chosen], one.images)
    np.testing.assert_array_equal(whole.labels[chosen], one.labels)
    assert (whole.images.shape, whole.images.dtype) == ((50, 8, 8, 3), np.uint8)
    assert len(np.unique(whole.images.reshape(50, -1), axis=0)) == 50


def test_synthetic_classes_are_even_and_can_be_told_apart():
    source = Synthetic(num_train=1000, num_test=200, size=8, num_classes=5)
    train, test = source.load_train(None), source.load_test(None)
    assert np.all(np.abs(np.bincount(train.labels) - 200) < 60)
    means = np.stack([train.images[train.labels == c].mean(axis=0) for c in range(5)])
    nearest = np.square(test.images[:, None] - means).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert np.mean(nearest == test.labels) > 0.95
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in test.images)


def test_a_large_synthetic_dataset_is_not_loaded():
    source = Synthetic(num_train=1_300_000, size=224)
    assert source.info(None).title == "synthetic (196 GB)"
    assert sum(source.records(None).lengths) == 1_300_000
    with pytest.raises(InvalidSettings, match="shuffle_buffer: got null with 196 GB"):
        source.load_train(None)


def test_a_list_of_too_many_shards_is_refused():
    with pytest.raises(InvalidSettings, match=r"shard: got 7 with .*; allowed: at least 100"):
        Synthetic(num_train=10**8, shard=7)


def test_a_source_in_memory_has_no_records():
    with pytest.raises(InvalidSettings, match=r"shuffle_buffer: got a number.*'digits'"):
        Digits().records(None)


MEMORY = """
import os
import numpy as np
from keras_srt import SRT, LInf, RobustModel, SmallCNN
from keras_srt.data import BatchSizes, Images, IndexRanges, Streaming, Synthetic, streamed_batches

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

source = Synthetic(num_train=1_000_000_000, size=16, num_classes=4)
records = source.records(None)
labeled = Images(*(part[:40] for part in source.load_test(None)))
batches = streamed_batches(
    labeled, records, IndexRanges([[100, source.num_train]]), BatchSizes(4, 12),
    Streaming(500, readers=2), seed=0, first_step=10**6,
)
model = RobustModel(
    SmallCNN(width=2, hidden=8).build((16, 16, 3), 4), LInf(epsilon=0.1, num_steps=1), SRT()
)
model.compile()
step, feed = model.make_train_function(), iter(batches)
for number in range(1, 901):
    step(feed)
    if number % 300 == 0:
        print(resident(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_memory_stays_flat_on_hundreds_of_gigabytes():
    """768 GB in name: resident memory after 300 steps and after 900."""
    process = python("-c", MEMORY, timeout=1200, TF_CPP_MIN_LOG_LEVEL="3")
    assert process.returncode == 0, process.stderr
    after_300, _, after_900 = map(float, process.stdout.split())
    assert after_900 < 1.02 * after_300


# --- TFDS ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    return folder, *prepare(folder)


@pytest.fixture
def tiny(tiny_folder, tmp_path):
    """A copy that a test may damage: source, folder, files and images."""
    folder, files, images = tiny_folder
    shutil.copytree(folder, tmp_path / "tfds")
    moved = [tmp_path / "tfds" / file.relative_to(folder) for file in files]
    return AnyTFDS(dataset="tiny"), tmp_path / "tfds", moved, images


def test_records_of_tfds_are_those_that_it_loads(tiny):
    source, folder, files, images = tiny
    records = source.records(folder)
    assert (records.lengths, len(files)) == ((10, 10, 10), 3)
    chosen = np.array([0, 9, 10, 15, 29])
    found = load_records(records, chosen)
    np.testing.assert_array_equal(found.images, images[chosen])
    np.testing.assert_array_equal(found.labels, chosen % 3)
    np.testing.assert_array_equal(load_labels(records, 12), np.arange(12) % 3)
    loaded = source.load_train(folder)
    np.testing.assert_array_equal(load_records(records, np.arange(30)).images, loaded.images)


def test_a_missing_shard_is_named_at_once(tiny):
    source, folder, files, _ = tiny
    files[1].unlink()
    with pytest.raises(UserError, match=f"1 of its 3 shards are missing, .*{files[1].name}"):
        source.records(folder)


@pytest.mark.parametrize(
    ("damage", "words"),
    [("fewer", "not the records"), ("more", "not the records"), ("cut", "damaged")],
)
def test_a_shard_with_other_records_than_promised_is_an_error(damage, words, tiny):
    source, folder, files, _ = tiny
    records = source.records(folder)
    content = [record.numpy() for record in tf.data.TFRecordDataset(str(files[1]))]
    kept = content[:-1] if damage == "fewer" else [*content, content[0]]
    if damage == "cut":
        files[1].write_bytes(files[1].read_bytes()[:-5])
    else:
        with tf.io.TFRecordWriter(str(files[1])) as writer:
            for record in kept:
                writer.write(record)
    with pytest.raises(UserError, match=words), translate_read_errors():
        take(ordered_batches(records, IndexRanges([[0, 30]]), 30), 1)


def test_a_damaged_shard_ends_a_training_with_one_line(tiny):
    source, folder, files, images = tiny
    records, labeled = source.records(folder), Images(images[:6], np.int32([0, 1, 2, 0, 1, 2]))
    files[2].write_bytes(files[2].read_bytes()[:-5])
    batches = streamed_batches(
        labeled, records, IndexRanges([[6, 30]]), BatchSizes(2, 4), Streaming(8), seed=0
    )
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = RobustModel(keras.Sequential(layers), LInf(epsilon=0.1, num_steps=1), SRT())
    model.compile()
    with (
        pytest.raises(UserError, match="a shard is damaged") as caught,
        translate_read_errors(),
    ):
        model.fit(batches, steps_per_epoch=10, verbose=0)
    assert "\n" not in str(caught.value)


def test_other_errors_pass_through():
    with pytest.raises(tf.errors.InternalError), translate_read_errors():
        raise tf.errors.InternalError(None, None, "something else")


def test_images_without_a_fixed_size_are_refused(tmp_path):
    prepare(tmp_path, shape=(None, None, 1))
    source = AnyTFDS(dataset="tiny")
    for ask in (source.info, source.records):
        with pytest.raises(
            UserError, match=r"shape \[None, None, 1\]; allowed: images of equal size"
        ):
            ask(tmp_path)
