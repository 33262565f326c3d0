"""A search in several processes."""

import json
import os
import socket
import subprocess
import sys

from helpers import ROOT, clean_environment, tiny, write_config

from keras_srt.config import loader as configs
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.tuning.study import tune

SPACE = {
    "model.width": [2, 3],
    "training.learning_rate": {"min": 0.01, "max": 0.1, "sampling": "log"},
}


def settings(**changes):
    section = {"space": SPACE, "trials": 3, **changes}
    return tiny(training__steps=2, training__interval=2) | {"tune": section}


def config_of(**changes):
    return configs.parse(settings(**changes), COMPONENTS)


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def test_a_chief_and_a_worker_find_what_one_process_does(tmp_path):
    path, folder, port = write_config(tmp_path, settings()), tmp_path / "search", free_port()
    command = [sys.executable, "-m", "keras_srt", "tune", "--config", path, "--run-dir", folder]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(
                KERASTUNER_TUNER_ID=name,
                KERASTUNER_ORACLE_IP="127.0.0.1",
                KERASTUNER_ORACLE_PORT=str(port),
            ) | {"PYTHONPATH": os.fspath(ROOT)},
        )
        for name in ("chief", "tuner0")
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "the search is finished" in outputs[1]
    outcomes = tune(config_of(), tmp_path / "alone", None)
    found = json.loads((folder / "trials.json").read_text())
    assert [each["values"] for each in found] == [outcome.values for outcome in outcomes]
