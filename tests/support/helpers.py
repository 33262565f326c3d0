"""What several test files need and what isn't a fixture: a tiny run, and a clean process."""

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A whole run in about a second: 16×16 images, a network of some hundred weights, 6 steps.
TINY = {
    "name": "tiny",
    "data": {"dataset": {"name": "digits", "size": 16}, "labeled": 40, "validation": 30},
    "model": {"name": "small_cnn", "width": 2, "hidden": 8, "dropout": 0.0},
    "neighborhood": {"name": "linf", "epsilon": 0.1, "num_steps": 2},
    "objective": {"name": "srt", "robust_weight": 1.0},
    "training": {
        "steps": 6,
        "interval": 3,
        "batch_size": 16,
        "labeled_per_batch": 8,
        "learning_rate": 0.05,
    },
    "evaluation": {
        "attacks": [
            {"name": "fgsm", "epsilon": 0.1},
            {"name": "pgd", "epsilon": 0.1, "num_steps": 3},
        ],
        "limit": 20,
        "deployment": 0,
        "masking": 0,
        "curves": 0,
    },
}


def tiny(**changes):
    """The tiny settings, with `section__key=value` replaced and `…=None` left as null."""
    settings = copy.deepcopy(TINY)
    for path, value in changes.items():
        *sections, key = path.split("__")
        place = settings
        for section in sections:
            place = place[section]
        place[key] = value
    return settings


def write_config(folder, settings=None, name="tiny.json"):
    """Writes settings (by default the tiny ones, exporting into `folder`) as a config file."""
    settings = settings if settings is not None else tiny()
    settings.setdefault("export", str(folder / "exported"))
    path = folder / name
    path.write_text(json.dumps(settings))
    return path


def clean_environment(**extra):
    """The environment as a user has it: nothing that keeps TensorFlow quiet, our package found."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "KERAS_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


def settled(classifier, samples):
    """A fresh classifier, as if trained: with BatchNorm statistics, each class answering some."""
    classifier(samples, training=True)
    classifier.layers[-1].bias.assign(-classifier(samples, training=False).numpy().mean(axis=0))
    return classifier


def resident(pid="self"):
    """MiB in memory of a running process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def heed_ctrl_c():
    """For `preexec_fn`: a shell's background jobs ignore SIGINT, and pass that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def python(*arguments, timeout=240, cwd=ROOT, **environment):
    """Runs `python …` as a user does and returns the finished process, its output as text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env=clean_environment(**environment),
        check=False,
    )
