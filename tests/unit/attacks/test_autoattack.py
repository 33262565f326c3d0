"""AutoAttack: members, order, and the worst case over all members."""

import numpy as np
import pytest
import tensorflow as tf
from linear_models import (
    SEED,
    constant,
    linear,
    predict_classes,
    run,
    target_model,
    without_gradient,
)

from keras_srt.attacks import APGDCE, ATTACKS, AutoAttack, Criterion, Square
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.registry import settings_of
from keras_srt.evaluation.runner import evaluate_robustness
from keras_srt.neighborhoods.draws import fold

generator = np.random.default_rng(15)
WEIGHTS = generator.normal(size=(6, 6, 1, 5))
IMAGES = np.float32(generator.uniform(0.3, 0.7, (24, 6, 6, 1)))
QUICK = {"num_steps": 8, "queries": 40}


def run_members(attack, classifier, images, labels, targets=None):
    model = target_model(classifier)
    return *attack.run_members(model, images, Criterion(labels, targets), tf.constant(SEED)), model


# Members.


@pytest.mark.parametrize("norm_ball", ["linf", "l2"])
def test_the_standard_version_has_the_reference_settings(norm_ball):
    attack = AutoAttack(epsilon="8/255", norm_ball=norm_ball)
    ce, targeted, fab, square = attack.members
    assert [m.name for m in attack.members] == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert {m.epsilon for m in attack.members} == {8 / 255}
    assert {m.norm for m in attack.members} == {norm_ball}
    assert (ce.num_steps, ce.restarts, ce.rho, ce.eot_iter) == (100, 1, 0.75, 1)
    assert (targeted.num_steps, targeted.num_targets, targeted.restarts) == (100, 9, 1)
    assert (fab.num_steps, fab.num_targets, fab.alpha_max) == (100, 9, 0.1)
    assert (fab.overshoot, fab.backward, fab.stop_early) == (1.05, 0.9, True)
    assert (square.queries, square.p_init, square.rescale_schedule) == (5000, 0.8, False)


def test_the_version_for_randomized_models():
    ce, ratio = AutoAttack(epsilon=0.1, version="rand").members
    assert (ce.name, ratio.name) == ("apgd_ce", "apgd_dlr")
    assert (ce.eot_iter, ratio.eot_iter) == (20, 20)
    assert (ce.num_steps, ratio.num_steps) == (100, 100)
    assert AutoAttack(epsilon=0.1, version="rand", eot_iter=5).members[1].eot_iter == 5


def test_a_smaller_budget_applies_to_the_members_and_the_settings():
    attack = AutoAttack(epsilon=0.1, num_steps=7, num_targets=2, queries=30)
    ce, targeted, fab, square = attack.members
    assert (ce.num_steps, targeted.num_steps, fab.num_steps, square.queries) == (7, 7, 7, 30)
    assert (targeted.num_targets, fab.num_targets) == (2, 2)
    shown = settings_of(attack)
    assert (shown["num_steps"], shown["num_targets"], shown["queries"]) == (7, 2, 30)
    assert ATTACKS.build({"name": "autoattack@8/255", "queries": 30}) == AutoAttack(
        epsilon="8/255", queries=30
    )


@pytest.mark.parametrize(
    "wrong", [{"version": "plus"}, {"norm_ball": "l1"}, {"queries": 0}, {"eot_iter": 0}], ids=str
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidSettings, match=next(iter(wrong))):
        AutoAttack(epsilon=0.1, **wrong)


# Images of each member.


def test_each_member_attacks_the_surviving_images():
    """Some images fall to the first member, others to a later member or to none."""
    labels = predict_classes(linear(WEIGHTS), IMAGES)
    attack = AutoAttack(epsilon=0.02, **QUICK)
    found, first, model = run_members(attack, linear(WEIGHTS), IMAGES, labels)
    alone = APGDCE(epsilon=0.02, num_steps=8).run(
        target_model(linear(WEIGHTS)), IMAGES, Criterion(labels), fold(tf.constant(SEED), 0)
    )
    np.testing.assert_array_equal(first == 0, alone.success)
    np.testing.assert_array_equal(found.images[first == 0], alone.images[alone.success])
    np.testing.assert_array_equal(found.success, first >= 0)
    assert 0 < alone.success.sum() < 24
    # Every member spends its whole budget on images that survive.
    each = 1 + (8 + 1) + (1 + 4 * 9) + (2 + 1 + 4 * 8 * 2) + 40
    surviving = (~found.success).sum()
    assert surviving > 0
    assert surviving * each <= model.queries < 24 * each


