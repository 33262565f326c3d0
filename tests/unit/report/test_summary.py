"""Sentences that describe a run."""

from report_samples import REPORT, TRAINING, VICTIM, changed

from keras_srt.report.summary import summary


def test_training_is_described_if_the_report_has_it():
    text = " ".join(summary(REPORT))
    assert "Objective srt (robust_weight 1), model small_cnn, 2,000 steps" in text
    early = summary(changed(planned_steps=5000))
    assert "2,000 of 5,000 planned steps" in " ".join(early)
    assert "54,700 unlabeled" in text
    without = {k: v for k, v in REPORT.items() if k not in TRAINING}
    without["dataset"] = {"title": "MNIST", "num_train": 60000, "num_test": 10000}
    assert summary(without) == ["MNIST: 10,000 test, from a training split of 60,000"]


def test_an_external_model_is_described():
    lines = summary(changed(victim=VICTIM))
    assert "possible attacks are gridadv, square" in lines[-2]
    assert lines[-1] == "it is slow"
    own = {**VICTIM, "answers": "logits", "gradients": True, "attacks": "all", "warnings": []}
    assert "all attacks are possible" in summary(changed(victim=own))[-1]
