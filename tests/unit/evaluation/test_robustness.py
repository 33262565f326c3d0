"""Risks, the worst case and reports of an evaluation."""

import numpy as np
import pytest

from keras_srt.attacks import FGSM, PGD, RandAdv
from keras_srt.evaluation.robustness import AttackOutcome, Robustness
from keras_srt.evaluation.runner import evaluate_robustness


def test_risks_obey_equation_6(some_right, pictures):
    classifier, labels = some_right
    space = RandAdv(num_samples=2, max_rotation=5, max_translation=0.2)
    attacks = [FGSM(epsilon=0.005), PGD(epsilon=0.005, num_steps=3), space]
    outcome = evaluate_robustness(classifier, pictures, labels, attacks)
    standard, robust, adversarial = outcome.risks()
    np.testing.assert_array_equal(adversarial, standard + (1 - standard) * robust)
    assert set(np.unique(standard)) == set(np.unique(robust)) == {0.0, 1.0}
    # All four kinds of image are there, so that the equation is put to the test.
    assert len(np.unique(2 * standard + robust)) == 4
    report = outcome.report()
    assert report["risks"]["standard"] == pytest.approx(1 - report["clean"]["accuracy"])
    assert report["risks"]["adversarial"] == pytest.approx(1 - report["worst_case"]["accuracy"])
    assert report["clean"]["accuracy"] == 20 / 30


def test_the_adversarial_risk_is_at_most_the_sum_of_equation_7(some_right, pictures):
    classifier, labels = some_right
    attack = PGD(epsilon=0.005, num_steps=3)
    standard, robust, adversarial = evaluate_robustness(
        classifier, pictures, labels, [attack]
    ).risks()
    assert np.mean(adversarial) <= np.mean(standard) + np.mean(robust)
    # Less, because an image that is wrong before the attack counts once.
    assert np.any((standard == 1) & (robust == 1))
    assert np.mean(adversarial) < np.mean(standard) + np.mean(robust)


def test_risks_of_a_single_image_keep_their_shape(some_right, pictures):
    classifier, labels = some_right
    outcome = evaluate_robustness(classifier, pictures[:1], labels[:1], [FGSM(epsilon=0.0)])
    assert [risk.shape for risk in outcome.risks()] == [(1,)] * 3
    assert [risk.dtype for risk in outcome.risks()] == [np.float64] * 3


def test_the_worst_case_by_hand():
    labels = np.int32([0, 0, 0, 0, 0])
    clean = np.int32([0, 0, 0, 0, 1])
    after = {"a": np.int32([0, 1, 0, 0, 0]), "b": np.int32([0, 0, 2, 0, 0])}
    verdicts = {
        name: AttackOutcome(FGSM(epsilon=0.1), np.zeros((5, 1, 1, 1)), classes, 0.0)
        for name, classes in after.items()
    }
    outcome = Robustness(labels, clean, verdicts)
    np.testing.assert_array_equal(outcome.surviving("a"), [True, False, True, True, False])
    np.testing.assert_array_equal(outcome.worst_case(), [True, False, False, True, False])
    report = outcome.report()
    assert [attack["accuracy"] for attack in report["attacks"]] == [0.6, 0.6]
    assert report["worst_case"]["accuracy"] == 0.4
    assert report["worst_case"]["attacks"] == ["a", "b"]


def test_without_attacks_the_worst_case_is_the_clean_accuracy(some_right, pictures):
    classifier, labels = some_right
    report = evaluate_robustness(classifier, pictures, labels, []).report()
    assert report["attacks"] == []
    assert report["worst_case"]["accuracy"] == report["clean"]["accuracy"] == 20 / 30
    assert report["risks"]["robust"] == 0.0