def test_an_image_survives_only_if_it_survives_every_member():
    labels = predict_classes(linear(WEIGHTS), IMAGES)
    attack = AutoAttack(epsilon=0.02, **QUICK)
    found, _, _ = run_members(attack, linear(WEIGHTS), IMAGES, labels)
    for number in (0, 2):  # whose draws, if any, don't depend on who is left
        one = attack.members[number].run(
            target_model(linear(WEIGHTS)),
            IMAGES,
            Criterion(labels),
            fold(tf.constant(SEED), number),
        )
        assert one.success.sum() > 0
        assert np.all(one.success <= found.success)
    again = predict_classes(linear(WEIGHTS), found.images)
    np.testing.assert_array_equal(found.success, again != labels)


def test_the_first_member_succeeds_where_the_softmax_saturates():
    masked = linear(WEIGHTS, scale=1e6)
    labels = predict_classes(masked, IMAGES)
    found, first, _ = run_members(AutoAttack(epsilon=0.08, **QUICK), masked, IMAGES, labels)
    assert found.success.all()
    assert np.mean(first == 0) > 0.5


def test_square_succeeds_where_the_gradient_is_zero():
    blind = without_gradient(linear(WEIGHTS))
    labels = predict_classes(blind, IMAGES)
    attack = AutoAttack(epsilon=0.1, num_steps=2, num_targets=1, queries=300)
    found, first, _ = run_members(attack, blind, IMAGES, labels)
    assert found.success.all()
    assert np.mean(first == 3) > 0.2


def test_a_model_without_gradients_is_refused():
    opaque = lambda x: tf.round(tf.reshape(x, [-1, 36])[:, :3])  # noqa: E731
    with pytest.raises(UserError, match="no gradient"):
        run(AutoAttack(epsilon=0.1, **QUICK), opaque, IMAGES, np.zeros(24, np.int32))


def test_an_adversarial_image_is_left_unchanged():
    wrong = np.int32((predict_classes(linear(WEIGHTS), IMAGES) + 1) % 5)
    found, first, model = run_members(
        AutoAttack(epsilon=0.1, **QUICK), linear(WEIGHTS), IMAGES, wrong
    )
    np.testing.assert_array_equal(found.images, IMAGES)
    assert found.success.all()
    assert np.all(first == -1)
    assert model.queries == 24


def test_every_member_attacks_towards_the_target():
    labels = predict_classes(linear(WEIGHTS), IMAGES)
    targets = np.int32((labels + 3) % 5)
    attack = AutoAttack(epsilon=0.2, num_steps=30, queries=40)
    found, first, _ = run_members(attack, linear(WEIGHTS), IMAGES, labels, targets)
    np.testing.assert_array_equal(predict_classes(linear(WEIGHTS), found.images), targets)
    assert np.all(first >= 0)
    _, stuck, model = run_members(
        AutoAttack(epsilon=0.0, **QUICK), constant(5), IMAGES, targets * 0, targets * 0 + 2
    )
    assert np.all(stuck == -1)
    # One run of APGD, one of APGD-T, one of FAB, and Square.
    assert model.queries == 24 * (1 + 9 + 9 + (2 + 8 * 2) + 40)


@pytest.mark.parametrize("count", [2, 3])
def test_two_classes_are_enough(count):
    weights = WEIGHTS[..., :count]
    labels = predict_classes(linear(weights), IMAGES)
    for version in ("standard", "rand"):
        attack = AutoAttack(epsilon=0.3, version=version, num_steps=10, queries=20, eot_iter=1)
        assert run(attack, linear(weights), IMAGES, labels)[0].success.all()


def test_the_randomized_version_averages_twenty_passes():
    attack = AutoAttack(epsilon=0.1, version="rand", num_steps=2)
    _, model = run(attack, constant(4), IMAGES[:3], np.zeros(3, np.int32))
    assert model.queries == 3 * (1 + 2 * 3 * 20)


def test_the_report_has_one_entry():
    labels = predict_classes(linear(WEIGHTS), IMAGES)
    attacks = [AutoAttack(epsilon=0.02, **QUICK), Square(epsilon=0.02, queries=40)]
    outcome = evaluate_robustness(linear(WEIGHTS), IMAGES, labels, attacks)
    report = outcome.report()["attacks"][0]
    assert (report["name"], report["norm"], report["epsilon"]) == ("autoattack", "linf", 0.02)
    assert report["settings"]["queries"] == 40
    assert report["accuracy"] < outcome.report()["attacks"][1]["accuracy"] <= 1.0
