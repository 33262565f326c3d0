"""Data of fewer batches than promised: Keras only warns, and here it is an error."""

import pytest

from faults.conftest import assert_same_training, train
from keras_srt.training.checkpoint_files import manifests

GROUP = "fewer batches than promised"


@pytest.mark.parametrize("batches", [1, 3, 5, 8])
def test_data_that_run_out_end_the_training(batches, forks, configs, whole, tmp_path):
    run = tmp_path / "run"
    ended = forks(*train(configs["all"], run), run_out=[batches])
    ended.assert_refused(f"no batch is left after step {batches}")
    saved = [f"state-{step}.json" for step in (6, 3) if step <= batches]
    assert [path.name for path in manifests(run / "checkpoints")] == saved
    forks(*train(configs["all"], run, "--resume")).assert_done()
    assert_same_training(run, whole["all"])
