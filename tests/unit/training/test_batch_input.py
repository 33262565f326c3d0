"""Batches that an objective can't be trained on are refused; pseudo-labels are converted."""

import numpy as np
import pytest

from keras_srt.core.errors import InvalidSettings
from keras_srt.objectives import RST, SRT, UAT, Standard
from keras_srt.training.batch_input import check_batch, make_batch

UNLABELED = np.zeros((2, 8, 8, 2), np.float32)
LABELED = np.zeros((3, 8, 8, 2), np.float32), np.int32([0, 1, 2])
SOFT = SRT(pseudo_labels="teacher")
WITHOUT_TEACHER = {"labeled": LABELED, "unlabeled": UNLABELED}


@pytest.mark.parametrize(
    ("objective", "batch", "message"),
    [
        (SRT(), LABELED, r"^batch: got no unlabeled.*\('rt' is the same without unlabeled images"),
        (
            RST(),
            WITHOUT_TEACHER,
            "^batch: got no pseudo_labels.*'rst'",
        ),
        (
            UAT(),
            WITHOUT_TEACHER,
            "^batch: got no pseudo_labels.*'uat'",
        ),
        (Standard(), {"images": LABELED}, r"^batch: got the keys \['images'\]"),
        (Standard(), LABELED[:1], "^batch: got another structure"),
        (Standard(), (LABELED[0], np.eye(3)), r"^labels: got shape \(3, 3\); allowed: class ids"),
    ],
)
def test_a_batch_without_the_parts_that_are_needed_is_refused(objective, batch, message):
    with pytest.raises(InvalidSettings, match=message):
        check_batch(batch, objective)


@pytest.mark.parametrize(
    ("objective", "given", "converted"),
    [
        (RST(), np.int64([2, 0]), [2, 0]),
        (RST(), np.float32([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]]), [2, 0]),
        (SOFT, np.float32([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]]), [[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]]),
        (SOFT, np.int32([2, 0]), [[0, 0, 1], [1, 0, 0]]),
    ],
)
def test_pseudo_labels_are_converted_for_the_objective(objective, given, converted):
    batch = make_batch({**WITHOUT_TEACHER, "pseudo_labels": given}, objective, 3)
    np.testing.assert_allclose(batch.pseudo_labels, converted)
    assert batch.labels.dtype == "int32"
    assert batch.rows is None  # one replica
