"""Folder datasets: listing, the test set, skipped files, streaming, runs."""

import os
import shutil

import encoded
import numpy as np
import pytest
from helpers import tiny, write_config
from own_images import NAMES, digits, make_folder, settings, write_csv

from keras_srt.cli import main as cli
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.data import (
    BatchSizes,
    Folder,
    Images,
    IndexRanges,
    Streaming,
    hold_out,
    load_records,
    parallel_map,
    streamed_batches,
)
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.run_folder import RunFolder


@pytest.fixture
def root(tmp_path):
    make_folder(tmp_path)
    return tmp_path


def folder(root, **changes):
    made = settings(root, **changes)
    made.pop("source")
    return Folder(**made)


def open_folder(root, **changes):
    return folder(root, **changes).open()


def run_settings(root, **changes):
    """Settings of a tiny run on the folder."""
    data = settings(root, size=16, validation=8, **changes)
    return tiny(data=data, training__steps=2, training__interval=1)


# ------------------------------------------------------------------------------ what there is


def test_folder_lists_its_files(root):
    source = open_folder(root)
    info = source.info
    assert info.class_names == NAMES
    assert info.input_shape == (12, 12, 1)
    assert (info.num_train, info.num_test, info.num_labeled) == (62, 8, 32)
    train, test = source.load_train(), source.load_test()
    np.testing.assert_array_equal(train.labels < 0, np.arange(62) >= 32)
    images, labels = digits(70)
    by_pixels = {image.tobytes(): label for image, label in zip(images[:40], labels, strict=False)}
    for part, count in ((train, 32), (test, 8)):
        for image, label in zip(part.images[:count], part.labels, strict=False):
            assert by_pixels.pop(image.tobytes()) == label
    assert not by_pixels
    unlabeled = {image.tobytes() for image in train.images[32:]}
    assert unlabeled == {image.tobytes() for image in images[40:]}
    assert source.skipped() == {}


def test_csv_equals_folders(root):
    rows = [
        (path.relative_to(root), path.parent.name if "unlabeled" not in path.parts else " ")
        for path in sorted(root.rglob("*.*"))
    ]
    source = Folder(csv=str(write_csv(root / "all.csv", rows)), size=12, channels=1).open()
    wanted = open_folder(root)
    for one, other in (
        (source.load_train(), wanted.load_train()),
        (source.load_test(), wanted.load_test()),
    ):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert source.info.fingerprint == wanted.info.fingerprint


def test_relative_paths_are_below_data_dir(root):
    source = Folder(labeled="labeled", unlabeled="unlabeled", size=12, channels=1)
    assert source.open(root).info[1:] == open_folder(root).info[1:]
    with pytest.raises(UserError, match=r"data\.labeled: /.*/labeled doesn't exist") as caught:
        source.open()
    assert "'labeled' is relative to the current folder; give --data-dir DIR" in str(caught.value)


@pytest.mark.parametrize("part", ["csv", "labeled", "unlabeled", "test"])
def test_a_missing_part_is_reported_with_what_it_is_relative_to(part, root):
    settings = {"labeled": "labeled", part: "labelled"}
    if part == "csv":
        del settings["labeled"]
    with pytest.raises(UserError, match=f"data.{part}: .*did you mean 'labeled'") as caught:
        Folder(**settings).open(root)
    assert f"relative to --data-dir {root}; give --data-dir DIR" in str(caught.value)


@pytest.mark.parametrize("form", ["folder", "csv"])
def test_separate_test_folder_or_csv(form, root):
    (root / "test/one").mkdir(parents=True)
    for path in sorted((root / "labeled/one").iterdir())[:3]:
        shutil.move(path, root / "test/one")
    test = root / "test"
    if form == "csv":
        rows = [(path, "one") for path in sorted(test.rglob("*.*"))]
        test = write_csv(root / "test.csv", rows)
    info = open_folder(root, test=str(test)).info
    assert (info.num_train, info.num_labeled, info.num_test) == (67, 37, 3)


def test_hidden_files_and_other_suffixes_are_ignored(root):
    before = open_folder(root).info
    for name in (".hidden.png", "readme.txt", "Thumbs.db"):
        (root / "labeled/one" / name).write_bytes(b"no image")
    (root / "labeled/.git").mkdir()
    source = open_folder(root)
    assert source.info == before
    assert source.skipped() == {}


