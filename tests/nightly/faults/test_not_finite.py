"""NaN in a loss, a gradient or an image never reaches a checkpoint, whenever it comes."""

import numpy as np
import pytest
import tensorflow as tf

from faults.conftest import Trained, assert_same_training, train
from keras_srt.training.checkpoint_files import manifests

GROUP = "loss, gradient or image not finite"


def assert_finite(run):
    for manifest in manifests(run / "checkpoints"):
        reader = tf.train.load_checkpoint(str(manifest.with_suffix("")))
        for name, kind in reader.get_variable_to_dtype_map().items():
            if kind.is_floating:
                assert np.isfinite(reader.get_tensor(name)).all(), name
    if manifests(run / "checkpoints"):
        for name, value in Trained(run).best().items():
            assert np.isfinite(value).all(), name


@pytest.mark.parametrize("step", [1, 5, 6], ids=["first", "amid an interval", "its last"])
@pytest.mark.parametrize("what", ["loss", "gradient", "image"])
def test_it_stops_and_goes_on_from_the_last_good_state(what, step, forks, configs, whole, tmp_path):
    run = tmp_path / "run"
    ended = forks(*train(configs["all"], run), poison=[what, step])
    ended.assert_refused("training.learning_rate", "the last good checkpoint is kept")
    assert [path.name for path in manifests(run / "checkpoints")] == ["state-3.json"] * (step > 3)
    assert_finite(run)
    forks(*train(configs["all"], run, "--resume")).assert_done()
    assert_same_training(run, whole["all"])
