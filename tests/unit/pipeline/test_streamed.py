"""Streamed training sets: runs, resume, and the order of pseudo-labels."""

import dataclasses

import numpy as np
import pytest
from helpers import tiny, write_config
from tiny_runs import train_in

from keras_srt.core.errors import InvalidSettings
from keras_srt.data import IndexRanges, Split, Synthetic
from keras_srt.data.synthetic import SyntheticDataset
from keras_srt.objectives import RT
from keras_srt.pipeline import data as data_module
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.streamed import StreamedData
from keras_srt.pipeline.train import train


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


@pytest.fixture
def streamed_config(tmp_path):
    """A tiny run on the synthetic dataset."""
    dataset = {"name": "synthetic", "num_train": 10**7, "num_test": 20, "size": 16}
    changes = {
        "data__dataset": {**dataset, "num_classes": 3, "shard": 1000},
        "data__shuffle_buffer": 64,
        "data__readers": 2,
        "training__steps": 3,
    }
    return load_config(str(write_config(tmp_path, tiny(**changes))))


def test_a_run_streams_and_resumes_with_the_split_that_it_saved(
    eager, untimed, streamed_config, tmp_path, monkeypatch
):
    config = streamed_config
    monkeypatch.setattr(SyntheticDataset, "load_train", None)
    run = train_in(tmp_path / "run", config)
    split = Split.load(run.split)
    assert len(split.unlabeled) == 10**7 - 40 - 30
    assert run.split.stat().st_size < 5000
    assert [int(row["step"]) for row in run.read_history()] == [3]
    longer = dataclasses.replace(config.training, steps=6)
    monkeypatch.setattr(data_module, "draw_split", None)
    train(RunContext.open(dataclasses.replace(config, training=longer), run, resume=True))
    assert [int(row["step"]) for row in run.read_history()] == [3, 6]


def test_objectives_without_unlabeled_images_read_none(streamed_config, tmp_path):
    training = dataclasses.replace(streamed_config.training, labeled_per_batch=None)
    config = dataclasses.replace(streamed_config, objective=RT(), training=training)
    dataset = config.data.dataset.open()
    split = Split(np.arange(40), IndexRanges([[70, 10**7]]), np.arange(40, 70), 0, "stratified")
    part = StreamedData.load(dataset.records(), split)
    plan = make_plan(config, dataset.info)
    (batch,) = take(part.batches(config, plan, 0), 1)
    assert set(batch) == {"labeled"}
    assert batch["labeled"][0].shape == (16, 16, 16, 3)


def test_pseudo_labels_of_streamed_images_are_in_the_order_of_the_split():
    dataset = Synthetic(num_train=120, size=16, num_classes=3).open()
    taken = np.arange(0, 60, 2)
    split = Split(taken[:20], IndexRanges.of(taken).complement(100), taken[20:], 0, "stratified")
    part = StreamedData.load(dataset.records(), split)
    whole = dataset.load_train()
    np.testing.assert_array_equal(part.labeled.images, whole.images[split.labeled])
    np.testing.assert_array_equal(part.validation.labels, whole.labels[split.validation])
    images = np.concatenate(take(part.unlabeled_batches(32), 9))
    expected = whole.images[np.asarray(split.unlabeled)] / np.float32(255)
    np.testing.assert_allclose(images, expected, rtol=1e-6)


def test_a_config_says_what_does_not_fit_a_stream(tmp_path):
    for changes, words in (
        ({"data__readers": 2}, r"data\.readers: got 2 with all images in memory"),
        ({"data__shuffle_buffer": 0}, r"data\.shuffle_buffer: got 0"),
    ):
        with pytest.raises(InvalidSettings, match=words):
            load_config(str(write_config(tmp_path, tiny(**changes))))
