"""AutoAttack in an evaluation: accuracy after each member, the flag of Square, interruption."""

import numpy as np
import pytest
from linear_models import linear, predict_classes, without_gradient

from keras_srt.attacks import APGDT, FGSM, AutoAttack
from keras_srt.evaluation.finished_parts import FinishedParts
from keras_srt.evaluation.runner import evaluate_robustness

generator = np.random.default_rng(15)
WEIGHTS = generator.normal(size=(6, 6, 1, 5))
IMAGES = np.float32(generator.uniform(0.3, 0.7, (24, 6, 6, 1)))
LABELS = np.asarray(predict_classes(linear(WEIGHTS), IMAGES))
ATTACK = AutoAttack(0.02, num_steps=8, queries=40)
NAMES = ["apgd_ce", "apgd_t", "fab_t", "square"]


def evaluate(classifier=None, attack=ATTACK, labels=LABELS, **settings):
    return evaluate_robustness(
        classifier or linear(WEIGHTS), IMAGES, labels, [attack], batch_size=10, **settings
    )


def test_the_accuracy_after_each_member_falls_to_that_of_the_whole():
    wrong = np.where(np.arange(24) < 3, (LABELS + 1) % 5, LABELS)
    for labels, most in ((LABELS, 24), (wrong, 21)):
        result = evaluate(labels=labels)
        (entry,) = result.report()["attacks"]
        assert [member["name"] for member in entry["members"]] == NAMES
        left = [round(24 * member["accuracy"]) for member in entry["members"]]
        assert left == sorted(left, reverse=True)
        assert left[0] < most
        assert left[-1] == round(24 * entry["accuracy"]) == result.surviving("autoattack").sum()


def test_other_attacks_have_no_members():
    (entry,) = evaluate(attack=FGSM(0.02)).report()["attacks"]
    assert "members" not in entry


def test_square_beyond_the_attacks_with_gradients_is_a_warning():
    attack = AutoAttack(0.1, num_steps=2, num_targets=1, queries=300)
    text = "square, which uses no gradients"
    assert not any(text in warning for warning in evaluate(attack=attack).warnings)
    masked = evaluate(without_gradient(linear(WEIGHTS)), attack).warnings
    assert any(text in warning for warning in masked)


@pytest.mark.usefixtures("eager")
def test_an_interrupted_autoattack_repeats_no_finished_member(tmp_path, monkeypatch):
    whole = evaluate(parts=FinishedParts(tmp_path / "whole"))
    search, calls = APGDT.search, []

    def interrupted(self, model, images, criterion, seed):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return search(self, model, images, criterion, seed)

    with monkeypatch.context() as patch:
        patch.setattr(APGDT, "search", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(parts=FinishedParts(tmp_path / "parts"))
    # The second batch has apgd_ce only.
    done = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "parts").iterdir())
    assert done == sorted(["autoattack"] + [f"autoattack-{n}" for n in [*NAMES, "apgd_ce"]])

    with monkeypatch.context() as patch:
        first = type(ATTACK.members[0])
        ran = []
        patch.setattr(first, "search", counted(first.search, ran))
        again = evaluate(parts=FinishedParts(tmp_path / "parts"))
    assert ran == [4]  # the third batch
    before, after = whole.outcomes["autoattack"], again.outcomes["autoattack"]
    np.testing.assert_array_equal(after.images, before.images)
    np.testing.assert_array_equal(after.members, before.members)
    assert (after.gradients, after.vanished) == (before.gradients, before.vanished)


def counted(search, sizes):
    def run(self, model, images, criterion, seed):
        sizes.append(len(images))
        return search(self, model, images, criterion, seed)

    return run
