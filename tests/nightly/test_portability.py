"""Commands without what Windows lacks: fcntl, posix_fallocate, and signals of POSIX.

Windows is simulated on Linux: `msvcrt.locking` is a stand-in, and paths stay those of Linux.
"""

import fcntl
import json

import pytest
from helpers import python, tiny, write_config
from PIL import Image

# Hides what Windows lacks, then runs a command line.
WITHOUT_POSIX = """
import fcntl, os, signal, sys, types
# Python's own modules take those of Linux.
import asyncio, concurrent.futures.process, multiprocessing.resource_tracker, tempfile

def locking(descriptor, mode, length):
    assert os.lseek(descriptor, 0, os.SEEK_CUR) >= 2**30  # the content stays readable
    try:
        real.flock(descriptor, real.LOCK_EX | real.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None

real, sys.modules["fcntl"] = fcntl, None
if "msvcrt" in sys.argv.pop(1):
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
for module, names in (
    (os, "posix_fallocate fork forkpty geteuid getuid sched_getaffinity"),
    (signal, "SIGHUP SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGCHLD"),
):
    for name in names.split():
        delattr(module, name)
sys.modules["resource"] = sys.modules["termios"] = sys.modules["pwd"] = None
from keras_srt.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run(*command, locks="msvcrt"):
    return python("-c", WITHOUT_POSIX, locks, *command)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the smoke run of the README's first command, and its process."""
    folder = tmp_path_factory.mktemp("trained")
    command = ["train", "--config", "digits_pixel.json", "--variant", "smoke"]
    command += ["--run-dir", folder / "run", "--set", f"export={folder / 'exported'}"]
    return folder, run(*command)


def test_the_smoke_run_trains_evaluates_and_exports(trained):
    folder, process = trained
    assert process.returncode == 0, process.stderr
    assert "can't be locked" not in process.stdout + process.stderr
    assert json.loads((folder / "run" / "report.json").read_text())["worst_case"]["attacks"]
    assert list((folder / "exported").glob("*/1/saved_model.pb"))


def test_a_run_is_evaluated_again(trained):
    folder, _ = trained
    process = run("evaluate", "--run", folder / "run", "--limit", 4, "--attacks", "fgsm@0.1")
    assert process.returncode == 0, process.stderr


def test_an_exported_model_classifies_files(trained):
    folder, _ = trained
    (model,) = (path for path in (folder / "exported").iterdir() if path.is_dir())
    image = folder / "gray.png"
    Image.new("L", (28, 28), 128).save(image)
    process = run("predict", "--model", model, image)
    assert process.returncode == 0, process.stderr


def test_a_locked_folder_is_refused_with_its_holder(tmp_path):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 7 on here")
        file.flush()
        process = run("train", "--config", write_config(tmp_path), "--run-dir", tmp_path / "run")
    assert process.returncode == 2
    assert "process 7 on here is training in this folder" in process.stderr


def test_without_any_locks_a_run_warns_and_trains(tmp_path):
    config = write_config(tmp_path, tiny(evaluation__limit=2))
    process = run("train", "--config", config, "--run-dir", tmp_path / "run", locks="none")
    assert process.returncode == 0, process.stderr
    assert "can't be locked" in process.stdout
