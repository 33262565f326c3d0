"""Tiny runs with a teacher."""

import numpy as np
import tensorflow as tf
from helpers import tiny

from keras_srt.config import loader as configs
from keras_srt.pipeline.configs import COMPONENTS


def configured(objective="rst", **changes):
    """The tiny run with a teacher of 4 steps and few unlabeled images."""
    settings = {"name": objective} if isinstance(objective, str) else objective
    changes = {"data__unlabeled": 50, "training__labeled_per_batch": None, **changes}
    return configs.parse(tiny(objective={"teacher_steps": 4, **settings}, **changes), COMPONENTS)


def weights_of(run):
    """The last state of a run's classifier and optimizer."""
    reader = tf.train.load_checkpoint(str(run.checkpoints / run.last_state))
    names = sorted(reader.get_variable_to_shape_map())
    return [
        reader.get_tensor(name)
        for name in names
        if "OBJECT_GRAPH" not in name and "save_" not in name
    ]


def assert_same_run(one, other):
    np.testing.assert_array_equal(np.load(one.pseudo_labels), np.load(other.pseudo_labels))
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(a, b)
    for column in ("step", "val_accuracy", "val_robust_accuracy"):
        assert [row[column] for row in one.read_history()] == [
            row[column] for row in other.read_history()
        ]
