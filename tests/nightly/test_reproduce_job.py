"""Jobs of `keras-srt reproduce` that train: interruption, resumption, seeds."""

import shutil

import numpy as np
import pytest
from reproduce_jobs import STANDARD, JobFixtures, cells_of, run_of, small_target

from keras_srt.core.errors import Interrupted
from keras_srt.reproduce import job as reproduce_job
from keras_srt.training import callbacks


class TestTrainingJob(JobFixtures):
    """All tests start from copies of one finished job."""

    def test_a_changed_classifier_is_evaluated_anew(self, job, tmp_path):
        run = run_of(tmp_path, "standard")
        for name in ("best.weights.h5", "best.json"):
            shutil.copy(run_of(tmp_path, "srt").checkpoints / name, run.checkpoints / name)
        printed, results = job()
        assert "train " not in printed
        assert printed.count(" on digits-pixel-10000-standard") == 3
        assert " on digits-pixel-10000-srt" not in printed
        cells = cells_of(results)
        assert cells["standard", "fgsm"]["accuracy"] == cells["srt", "fgsm"]["accuracy"]

    def test_missing_models_are_trained_and_resumed(self, job, tmp_path, monkeypatch):
        before = run_of(tmp_path, "srt").best_weights.stat().st_mtime_ns
        shutil.rmtree(run_of(tmp_path, "standard").path)

        class InterruptAtStep4(callbacks.StopAtNaN):
            def on_train_batch_end(self, batch, logs=None):
                if int(self.model.optimizer.iterations.numpy()) == 4:
                    raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(callbacks, "StopAtNaN", InterruptAtStep4)
            with pytest.raises(Interrupted, match="finished parts are saved"):
                job()
        printed, results = job()
        assert "1 trained, 1 started, 0 missing" in printed
        assert "resuming at step 4" in printed
        assert "[1/4] train digits-pixel-10000-standard" in printed
        assert printed.count("train digits") == 1
        assert cells_of(results)["standard", "fgsm"]["accuracy"] is not None
        assert run_of(tmp_path, "srt").best_weights.stat().st_mtime_ns == before

    def test_an_interrupted_evaluation_loses_one_attack_at_most(self, job, tmp_path, monkeypatch):
        shutil.rmtree(run_of(tmp_path, "standard").path / "evaluations")
        evaluate, calls = reproduce_job.run_attacks, []

        def interrupted(config, classifier, test, attacks):
            calls.append(attacks)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return evaluate(config, classifier, test, attacks)

        with monkeypatch.context() as patch:
            patch.setattr(reproduce_job, "run_attacks", interrupted)
            with pytest.raises(Interrupted, match="finished parts are saved"):
                job()
        printed, _ = job()
        assert printed.count(" on digits-pixel-10000-standard") == 1

    def test_seeds_are_trained_separately_and_averaged(self, job):
        printed, results = job(small_target(objectives=(STANDARD,)), seeds=2)
        assert printed.count("train digits") == 1
        cell = cells_of(results)["standard", "fgsm"]
        assert list(cell["seeds"]) == ["0", "1"]
        assert cell["accuracy"] == pytest.approx(np.mean(list(cell["seeds"].values())))
        assert [model["seed"] for model in results["models"]] == [0, 1]