def test_folder_links_are_not_followed(root):
    (root / "unlabeled/again").symlink_to(root / "unlabeled")
    assert open_folder(root).info.num_train == 62


# ------------------------------------------------------------------------------ the test part


def test_new_files_do_not_move_others_to_the_test_set():
    hashes = [f"{number * 7919 % 1000:03}" for number in range(400)]
    few = hold_out([(sha256, "a") for sha256 in hashes[:300]], 0.2)
    many = hold_out([(sha256, "a") for sha256 in hashes], 0.2)
    assert len(few) == 60
    assert len(many) == 80
    # The border moves a little, and nothing jumps over it.
    assert sum((sha256 in few) != (sha256 in many) for sha256 in hashes[:300]) < 15
    assert all(sha256 in many for sha256 in few if sha256 < max(many))


def test_each_class_keeps_a_training_image():
    files = [("1", "a"), ("2", "b"), ("3", "b")]
    assert hold_out(files, 0.5) == {"2"}
    assert hold_out([("1", "a"), ("1", "a")], 0.5) == set()


def test_copies_stay_in_the_same_set(root):
    for path in list((root / "labeled/one").iterdir()):
        shutil.copy(path, path.with_name(f"copy_{path.name}"))
    source = open_folder(root)
    train, test = source.load_train(), source.load_test()
    known = {image.tobytes() for image in train.images[: source.info.num_labeled]}
    assert not known & {image.tobytes() for image in test.images}


# ------------------------------------------------------------------------------ unreadable files


def spoil(path, data=encoded.PNG[:-200]):
    path.write_bytes(data)
    return str(path)


def test_unreadable_labeled_files_are_skipped_and_logged(root, caplog):
    name = spoil(sorted((root / "labeled/one").iterdir())[0])
    source = open_folder(root)
    assert source.info.num_labeled + source.info.num_test == 39
    assert source.skipped() == {name: "is a truncated PNG (its end is missing)"}
    source.load_train()
    assert caplog.messages == [f"skipped {name}: is a truncated PNG (its end is missing)"]


def test_the_next_readable_file_replaces_an_unreadable_unlabeled_file(root, caplog):
    whole = open_folder(root).load_train().images
    files = sorted((root / "unlabeled").rglob("*.*"))
    spoiled = [spoil(files[place]) for place in (3, 4, 29)]
    source = open_folder(root)
    images = source.load_train().images
    wanted = whole.copy()
    wanted[[32 + 3, 32 + 4, 32 + 29]] = whole[[32 + 5, 32 + 5, 32]]
    np.testing.assert_array_equal(images, wanted)
    assert sorted(source.skipped()) == spoiled
    records = source.records()
    streamed = load_records(records, np.arange(62))
    np.testing.assert_array_equal(streamed.images, wanted)
    assert len(caplog.messages) == 3


@pytest.mark.parametrize("part", ["labeled/one", "unlabeled/deep/er"])
def test_too_many_unreadable_files_are_an_error(part, root):
    for path in sorted((root / part).iterdir())[:3]:
        spoil(path)
    assert open_folder(root, max_unreadable=3).load_train().images.shape[0] > 50
    with pytest.raises(UserError) as caught:
        open_folder(root, max_unreadable=2).load_train()
    assert str(caught.value).startswith("data: 3 images can't be read, the last of them ")
    assert "allowed: at most max_unreadable = 2" in str(caught.value)


def test_too_many_unreadable_files_end_a_streamed_training(root, capfd, untimed):
    for path in (root / "unlabeled").rglob("*.*"):
        spoil(path, b"\xc3\x84 'x' ]")
    config = write_config(root, run_settings(root, shuffle_buffer=12, max_unreadable=3))
    assert cli.main(["train", "--config", str(config), "--run-dir", str(root / "run")]) == 2
    output, error = capfd.readouterr()
    assert output.count("warning: skipped ") == 4
    lines = error.splitlines()
    assert lines[-1].startswith("error: data: 4 images can't be read, the last of them ")
    assert r"""(it begins with b"\xc3\x84 'x'")""" in lines[-1]


