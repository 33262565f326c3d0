"""Damaged datasets: one line says what is wrong, and where nothing is, the training ends well."""

import shutil

import pytest
from helpers import tiny, write_config
from own_images import make_folder, settings, write_csv
from prepared import prepare

from faults.conftest import train

GROUP = "datasets"

STREAMED = {"shuffle_buffer": 12}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, size=16)
    return folder


@pytest.fixture
def trained(prepared, forks, tmp_path):
    """Trains on a copy of the prepared dataset after a change of its folder."""

    def end(change, **data):
        folder = shutil.copytree(prepared, tmp_path / "tfds")
        change(next(folder.glob("tiny/1.0.0")))
        data = {
            "dataset": {"name": "tfds", "dataset": "tiny"},
            "labeled": 9,
            "validation": 6,
        } | data
        batch = {"training__batch_size": 6, "training__labeled_per_batch": 2}
        config = write_config(tmp_path, tiny(data=data, training__steps=2, **batch))
        return forks(*train(config, tmp_path / "run", "--data-dir", folder))

    return end


def shard(version):
    return sorted(version.glob("*train*tfrecord*"))[1]


def flip_a_record(version):
    content = bytearray(shard(version).read_bytes())
    content[len(content) // 2] ^= 1
    shard(version).write_bytes(content)


def truncate(version):
    shard(version).write_bytes(shard(version).read_bytes()[:-20])


def remove_a_shard(version):
    shard(version).unlink()


def half_prepare(version):
    """As TFDS leaves it when it is killed."""
    version.rename(version.with_name("incomplete.ABC_1.0.0"))


@pytest.mark.parametrize("data", [{}, STREAMED], ids=["memory", "streamed"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flip_a_record, ["damaged"]),
        (truncate, ["damaged"]),
        (remove_a_shard, ["missing"]),
        (half_prepare, ["not prepared in"]),
    ],
)
def test_damaged_shards(change, words, data, trained):
    trained(change, **data).assert_refused(*words)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_damaged_description(name, trained):
    trained(lambda version: (version / name).write_text('{"name": ')).assert_refused("tiny")


@pytest.mark.parametrize("labeled", [3, 4])
def test_fewer_images_than_a_batch(labeled, trained):
    ended = trained(lambda version: None, labeled=labeled, unlabeled=2)
    ended.assert_done()


@pytest.mark.parametrize("fault", ["one class", "csv without labels"])
def test_folders(fault, forks, tmp_path):
    make_folder(tmp_path)
    data = settings(tmp_path, size=16, validation=8)
    if fault == "one class":
        shutil.rmtree(tmp_path / "labeled/seven")
        words = ["got 1 classes"]
    else:
        rows = [(path,) for path in tmp_path.rglob("*.png")]
        table = write_csv(tmp_path / "all.csv", rows, header=("path",))
        data |= {"csv": str(table), "labeled": None, "unlabeled": None}
        words = ["has no column 'label'"]
    config = write_config(tmp_path, tiny(data=data, training__steps=2))
    forks(*train(config, tmp_path / "run")).assert_refused(*words)
