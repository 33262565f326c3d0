"""The saved split of a run, which tells whether the dataset has changed."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_srt.core.errors import UserError
from keras_srt.data import DatasetInfo, make_split
from keras_srt.pipeline.data import load_training_data, saved_split
from keras_srt.pipeline.evaluate import evaluate
from keras_srt.pipeline.publish import export_run
from keras_srt.pipeline.reevaluate import evaluate_run
from keras_srt.pipeline.run_folder import RunFolder

INFO = DatasetInfo("own", (8, 8, 1), ("apple", "bear"), 20, 4, fingerprint="a1")


@pytest.fixture
def context(tmp_path, monkeypatch):
    """A run whose split was saved for `INFO`."""
    labels = np.int32(np.arange(20) % 2)
    monkeypatch.setattr(
        "keras_srt.pipeline.data.draw_split", lambda *_: make_split(labels, 2, 8, 4)
    )
    data = SimpleNamespace(shuffle_buffer=None)
    context = SimpleNamespace(
        info=INFO,
        folder=RunFolder(tmp_path),
        config=SimpleNamespace(data=data),
        source=SimpleNamespace(train=(np.zeros((20, 8, 8, 1), np.uint8), labels)),
    )
    load_training_data(context)
    return context


def test_an_unchanged_dataset_has_its_split(context):
    split = saved_split(context)
    assert (split.fingerprint, split.class_names) == ("a1", ("apple", "bear"))
    assert len(split.labeled) == 8


@pytest.mark.parametrize("use", [load_training_data, evaluate, evaluate_run, export_run])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ("bear", "zapple"), "fingerprint": "b2"}, "new: zapple; missing: apple"),
        ({"class_names": ("bear", "apple")}, "class names"),
        ({"fingerprint": "b2"}, "the images are not those"),
    ],
    ids=["renamed", "reordered", "changed"],
)
def test_a_changed_dataset_is_refused_before_anything_is_evaluated(context, use, changes, words):
    context.info = INFO._replace(**changes)
    # Nothing but the split may be read: the context has no model and no test images.
    with pytest.raises(UserError, match=words):
        use(context)
