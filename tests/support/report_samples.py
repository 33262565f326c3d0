"""A sample report."""

import copy

import numpy as np

from keras_srt.report import Examples

REPORT = {
    "schema": 1,
    "name": "mnist_srt",
    "reduced": None,
    "dataset": {
        "title": "MNIST",
        "num_train": 60000,
        "labeled": 300,
        "unlabeled": 54700,
        "validation": 5000,
        "num_test": 10000,
    },
    "objective": {"name": "srt", "robust_weight": 1.0},
    "neighborhood": {"type": "single", "order": "linf", "range": "||r||_inf <= 0.3"},
    "model": {"name": "small_cnn", "width": 32},
    "clean": {"accuracy": 0.9712, "ci95": [0.9677, 0.9743], "n": 10000},
    "attacks": [
        {
            "name": "pgd",
            "norm": "linf",
            "epsilon": 0.3,
            "settings": {"num_steps": 40, "restarts": 2, "step_size": 0.01},
            "accuracy": 0.9012,
            "ci95": [0.8952, 0.9069],
            "n": 9000,
            "seconds": 183.7,
        },
        {
            "name": "gridadv",
            "norm": "spatial",
            "epsilon": None,
            "settings": {"grid": [5, 5, 31], "max_translation": 3.0, "max_rotation": 30.0},
            "accuracy": 0.8234,
            "ci95": [0.7985, 0.8458],
            "n": 1000,
            "seconds": 95.5,
        },
    ],
    "worst_case": {
        "accuracy": 0.8011,
        "ci95": [0.7752, 0.8247],
        "n": 1000,
        "attacks": ["pgd", "gridadv"],
    },
    "risks": {"standard": 0.0288, "robust": 0.1832, "adversarial": 0.1989},
    "steps": 2000,
    "train_seconds": 5423.1,
}
NOTE = "variant quick: 200 steps"
CHECKS = [
    {"name": "large_epsilon", "passed": True, "text": "accuracy 0.0% at eps 1"},
    {"name": "square", "passed": False, "text": "Square of 100 queries takes it <to> 3%"},
]
MASKING = {
    "n": 100,
    "chance": 0.1,
    "seconds": 3.6,
    "threats": [
        {
            "norm": "linf",
            "epsilon": 0.3,
            "curve": [
                {"epsilon": epsilon, "accuracy": share, "ci95": [share, share + 0.04], "n": 100}
                for epsilon, share in ((0.0, 0.9), (0.3, 0.6), (8 / 255, 0.3), (1.0, 0.0))
            ],
            "checks": CHECKS,
        },
        {"norm": "l2", "epsilon": 2.0, "curve": [], "checks": CHECKS[:1]},
    ],
}
MASKING["threats"][1]["curve"] = MASKING["threats"][0]["curve"][:2]
VICTIM = {
    "kind": "TFLite file",
    "source": "m.tflite",
    "answers": "probabilities",
    "gradients": False,
    "attacks": ["gridadv", "square"],
    "warnings": ["it is slow"],
}
DISTANCE = {
    "norm": "l2",
    "mean": 1.5,
    "median": 1.23456,
    "found": 90,
    "accuracy_at": [
        {"epsilon": 0.3, "accuracy": 0.9, "ci95": [0.8, 0.95], "n": 100},
        {"epsilon": 1.5, "accuracy": 0.25, "ci95": [0.2, 0.3], "n": 100},
    ],
}
TRAINING = ("objective", "neighborhood", "model", "steps", "train_seconds")


def changed(**values):
    return {**copy.deepcopy(REPORT), **values}


def make_examples(count, channels, size=6):
    draws = np.random.default_rng(0)
    images = draws.random((count, size, size, channels), np.float32)
    moved = np.clip(images + draws.uniform(-0.1, 0.1, images.shape), 0, 1).astype(np.float32)
    labels = np.arange(count) % 3
    return Examples(images, moved, labels, labels, (labels + 1) % 3, ["pgd"] * count)