def test_pipe_is_skipped(root):
    os.mkfifo(root / "unlabeled/deep/pipe.png")
    source = open_folder(root)
    source.load_train()
    assert list(source.skipped().values()) == ["is not a regular file"]


def test_paths_are_absolute_at_the_start(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root / "labeled")
    relative = settings(root, labeled=".", unlabeled="../unlabeled") | {"source": None}
    relative.pop("source")
    source = Folder(**relative)
    opened, wanted = source.open(), open_folder(root)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(opened.load_train().images, wanted.load_train().images)
    assert opened.info.fingerprint == wanted.info.fingerprint


def test_a_csv_that_is_a_link_lists_files_beside_the_link(root):
    images = sorted((root / "labeled").rglob("*.*"))
    rows = [(path.relative_to(root), path.parent.name) for path in images]
    (root / "elsewhere").mkdir()
    link = root / "list.csv"
    link.symlink_to(write_csv(root / "elsewhere" / "list.csv", rows))
    assert Folder(csv=str(link), size=12, channels=1).open().info.num_labeled == 32


def test_file_that_becomes_unreadable_is_an_error(root):
    source = open_folder(root)
    for path in (root / "labeled").rglob("*.*"):
        spoil(path)
    with pytest.raises(UserError, match="can't be read any more"):
        source.load_train()
    with pytest.raises(UserError, match="can't be read any more"):
        source.load_test()


# ------------------------------------------------------------------------------ streaming


def test_records_are_the_training_part(root):
    source = open_folder(root)
    train, records = source.load_train(), source.records()
    np.testing.assert_array_equal(source.known_labels, train.labels)
    assert sum(records.lengths) == len(train.labels)
    chosen = np.array([0, 5, 31, 32, 47, 48, 61])
    read = load_records(records, chosen)
    np.testing.assert_array_equal(read.images, train.images[chosen])
    np.testing.assert_array_equal(read.labels, train.labels[chosen])


def test_batches_are_a_function_of_the_step_though_a_file_is_damaged(root):
    spoil(sorted((root / "unlabeled").rglob("*.*"))[7])
    source = open_folder(root)
    images, labels = source.load_train()
    labeled = Images(images[:32], labels[:32])

    def batches(first_step):
        return streamed_batches(
            labeled,
            source.records(),
            IndexRanges([[32, 62]]),
            BatchSizes(4, 8),
            Streaming(shuffle_buffer=16),
            seed=3,
            first_step=first_step,
        )

    whole = list(batches(0).take(9).as_numpy_iterator())
    late = list(batches(5).take(4).as_numpy_iterator())
    for one, other in zip(whole[5:], late, strict=True):
        np.testing.assert_array_equal(one["unlabeled"], other["unlabeled"])
        np.testing.assert_array_equal(one["labeled"][0], other["labeled"][0])


def test_images_that_do_not_fit_into_memory_are_refused(root):
    source = open_folder(root, size=1024, channels=3, resize="fit")
    source.known_labels = np.zeros(4 * 2**30 // (3 * 2**20) + 1, np.int32)
    with pytest.raises(InvalidSettings, match=r"^data\.shuffle_buffer: got null with 4\.3 GB"):
        source.load_train()


def test_parallel_map_keeps_order_and_stops_at_an_error():
    assert list(parallel_map(lambda n: n * n, range(100), "")) == [n * n for n in range(100)]
    begun = []

    def fail_at_five(number):
        begun.append(number)
        if number == 5:
            raise UserError("five")
        return number

    with pytest.raises(UserError, match="five"):
        list(parallel_map(fail_at_five, range(10_000), ""))
    assert len(begun) < 1000


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"labeled": None}, "labeled: got neither of labeled and csv"),
        ({"csv": "x.csv"}, "labeled: got both of labeled and csv"),
        ({"labeled": None, "csv": "x.csv"}, "unlabeled: got "),
        ({"channels": 2}, "channels: got 2"),
        ({"size": 7}, r"size\[0\]: got 7"),
        ({"size": [12, 12, 1]}, "size: got "),
        ({"resize": "squash"}, "resize: got 'squash'"),
        ({"background": [0, 0, 256]}, r"background\[2\]: got 256"),
        ({"test_share": 0}, "test_share: got 0"),
        ({"max_unreadable": -1}, "max_unreadable: got -1"),
        ({"unlabeled": ""}, "unlabeled: got ''"),
    ],
)
def test_invalid_settings_are_rejected(change, problem, tmp_path):
    with pytest.raises(InvalidSettings, match=f"^{problem}"):
        folder(tmp_path, **change)


