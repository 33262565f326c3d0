"""`keras-srt predict`: what it finds, asks, prints and files, and how it ends."""

import glob
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from brightness_model import CLASSES, expected, png, save_brightness_model
from grpc_server import grpc_server
from helpers import clean_environment, heed_ctrl_c
from rest_server import rest_server

from keras_srt.cli import main as cli
from keras_srt.core.errors import UserError
from keras_srt.core.images import MAX_BYTES
from keras_srt.predict import image_files as sources_module
from keras_srt.predict import printing as predict
from keras_srt.predict.backends import Answer, ServedClassifier
from keras_srt.predict.classification import BATCH_IMAGES, Result, classify_files
from keras_srt.predict.image_files import check_sources, find_images
from keras_srt.predict.result_table import Table, json_line
from keras_srt.predict.sorting import Sorter, folder_names
from keras_srt.serving.client.rest_client import Predictions, Refused

CLASSES_AND_LEVELS = {"dark": 10, "gray": 120, "../bright": 250}


class Fake:
    """A classifier whose class is the first byte of the file; it can wait and fail."""

    title = "fake, version 1"

    def __init__(self, concurrency=1, pause=lambda batch: 0.0, classes=("a", "b", "c")):
        self.concurrency, self.pause, self.classes = concurrency, pause, classes

    def classify(self, images):
        time.sleep(self.pause(images))
        return [self.answer(image) for image in images]

    def answer(self, image):
        if image == b"bad":
            return Answer(error="is bad")
        scores = np.full(len(self.classes), 0.1, np.float32)
        scores[image[0]] = 0.8
        return Answer(scores, self.classes)


