"""`keras-srt predict` with gRPC, and as a process with signals and pipes."""

import json
import signal
import subprocess
import sys
import time

import pytest
from brightness_model import CLASSES, expected, png, save_brightness_model
from grpc_server import grpc_server
from helpers import clean_environment, heed_ctrl_c
from predict_helpers import touch
from rest_server import rest_server

from keras_srt.cli import main as cli

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


@pytest.mark.parametrize("way", ["version", "grpc"])
def test_each_backend_gives_the_same_predictions(way, models, pictures, command):
    with grpc_server({"bright": models / "3"}) as (address, _):
        options = {
            "version": ["--model", models / "3"],
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
    title = {"version": "3 (SavedModel)"}
    assert title.get(way, "bright, version 3") in lines[0]["model"]
    assert set(lines[3]) == {"file", "model", "error"}
    assert code == 1
    assert len(err) == 2
    assert err[0].startswith("error: pictures/sub/broken.png: ")
    assert err[1] == "1 of 4 images failed"


def start(*arguments, stderr=subprocess.PIPE):
    return subprocess.Popen(
        [sys.executable, "-m", "keras_srt", "predict", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=clean_environment(),
        preexec_fn=heed_ctrl_c,
    )


def test_closed_pipe_is_no_error(here, server):
    touch(here, *(f"many/{i:04}.png" for i in range(1500)), content=b"GIF89a")
    # To a file, because a pipe would fill up.
    with (here / "errors").open("w") as errors:
        process = start("many", "--json", "--server", server.url, stderr=errors)
        assert json.loads(process.stdout.readline())["file"] == "many/0000.png"
        process.stdout.close()
        assert process.wait(30) == 141
    text = (here / "errors").read_text()
    assert "Traceback" not in text
    assert "Broken pipe" not in text
    assert all(line.startswith("error: many/") for line in text.splitlines())


def test_ctrl_c_ends_at_once_while_the_server_hangs(pictures, server):
    server.hang = True
    process = start("pictures", "--server", server.url)
    deadline = time.monotonic() + 60
    while not server.bodies and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    # The server holds its answer for a minute.
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err.strip()) == (130, "interrupted")