def rewritten(text):
    def write(root):
        (root / "all.csv").write_bytes(text)
        return Folder(csv=str(root / "all.csv"), size=12).open()

    return write


def without(path):
    def remove(root):
        shutil.rmtree(root / path)
        (root / path).mkdir()
        return open_folder(root)

    return remove


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (without("labeled"), "data.labeled: .* has no subfolders"),
        (without("labeled/one"), "got 1 classes"),
        (without("unlabeled"), "data.unlabeled: no image in"),
        (lambda root: open_folder(root, labeled=str(root / "labelled")), "did you mean 'labeled'"),
        (lambda root: open_folder(root, labeled=str(root / "labeled/one")), "has no subfolders"),
        (lambda root: open_folder(root, labeled=str(root / "unlabeled")), "got 1 classes"),
        (lambda root: open_folder(root, test=str(root / "unlabeled")), "got the class 'deep'"),
        (rewritten(b""), "has no column 'path'"),
        (rewritten(b"path,label\n"), "has no line after the first"),
        (rewritten(b"path,class\na.png,b\n"), "has no column 'label'"),
        (rewritten(b"path,label\na.png\n"), "line 2: got .* allowed: a path, a comma, a label"),
        (rewritten(b"path,label\na.png,b,c\n"), "line 2: got "),
        (rewritten(b"path,label\na.png,b\na.png,c\n"), "line 3: a.png is listed twice"),
        (rewritten(b"path,label\na.png,\n"), "got 0 classes"),
        (rewritten(b"path,label\n\xff\xfe,b\n"), "can't be read as CSV"),
        (rewritten(b'path,label\n"a.png,b\n'), "can't be read as CSV"),
        (rewritten(b"path,label\n" + b"x" * 200_000 + b",b\n"), "can't be read as CSV"),
    ],
)
def test_unusable_folders_are_rejected(make, problem, root):
    with pytest.raises(UserError, match=problem):
        make(root)


# ------------------------------------------------------------------------------ configs and runs


def test_source_is_short_for_a_dataset(root):
    short = load_config(str(write_config(root, run_settings(root))))
    long = run_settings(root)
    own = {"labeled", "unlabeled", "size", "channels"}
    long["data"] = {
        "validation": 8,
        "dataset": {"name": "folder"} | {key: long["data"][key] for key in own},
    }
    assert load_config(str(write_config(root, long, "long.json"))) == short
    assert short.data.labeled is None
    path = write_config(root, {**long, "data": {**long["data"], "source": "folder"}}, "both.json")
    with pytest.raises(InvalidSettings, match=r"data\.source: got 'folder' and a dataset"):
        load_config(str(path))
    path = write_config(root, {**long, "data": {"source": "folders"}}, "typo.json")
    with pytest.raises(InvalidSettings, match=r"data\.source: .*did you mean 'folder'"):
        load_config(str(path))


def test_run_on_a_folder(root, capsys, monkeypatch, eager, untimed):
    # Exports have tests of their own.
    monkeypatch.setattr("keras_srt.pipeline.run.complete_publication", lambda _: {})
    name = spoil(sorted((root / "unlabeled").rglob("*.*"))[2])
    config = write_config(root, run_settings(root))
    run = RunFolder(root / "run")
    assert cli.main(["train", "--config", str(config), "--run-dir", str(run.path)]) == 0
    from keras_srt.pipeline.configs import load_run_config
    from keras_srt.pipeline.report import read_json

    dataset = read_json(run.report)["dataset"]
    assert (dataset["labeled"], dataset["validation"], dataset["unlabeled"]) == (24, 8, 30)
    assert dataset["num_test"] == 8
    assert dataset["skipped"] == {"count": 1, "files": [name]}
    assert load_run_config(run).data.dataset == load_config(str(config)).data.dataset
    capsys.readouterr()
    # Other images than those that the split was drawn from.
    (root / "unlabeled/more.png").write_bytes(encoded.PNG)
    assert cli.main(["export", "--run", str(run.path)]) == 2
    assert "the images are not those that the run started with" in capsys.readouterr().err
