"""TFDS datasets: sizes, records, and damaged or missing files."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from numbered_records import take
from prepared import prepare

from keras_srt import SRT, LInf, RobustModel
from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras
from keras_srt.data import (
    CIFAR10,
    MNIST,
    AnyTFDS,
    BatchSizes,
    Images,
    IndexRanges,
    Streaming,
    load_labels,
    load_records,
    ordered_batches,
    streamed_batches,
    translate_read_errors,
)


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
    info = source.open(shared_data_dir).info
    assert info[1:5] == (shape, classes, train, test)
    images, labels = source.open(shared_data_dir).load_test()
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
def test_loading_training_images_does_not_read_test_images(source, shared_data_dir, monkeypatch):
    import tensorflow_datasets as tfds

    asked = []

    def spy(self, split=None, **_):
        asked.append(split)
        count = self.info.splits[split].num_examples
        shape = self.info.features["image"].shape
        empty = {"image": np.zeros(shape, np.uint8), "label": np.int64(1)}
        return tf.data.Dataset.from_tensors(empty).repeat(count)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", spy)
    source.open(shared_data_dir).load_train()
    assert asked == ["train"]
    source.open(shared_data_dir).load_test()
    assert asked == ["train", "test"]


def test_missing_dataset_without_network_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", offline)
    with pytest.raises(UserError) as caught:
        MNIST().open(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"dataset 'mnist': not prepared in {tmp_path / 'mnist'}")
    assert "ConnectionError: no route to host" in message
    assert "--data-dir" in message
    assert "\n" not in message


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


def test_records_equal_the_loaded_images(tiny):
    source, folder, files, images = tiny
    records = source.open(folder).records()
    assert (records.lengths, len(files)) == ((10, 10, 10), 3)
    chosen = np.array([0, 9, 10, 15, 29])
    found = load_records(records, chosen)
    np.testing.assert_array_equal(found.images, images[chosen])
    np.testing.assert_array_equal(found.labels, chosen % 3)
    np.testing.assert_array_equal(load_labels(records, 12), np.arange(12) % 3)
    loaded = source.open(folder).load_train()
    np.testing.assert_array_equal(load_records(records, np.arange(30)).images, loaded.images)


def test_missing_shard_is_reported_when_opened(tiny):
    source, folder, files, _ = tiny
    files[1].unlink()
    with pytest.raises(UserError, match=f"1 of its 3 shards are missing, .*{files[1].name}"):
        source.open(folder).records()


@pytest.mark.parametrize(
    ("damage", "words"),
    [("fewer", "wrong number of records"), ("more", "wrong number of records"), ("cut", "damaged")],
)
def test_shard_with_wrong_number_of_records_is_an_error(damage, words, tiny):
    source, folder, files, _ = tiny
    records = source.open(folder).records()
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


def test_damaged_shard_ends_training_with_a_user_error(tiny):
    source, folder, files, images = tiny
    records, labeled = (
        source.open(folder).records(),
        Images(images[:6], np.int32([0, 1, 2, 0, 1, 2])),
    )
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


def test_unrelated_errors_propagate():
    with pytest.raises(tf.errors.InternalError), translate_read_errors():
        raise tf.errors.InternalError(None, None, "something else")


def test_images_of_varying_size_are_rejected(tmp_path):
    prepare(tmp_path, shape=(None, None, 1))
    with pytest.raises(UserError, match=r"shape \[None, None, 1\]; allowed: images of equal size"):
        AnyTFDS(dataset="tiny").open(tmp_path)


def test_start_up_noise_of_tensorflow_is_not_shown(tiny):
    """TFDS imports TensorFlow by itself when its ReadConfig is made."""
    _, folder, *_ = tiny
    code = (
        "import sys\nfrom pathlib import Path\nfrom keras_srt.data import AnyTFDS\n"
        "AnyTFDS(dataset='tiny').open(Path(sys.argv[1])).load_test()"
    )
    environment = {key: value for key, value in os.environ.items() if key[:6] != "TF_CPP"}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
