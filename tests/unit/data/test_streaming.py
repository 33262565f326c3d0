"""Streamed batches: order, replicas, resume, memory."""

import numpy as np
import pytest
import tensorflow as tf
from numbered_records import LENGTHS, TAKEN, UNLABELED, Numbered, assert_equal_batches, ids_of, take

from keras_srt.config.schema import AugmentationSettings
from keras_srt.core.errors import InvalidSettings
from keras_srt.data import (
    BatchSizes,
    Images,
    IndexRanges,
    Replicas,
    Streaming,
    streamed_batches,
)
from keras_srt.data.record_reader import Reader
from keras_srt.data.streaming import shuffled_passes


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


def ordinals(reader, count, position=0, bound=20, seed=5):
    passes = shuffled_passes(reader, position, bound, seed, lane=0)
    return np.array([ordinal for ordinal, _ in passes.take(count).as_numpy_iterator()])


@pytest.mark.parametrize("bound", [7, 1000])
def test_each_pass_is_a_new_permutation(bound):
    reader = Reader(Numbered(LENGTHS), UNLABELED)
    passes = ordinals(reader, 3 * 92, bound=bound).reshape(3, 92)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(92), (3, 1)))
    assert len(np.unique(passes, axis=0)) == 3
    np.testing.assert_array_equal(passes[0], ordinals(reader, 92, bound=bound))
    assert np.any(passes[0] != ordinals(reader, 92, bound=bound, seed=6))


@pytest.mark.parametrize("bound", [2, 25])
def test_records_move_at_most_by_the_bound(bound):
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


def test_reading_starts_at_any_position():
    reader = Reader(Numbered(LENGTHS), UNLABELED)
    whole = ordinals(reader, 300)
    for position in (20, 91, 250):
        np.testing.assert_array_equal(ordinals(reader, 30, position), whole[position:][:30])
    far = ordinals(reader, 92, position=92 * 10**9)
    np.testing.assert_array_equal(np.sort(far), np.arange(92))


def test_skipped_shards_are_not_opened():
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


def test_streamed_batches_have_the_structure_of_in_memory_batches():
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
def test_exactly_the_unlabeled_records_are_used(readers):
    batches = take(streamed(readers=readers), 60)  # 420 of 92
    counts = np.bincount(np.concatenate([ids_of(b["unlabeled"]) for b in batches]), minlength=100)
    assert np.all(counts[TAKEN] == 0)
    rest = counts[np.asarray(UNLABELED)]
    # Three readers pass through lanes of 30, 31 and 31 with 2, 2 and 3 rows of a batch.
    assert (rest.min(), rest.max()) == ((4, 5) if readers == 1 else (3, 6))
    labeled = np.concatenate([ids_of(batch["labeled"][0]) for batch in batches[:8]])
    np.testing.assert_array_equal(np.sort(labeled.reshape(3, 8)), np.tile(TAKEN, (3, 1)))


def test_resumed_batches_equal_uninterrupted_batches():
    settings = {"readers": 2, "augmentation": AugmentationSettings(pad=1, flip=True)}
    whole = take(streamed(**settings), 45)
    for step in (3, 40):  # inside the first block, some passes later
        assert_equal_batches(take(streamed(**settings, first_step=step), 3), whole[step:][:3])


@pytest.mark.parametrize(("total", "local", "readers"), [(4, 2, 2)])
def test_rows_of_all_replicas_form_the_global_batch(total, local, readers):
    settings = {
        "sizes": (5, 7),
        "readers": readers,
        "augmentation": AugmentationSettings(pad=1, flip=True),
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


def test_process_opens_only_the_shards_of_its_rows():
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


@pytest.mark.parametrize(
    ("sizes", "streaming", "words"),
    [
        ((3, 7), (6, 1), "shuffle_buffer: got 6; allowed: at least the 7 unlabeled"),
        ((3, 7), (20, 8), "readers: got 8; allowed: 1 to the 7 unlabeled"),
    ],
)
def test_too_small_buffer_and_too_many_readers_are_rejected(sizes, streaming, words):
    with pytest.raises(InvalidSettings, match=words):
        streamed(sizes=sizes, buffer=streaming[0], readers=streaming[1])


def test_replica_without_unlabeled_images_is_rejected():
    with pytest.raises(InvalidSettings, match="got 7 unlabeled images in a step on 8 repl"):
        streamed(replicas=Replicas(8))
