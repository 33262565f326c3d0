"""`keras-srt predict`."""

import json

import pytest
import tensorflow as tf
from brightness_model import CLASSES, expected, png, save_brightness_model
from predict_helpers import touch
from rest_server import rest_server
from unsafe_models import save_program

from keras_srt.cli import main as cli
from keras_srt.predict.classification import BATCH_IMAGES

CLASSES_AND_LEVELS = {"dark": 10, "gray": 120, "../bright": 250}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


@pytest.mark.parametrize("way", ["model", "tflite", "rest"])
def test_each_backend_gives_the_same_predictions(way, models, tflite, server, pictures, command):
    options = {
        "model": ["--model", models],
        "tflite": ["--tflite", tflite],
        "rest": ["--server", server.url],
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
    title = {"model": "12 (SavedModel)", "tflite": "(TFLite)"}
    assert title.get(way, "bright, version 3") in lines[0]["model"]
    assert set(lines[3]) == {"file", "model", "error"}
    assert code == 1
    assert len(err) == 2
    assert err[0].startswith("error: pictures/sub/broken.png: ")
    assert err[1] == "1 of 4 images failed"


def test_exit_code_is_0_without_errors(pictures, server, command):
    code, out, err = command("pictures/0.png", "--server", server.url, "--top", 1)
    assert (code, err) == (0, [])
    assert out.splitlines() == [
        f"model: bright, version 3 ({server.url})",
        "",
        "file            class      score",
        "pictures/0.png  dark       0.985  ███████████████████████▋",
    ]


def test_images_are_sorted_by_the_command(pictures, server, command):
    options = ["--server", server.url, "--sort-into", "pictures/sorted", "--copy"]
    for _ in range(2):  # also when its results lie among its sources
        code, _, err = command("pictures", *options)
        assert code == 1
        assert err[1] == "3 images sorted into pictures/sorted"
        files = sorted(str(p.relative_to(pictures)) for p in pictures.rglob("sorted/**/*.png"))
        assert files == ["sorted/_bright/2.png", "sorted/dark/0.png", "sorted/gray/1.png"]


def test_invalid_arguments_are_one_line_errors(pictures, models, server, rejected, monkeypatch):
    (pictures.parent / "empty").mkdir()
    touch(pictures.parent, "broken.tflite", content=b"x" * 100)
    good = ["--server", server.url]
    one_of = "give one of --model DIR, --tflite FILE and --server URL"
    for arguments, message in (
        (["pictures"], one_of),
        (["pictures", *good, "--model", models], one_of),
        (["nowhere.png", *good], "nowhere.png: no such file or folder"),
        (["empty", *good], "empty: contains no image"),
        (["pictures", *good, "--top", 0], "--top: got 0; allowed: a whole number of at least 1"),
        (["pictures", *good, "--copy"], "only with --sort-into"),
        (["pictures", "--model", models, "--grpc"], "only with --server"),
        (["pictures", *good, "--sort-into", "."], "is inside ., the folder of results"),
        (["pictures", "--model", "empty"], "not a SavedModel (with saved_model.pb)"),
        (["pictures", "--model", "nowhere"], "--model nowhere: no such file or folder"),
        (["pictures", "--tflite", "broken.tflite"], "broken.tflite: is not a TFLite model"),
        (["pictures", "--server", "127.0.0.1:1"], "can't be reached (Connection refused)"),
    ):
        assert message in rejected(*arguments), arguments


def test_foreign_savedmodels_are_refused(tmp_path, pictures, rejected):
    save_program(tmp_path / "program", lambda image: [tf.print("x")])
    assert "give --foreign" in rejected("pictures", "--model", tmp_path / "program")
    save_brightness_model(tmp_path / "bytes", ["serving_default"])
    line = rejected("pictures", "--model", tmp_path / "bytes")
    assert "'serving_default' takes encoded images" in line
    (tmp_path / "bytes" / "saved_model.pb").write_bytes(b"garbage")
    assert "can't be loaded" in rejected("pictures", "--model", tmp_path / "bytes")


def test_unreachable_server_ends_the_command_after_the_received_results(here, server, command):
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