def touch(folder, *names, content=b"\x00"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def found(*arguments, **options):
    return [str(path) for path in find_images([str(a) for a in arguments], **options)]


def classify(files, classifier):
    return [result for batch in classify_files(files, classifier) for result in batch]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tree(here):
    touch(here, "p/b.png", "p/a.JPG", "p/notes.txt", "p/.hidden.png", "p/.git/x.png")
    touch(here, "p/cats/1.jpeg", "p/cats/10.png", "p/cats/2.png", "p/dogs/deep/1.png", "q/z.webp")
    return here


@pytest.fixture
def server():
    with rest_server() as running:
        yield running


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same model as a folder of versions and as a TFLite file."""
    folder = tmp_path_factory.mktemp("models")
    save_brightness_model(folder / "bright" / "3")
    save_brightness_model(folder / "bright" / "12")
    (folder / "bright" / ".draft-13").mkdir()
    (folder / "bright" / "20").mkdir()  # half a version, without a model in it
    return folder / "bright"


@pytest.fixture(scope="module")
def tflite(models):
    import tensorflow as tf

    from keras_srt.device.model_file import add_labels

    signature = tf.saved_model.load(str(models / "3")).signatures["image"]

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 1], tf.float32)])
    def probabilities(image):
        return {"probabilities": signature(image=image)["probabilities"]}

    function = probabilities.get_concrete_function()
    path = models.parent / "model_float32.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())
    add_labels(path, CLASSES)
    return path


@pytest.fixture
def pictures(here):
    """Three images, one of each class, and one that is none, in a folder."""
    for i, level in enumerate(CLASSES_AND_LEVELS.values()):
        touch(here, f"pictures/{i}.png", content=png(level))
    touch(here, "pictures/sub/broken.png", content=png(0)[:30])
    return here / "pictures"


@pytest.fixture
def command(capsys):
    """Runs `keras-srt predict …`; returns its exit code, stdout and lines of stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = cli.main(["predict", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err.splitlines()

    return run


@pytest.fixture
def rejected(command):
    """Runs a command line that must be refused; returns its one line of stderr."""

    def check(*arguments):
        code, out, err = command(*arguments)
        assert (code, out, len(err)) == (2, "", 1), (code, out, err)
        assert err[0].startswith("error: ")
        return err[0]

    return check


# Sources.


def test_a_folder_stands_for_its_images_in_order(tree):
    assert found("p") == [
        "p/a.JPG",
        "p/b.png",
        "p/cats/1.jpeg",
        "p/cats/10.png",
        "p/cats/2.png",
        "p/dogs/deep/1.png",
    ]
    assert found(tree / "p" / "cats" / "2.png", "p/notes.txt", "no-such-file") == [
        str(tree / "p" / "cats" / "2.png"),
        "p/notes.txt",
        "no-such-file",
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "p/*.png",
        "*/*/1.*",
        "p/**/1*",
        "**/*.png",
        "p/c?ts/[12].*",
        "p/**/deep/*",
        "**/1.png",
        "./p/*",
    ],
)
def test_globs_are_those_of_python(tree, pattern):
    by_glob = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    images = {os.path.normpath(path) for path in by_glob if not path.endswith(".txt")}
    got = found(pattern)
    assert images <= set(got)
    # A folder that matches is taken whole, as when the shell has expanded the glob.
    folders = [path for path in glob.glob(pattern, recursive=True) if os.path.isdir(path)]
    assert set(got) == images | {path for folder in folders for path in found(folder)}
    assert len(got) == len(set(got))


def test_a_glob_looks_only_where_something_can_match(tree, monkeypatch):
    looked = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(str(path)) or scan(path))
    assert found("p/*.png") == ["p/b.png"]
    assert looked == ["p"]


def test_a_file_with_magic_signs_is_a_file(here):
    touch(here, "a[1].png", "a1.png")
    assert found("a[1].png") == ["a[1].png"]


def test_links_that_lead_back_are_not_followed(tree):
    (tree / "p" / "loop").symlink_to(tree / "p")
    (tree / "p" / "link.png").symlink_to(tree / "q" / "z.webp")
    assert len(found("p")) == 7
    assert "p/link.png" in found("p")


def test_a_folder_is_skipped(tree):
    assert found("p", skip=tree / "p" / "cats") == ["p/a.JPG", "p/b.png", "p/dogs/deep/1.png"]


def test_a_large_folder_is_listed_in_order_in_several_passes(tmp_path, monkeypatch):
    names = [f"{i * 7919 % 10_007}.png" for i in range(1000)]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(sources_module, "NAMES_AT_A_TIME", 64)
    got = [path.name for path in find_images([str(tmp_path)])]
    assert got == sorted(names)
    assert sorted(got) == sorted(p.name for p in find_images([str(tmp_path)], ordered=False))


def test_sources_have_to_hold_images(tree):
    (tree / "empty").mkdir()
    check_sources(["p", "no-such-file"])
    for arguments, message in (
        (["nowhere", "nothing.png"], "nowhere, nothing.png: no such file or folder"),
        (["empty", "p"], "empty: no image there"),
        (["p/*.gif"], "p/*.gif: no image there"),
        (["nowhere/*.png"], "nowhere/*.png: no image there"),
    ):
        with pytest.raises(UserError) as caught:
            check_sources(arguments)
        assert str(caught.value).startswith(message)
    with pytest.raises(UserError, match="p/cats: lies in p, where the results go"):
        check_sources(["p/cats"], Path("p"))


# From files to answers.


def test_answers_come_in_order_whichever_batch_is_quicker(tmp_path):
    touch(tmp_path, *(f"{i:03}.png" for i in range(5 * BATCH_IMAGES)))
    for i, path in enumerate(sorted(tmp_path.iterdir())):
        path.write_bytes(bytes([i // BATCH_IMAGES]))
    # The first batches take longest.
    fake = Fake(4, pause=lambda images: 0.05 * (4 - images[0][0]), classes=tuple("abcde"))
    results = classify(find_images([str(tmp_path)]), fake)
    assert [result.file.name for result in results] == sorted(os.listdir(tmp_path))
    assert [r.answer.top(1)[0] for r in results] == sorted(list(range(5)) * BATCH_IMAGES)


def test_batches_are_asked_for_at_the_same_time(tmp_path):
    touch(tmp_path, "x.png")
    together = threading.Barrier(3)
    fake = Fake(3, pause=lambda _: together.wait(10) * 0)
    files = [tmp_path / "x.png"] * (3 * BATCH_IMAGES)
    assert len(classify(files, fake)) == len(files)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_first_answer_comes_before_the_last_file_is_read(tmp_path, concurrency):
    touch(tmp_path, "x.png")
    taken = []
    files = (taken.append(i) or tmp_path / "x.png" for i in range(10_000))
    next(classify_files(files, Fake(concurrency)))
    assert len(taken) <= (concurrency + 2) * BATCH_IMAGES


def test_memory_stays_flat(tmp_path):
    touch(tmp_path, "x.png", content=b"\x01" * 1000)

    def peak(count):
        files = (tmp_path / "x.png" for _ in range(count))
        tracemalloc.start()
        assert sum(map(len, classify_files(files, Fake()))) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(100)
    small = peak(500)
    assert peak(4000) < small + 50_000  # 3,500 contents alone would be 3.5 MB


def test_listing_printing_and_filing_keep_memory_flat_too(here, monkeypatch):
    monkeypatch.setattr(sources_module, "NAMES_AT_A_TIME", 100)
    touch(here, *(f"many/{i:04}.png" for i in range(1200)))
    peaks = []
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        for pattern in ("many/000?.png", "many/00*.png", "many"):
            tracemalloc.start()
            assert predict.predict([pattern], Fake(), sorter=Sorter(here / "sorted")) == 0
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert len(list((here / "sorted" / "a").iterdir())) == 1200
    assert peaks[2] - peaks[1] < 60_000  # 50 bytes for each image more


def test_large_images_make_small_batches(tmp_path):
    touch(tmp_path, "x.png", content=b"\x00" * 3 * 2**20)
    sizes = []
    fake = Fake(pause=lambda images: sizes.append(len(images)) or 0)
    classify([tmp_path / "x.png"] * 5, fake)
    assert sizes == [2, 2, 1]


def test_files_that_cannot_be_read_fail_alone(tmp_path):
    touch(tmp_path, "good.png", "closed/x.png")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    os.mkfifo(tmp_path / "fifo.png")
    names = ["missing.png", "good.png", "huge.png", "fifo.png", "closed", "good.png"]
    results = classify((tmp_path / name for name in names), Fake())
    assert [result.answer.error for result in results] == [
        "can't be read (No such file or directory)",
        "",
        "has 16,777,217 bytes; allowed: at most 16,777,216",
        "is not a regular file",
        "is a folder that can't be listed",
        "",
    ]


class FakeClient:
    """Refuses every batch that holds `poison`, and calls `?` invalid."""

    name, version = "m", "1"

    def __init__(self):
        self.sizes = []

    def predict(self, images):
        self.sizes.append(len(images))
        if b"poison" in images:
            raise Refused("HTTP 400 (corrupt)")
        valid = np.array([image != b"?" for image in images])
        return Predictions(np.float32([[0.25, 0.75]] * len(images)), valid, ("a", "b"))


def test_one_bad_image_does_not_spoil_its_batch():
    client = FakeClient()
    served = ServedClassifier(client, "host:1")
    answers = served.classify([b"x", b"poison", b"?", b"y"])
    assert [answer.error for answer in answers] == [
        "",
        "the server refuses it (HTTP 400 (corrupt))",
        "is neither PNG nor JPEG (it begins with b'?')",
        "",
    ]
    assert client.sizes == [4, 1, 1, 1, 1]
    assert answers[3].top(2) == [1, 0]
    assert served.title == "m, version 1 (host:1)"


# What is printed.


def result(name="x.png", scores=(0.25, 0.7, 0.05), classes=("cat", "dog", "owl"), error=""):
    answer = Answer(error=error) if error else Answer(np.float32(scores), tuple(classes))
    return Result(Path(name), answer)


def table(results, top=3, width=80, encoding="utf-8"):
    names = [str(shown.file) for shown in results]
    made = Table(names, False, results[0].answer.classes, top, width, encoding)
    return [made.head(), *(line for shown in results for line in made.rows(shown))]


def test_the_table_is_aligned():
    results = [result("digits/7.png"), result("a.png", error="bad"), result(scores=(0, 0, 1))]
    assert table(results, top=2) == [
        "file          class  score",
        "digits/7.png  dog    0.700  ████████████████▊",
        "              cat    0.250  ██████",
        "a.png         error",
        "x.png         owl    1.000  ████████████████████████",
        "              cat    0.000",
    ]


def test_without_unicode_the_table_is_ascii():
    assert table([result("ä.png")], encoding="ascii") == [
        "file      class  score",
        r"\xe4.png  dog    0.700  #################",
        "          cat    0.250  ######",
        "          owl    0.050  #",
    ]


@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_terminal_is_not_overrun(width):
    names = ("a class whose name takes more than one column", "犬" * 30, "x")
    results = [result("folder/" * 20 + "last.png", classes=names), result(classes=names)]
    lines = table(results, width=width)
    assert max(len(line) + line.count("犬") for line in lines) <= width
    # Three tenths of the columns, two for each and one for the cut.
    assert lines[1].count("犬") == (int(0.3 * width) - 1) // 2
    assert lines[1].split()[0].startswith("…")
    assert lines[1].split()[0].endswith("r/last.png")


def test_longer_names_that_follow_find_room():
    made = Table(["1.png"], True, ["cat"], 1, 80, "utf-8")
    (line,) = made.rows(result("a/longer/name/than/the/first.png", classes=("cat", "dog", "owl")))
    assert line.startswith("a/longer/name/than/the/first.png ")
    assert len(line) <= 80


def test_a_file_gets_whole_names():
    name, classes = "folder/" * 20 + "last.png", ["c" * 60, "d" * 60, "e"]
    (line,) = table([result(name, classes=classes)], top=1, width=None)[1:]
    assert line.split()[:3] == [name, "d" * 60, "0.700"]


def test_names_cannot_steer_the_terminal(tmp_path, command, server):
    evil = tmp_path / "\x1b[2Jevil\n.png"
    evil.write_bytes(b"GIF89a")
    code, out, err = command(evil, "--server", server.url)
    assert code == 1
    assert "\x1b" not in out + "".join(err)
    assert r"\x1b[2Jevil\n.png" in out
    assert len(err) == 2


def test_json_has_the_keys_of_the_device():
    assert json.loads(json_line(result(), 2, "m")) == {
        "file": "x.png",
        "model": "m",
        "class_id": 1,
        "class_name": "dog",
        "score": pytest.approx(0.7),
        "top": [
            {"class_name": "dog", "score": pytest.approx(0.7)},
            {"class_name": "cat", "score": 0.25},
        ],
    }


def test_a_terminal_shows_the_progress_and_its_end(here, monkeypatch):
    for i in range(3 * BATCH_IMAGES):
        touch(here, f"many/{i}.png")
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    predict.predict(["many"], Fake(pause=lambda _: 0.6))
    assert "/96 [" in screen.getvalue()
    assert "images/s" in screen.getvalue()


# Filing by class.


@pytest.mark.parametrize("copy", [False, True])
def test_images_are_filed_by_class(tmp_path, copy):
    touch(tmp_path, "in/0.png")
    touch(tmp_path, "in/1.png", content=b"\x01")
    sorter = Sorter(tmp_path / "out" / "deep", copy)
    answers = [Fake().answer(path.read_bytes()) for path in (tmp_path / "in").iterdir()]
    for path, answer in zip((tmp_path / "in").iterdir(), answers, strict=True):
        sorter.add(path, answer)
    for place, content in (("a/0.png", b"\x00"), ("b/1.png", b"\x01")):
        filed = tmp_path / "out" / "deep" / place
        assert filed.read_bytes() == content
        assert filed.is_symlink() == (not copy)
        assert filed.stat().st_mtime == (tmp_path / "in" / filed.name).stat().st_mtime


@pytest.mark.parametrize("copy", [False, True])
def test_names_that_collide_are_kept_apart_and_again_is_nothing_new(tmp_path, copy):
    folders = ["one", "two", "three"]
    for i, folder in enumerate(folders):
        touch(tmp_path, f"{folder}/x.png", content=b"\x00" + bytes([i]))
    touch(tmp_path, "out/a/x.png", content=b"mine")

    def file_all():
        sorter = Sorter(tmp_path / "out", copy)
        paths = [tmp_path / folder / "x.png" for folder in folders]
        return [sorter.add(path, Fake().answer(path.read_bytes())) for path in paths]

    def state():
        return {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}

    first, after_first = file_all(), state()
    assert len(after_first) == 4
    assert after_first[tmp_path / "out" / "a" / "x.png"] == b"mine"
    assert [after_first[path][1] for path in first] == [0, 1, 2]
    assert all(path.name.startswith("x-") and path.suffix == ".png" for path in first)
    assert file_all() == first
    assert state() == after_first


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    touch(tmp_path, "x.png", content=b"\x00" * 100)

    def fill_the_disk(source, target):
        target.write(source.read(10))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", fill_the_disk)
    with pytest.raises(UserError, match="No space left on device"):
        Sorter(tmp_path / "out", copy=True).add(tmp_path / "x.png", Fake().answer(b"\x00"))
    assert list((tmp_path / "out" / "a").iterdir()) == []


def test_class_names_cannot_leave_the_folder():
    evil = [
        "../x",
        "a/b",
        "..",
        ".",
        "",
        "/etc",
        "a\\b",
        "x\0y",
        "\n",
        "C:",
        ".ssh",
        "ok",
        "\ud800",
    ]
    names = folder_names([*evil, "n" * 300])
    for name in names:
        assert name == os.path.basename(name)
        assert name not in ("", ".", "..")
        assert not name.startswith(".")
        assert name.isprintable()
        assert len(name.encode()) <= 255
    assert len({name.casefold() for name in names}) == len(names)
    assert "ok" in names


def test_class_names_stay_apart():
    assert folder_names(["a_b", "a/b", "A_B", "a_b-1", "犬"]) == [
        "a_b",
        "a_b-1",
        "A_B-2",
        "a_b-1-3",
        "犬",
    ]


def test_a_folder_that_cannot_be_made(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(UserError, match=r"--sort-into .*file/x: can't be made"):
        Sorter(tmp_path / "file" / "x")


# The command.


@pytest.mark.parametrize("way", ["model", "version", "tflite", "rest", "grpc"])
def test_each_way_gives_the_same_answers(way, models, tflite, server, pictures, command):
    with grpc_server({"bright": models / "3"}) as (address, _):
        options = {
            "model": ["--model", models],
            "version": ["--model", models / "3"],
            "tflite": ["--tflite", tflite],
            "rest": ["--server", server.url],
            "grpc": ["--server", address, "--grpc", "--name", "bright"],
        }[way]
        code, out, err = command("pictures", "--json", *options)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["file"] for line in lines] == [
        "pictures/0.png",
        "pictures/1.png",
        "pictures/2.png",
        "pictures/sub/broken.png",
    ]
    for line, (name, level) in zip(lines, CLASSES_AND_LEVELS.items(), strict=False):
        assert line["class_name"] == name
        got = {entry["class_name"]: entry["score"] for entry in line["top"]}
        want = dict(zip(CLASSES, expected(level / 255), strict=True))
        assert got == pytest.approx(want, abs=1e-5)
    title = {"model": "12 (SavedModel)", "version": "3 (SavedModel)", "tflite": "(TFLite)"}
    assert title.get(way, "bright, version 3") in lines[0]["model"]
    assert set(lines[3]) == {"file", "model", "error"}
    assert code == 1
    assert len(err) == 2
    assert err[0].startswith("error: pictures/sub/broken.png: ")
    assert err[1] == "1 of 4 images failed"


def test_the_exit_code_is_0_when_all_went_well(pictures, server, command):
    code, out, err = command("pictures/0.png", "--server", server.url, "--top", 1)
    assert (code, err) == (0, [])
    assert out.splitlines() == [
        f"model: bright, version 3 ({server.url})",
        "",
        "file            class      score",
        "pictures/0.png  dark       0.985  ███████████████████████▋",
    ]


def test_images_are_filed_by_the_command(pictures, server, command):
    options = ["--server", server.url, "--sort-into", "pictures/sorted", "--copy"]
    for _ in range(2):  # also when its results lie among its sources
        code, _, err = command("pictures", *options)
        assert code == 1
        assert err[1] == "3 images filed into pictures/sorted"
        files = sorted(str(p.relative_to(pictures)) for p in pictures.rglob("sorted/**/*.png"))
        assert files == ["sorted/_bright/2.png", "sorted/dark/0.png", "sorted/gray/1.png"]


def test_bad_input_is_one_clear_line(pictures, models, server, rejected, monkeypatch):
    (pictures.parent / "empty").mkdir()
    touch(pictures.parent, "broken.tflite", content=b"x" * 100)
    good = ["--server", server.url]
    one_of = "give one of --model DIR, --tflite FILE and --server URL"
    for arguments, message in (
        (["pictures"], one_of),
        (["pictures", *good, "--model", models], one_of),
        (["nowhere.png", *good], "nowhere.png: no such file or folder"),
        (["empty", *good], "empty: no image there"),
        (["pictures", *good, "--top", 0], "--top: got 0; allowed: a whole number of at least 1"),
        (["pictures", *good, "--copy"], "only with --sort-into"),
        (["pictures", "--model", models, "--grpc"], "only with --server"),
        (["pictures", *good, "--sort-into", "."], "lies in ., where the results go"),
        (["pictures", "--model", "empty"], "is no SavedModel (with saved_model.pb)"),
        (["pictures", "--model", "nowhere"], "--model nowhere: no such folder"),
        (["pictures", "--tflite", "broken.tflite"], "broken.tflite: is no TFLite model"),
        (["pictures", "--server", "127.0.0.1:1"], "can't be reached (Connection refused)"),
    ):
        assert message in rejected(*arguments), arguments


def test_savedmodels_of_others_are_refused(tmp_path, pictures, rejected):
    save_brightness_model(tmp_path / "bytes", ["serving_default"])
    assert "give --foreign" in rejected("pictures", "--model", tmp_path / "bytes")
    line = rejected("pictures", "--model", tmp_path / "bytes", "--foreign")
    assert "no signature 'image' that gives 'probabilities' (it has: serving_default)" in line
    (tmp_path / "bytes" / "saved_model.pb").write_bytes(b"garbage")
    assert "can't be loaded" in rejected("pictures", "--model", tmp_path / "bytes")


def test_a_server_that_goes_away_ends_the_work_after_what_is_done(here, server, command):
    names = [f"{i:03}.png" for i in range(10 * BATCH_IMAGES)]
    touch(here, *names, content=png(9))
    reply = server.reply

    def reply_or_go(method, path, body):
        # The metadata and four batches, all of which are asked for at once.
        return reply(method, path, body) if len(server.bodies) < 4 else (404, {"error": "gone"})

    server.reply = reply_or_go
    code, out, err = command(*names, "--server", server.url, "--json")
    assert code == 2
    assert [json.loads(line)["file"] for line in out.splitlines()] == names[: len(out.splitlines())]
    assert err == [f"error: {server.url}/v1/models/bright:predict: HTTP 404 (gone)"]


# As a process, where signals and pipes are real.


def start(*arguments, stderr=subprocess.PIPE):
    return subprocess.Popen(
        [sys.executable, "-m", "keras_srt", "predict", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=clean_environment(),
        preexec_fn=heed_ctrl_c,
    )


def test_a_reader_that_leaves_is_no_error(here, server):
    touch(here, *(f"many/{i:04}.png" for i in range(1500)), content=b"GIF89a")
    # stderr elsewhere: it would fill its own pipe.
    with (here / "errors").open("w") as errors:
        process = start("many", "--json", "--server", server.url, stderr=errors)
        assert json.loads(process.stdout.readline())["file"] == "many/0000.png"
        process.stdout.close()
        assert process.wait(30) == 141
    text = (here / "errors").read_text()
    assert "Traceback" not in text
    assert "Broken pipe" not in text
    assert all(line.startswith("error: many/") for line in text.splitlines())


def test_ctrl_c_ends_at_once_also_while_the_server_hangs(pictures, server):
    server.hang = True
    process = start("pictures", "--server", server.url)
    deadline = time.monotonic() + 60
    while not server.bodies and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    # The server holds its answer for a minute.
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err.strip()) == (130, "interrupted")
