"""A run with a teacher that is interrupted in each of its stages."""

import pytest
from teacher_runs import assert_same_run, configured
from tiny_runs import train_in

from keras_srt.core.errors import Interrupted
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.training import callbacks

pytestmark = pytest.mark.usefixtures("untimed")


class InterruptAt(callbacks.StopAtNaN):
    """Ctrl-C after a step of the teacher (which searches no neighborhood) or of the student."""

    stage, step = "teacher", 0

    def on_train_batch_end(self, batch, logs=None):
        stage = "teacher" if self.model.neighborhood is None else "student"
        if (stage, int(self.model.optimizer.iterations.numpy())) == (self.stage, self.step):
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    """Ctrl-C inside the teacher, at its end before it is validated, and inside the student."""
    config, cut = configured(), RunFolder(tmp_path / "cut")
    finished = train_in(tmp_path / "whole", config)
    capsys.readouterr()
    said = "left:"  # nothing to resume yet
    for number, (where, step) in enumerate((("teacher", 2), ("teacher", 4), ("student", 2))):
        with monkeypatch.context() as patch:
            patch.setattr(callbacks, "StopAtNaN", InterruptAt)
            patch.setattr(InterruptAt, "stage", where)
            patch.setattr(InterruptAt, "step", step)
            with pytest.raises(Interrupted, match=rf"step {step} is saved$"):
                train_in(cut.path, config, resume=number > 0)
        assert cut.pseudo_labels.is_file() == (where == "student")
        assert cut.read_history() == []
        assert number == 0 or said in capsys.readouterr().out
        said = f"resuming at step {step}"
    train_in(cut.path, config, resume=True)
    printed = capsys.readouterr().out
    assert said in printed
    assert "its labels are in" in printed
    assert_same_run(cut, finished)
