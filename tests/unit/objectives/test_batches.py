"""Batches that an objective can't be trained on are refused."""

import numpy as np
import pytest

from keras_srt.core.errors import InvalidSettings
from keras_srt.neighborhoods import LInf
from keras_srt.objectives import RST, SRT, UAT, Standard
from keras_srt.training.model import RobustModel

UNLABELED = np.zeros((2, 8, 8, 2), np.float32)
LABELED = np.zeros((3, 8, 8, 2), np.float32), np.int32([0, 1, 2])
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
    ],
)
def test_a_batch_without_the_parts_that_are_needed_is_refused(
    objective, batch, message, make_classifier
):
    model = RobustModel(make_classifier(), LInf(epsilon=0.1), objective)
    with pytest.raises(InvalidSettings, match=message):
        model._as_batch(batch)
