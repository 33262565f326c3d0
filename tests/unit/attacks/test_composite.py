"""Composite attacks, PGD+ and GridAdv+."""

import numpy as np
import pytest
from linear_models import run

from keras_srt.attacks import ATTACKS, PGD, CompositeAttack, GridAdvPlus, PGDPlus
from keras_srt.core.errors import InvalidSettings
from keras_srt.evaluation.runner import check_inside
from keras_srt.neighborhoods import Color, Composite, Damage, LInf, Noise, PixelDropout, Spatial

EPSILON = 0.1


SMALL_GRID = {"grid": (3, 3, 5), "max_rotation": 20.0, "max_translation": 2.0}


def test_stages_run_in_their_order(classifier, pictures, predicted):
    settings = {"epsilon": 0.05, "num_steps": 2, **SMALL_GRID}
    for attack, kinds in (
        (PGDPlus(**settings), ["pixel", "spatial"]),
        (GridAdvPlus(**settings), ["spatial", "pixel"]),
    ):
        assert [stage.kind for stage in attack.neighborhood.stages_in_order] == kinds
        found, _ = run(attack, classifier, pictures, predicted)
        widths = {"pixel": pictures.shape, "spatial": (24, 3)}
        assert [np.shape(own) for own in found.parameters] == [widths[kind] for kind in kinds]


def test_the_second_stage_skips_successes_of_the_first(classifier, pictures, predicted):
    pixel = PGD(epsilon=EPSILON, num_steps=3)
    both = PGDPlus(epsilon=EPSILON, num_steps=3, **SMALL_GRID)
    found, _ = run(both, classifier, pictures, predicted)
    first = found.parameters[0].reshape(24, -1)
    alone = np.argmax(classifier(pictures + found.parameters[0]), axis=1) != predicted
    assert 0 < alone.sum() < 24
    assert not found.parameters[1][alone].any()
    assert found.success[alone].all()
    assert found.success.sum() > alone.sum()
    assert np.abs(first).max() <= EPSILON + 1e-6
    assert pixel.epsilon == both.attacks[0].epsilon


def test_images_that_are_adversarial_already_are_left_unchanged(classifier, pictures, predicted):
    wrong = (predicted + 1) % 3
    for attack in (
        PGDPlus(epsilon=0.0, num_steps=1, **SMALL_GRID),
        GridAdvPlus(epsilon=0.0, num_steps=1, **SMALL_GRID),
    ):
        found, _ = run(attack, classifier, pictures, wrong)
        np.testing.assert_array_equal(found.images, pictures)
        assert found.success.all()


def test_an_empty_second_stage_works_with_batch_norm(make_classifier, images):
    """TensorFlow's fused convolution and BatchNorm can't take an empty batch."""
    classifier = make_classifier(batch_norm=True, activation="relu")
    wrong = np.int32(np.argmin(classifier(images, training=False), axis=1))
    attack = GridAdvPlus(epsilon=0.0, num_steps=1, **SMALL_GRID)
    found, _ = run(attack, classifier, images, wrong)
    assert found.success.all()


@pytest.mark.parametrize("mode", ["sequential", "joint"])
@pytest.mark.parametrize("plus", [PGDPlus, GridAdvPlus])
def test_pgd_plus_and_gridadv_plus_are_settings_of_composite(
    plus, mode, classifier, pictures, predicted
):
    pixel = LInf(epsilon=0.03, num_steps=2, step_size=0.02)
    turn = Spatial(max_rotation=20, max_translation=2, search="grid", grid=(2, 1, 3))
    stages = (pixel, turn) if plus is PGDPlus else (turn, pixel)
    settings = {"grid": (2, 1, 3), "max_rotation": 20.0, "max_translation": 2.0, "mode": mode}
    named = plus(epsilon=0.03, num_steps=2, step_size=0.02, **settings)
    found, _ = run(named, classifier, pictures, predicted)
    general, _ = run(CompositeAttack(stages, mode=mode), classifier, pictures, predicted)
    np.testing.assert_array_equal(found.images, general.images)
    np.testing.assert_array_equal(found.success, general.success)


STAGES = [
    LInf(epsilon=0.02, num_steps=2),
    Spatial(max_rotation=10, max_translation=1, num_samples=2),
    Color(max_contrast=0.1, max_brightness=0.02, num_steps=2, num_samples=1),
    Noise(epsilon=0.02),
    PixelDropout(0.05, num_samples=1, num_steps=1),
    Damage(0.05, num_samples=1),
]


@pytest.mark.parametrize("order", [(2, 0), (1, 3), (3, 1, 2), (4, 2, 1, 0)])
def test_the_stages_of_training_are_attacked_in_their_order(order, classifier, pictures, predicted):
    space = Composite(stages=[STAGES[index] for index in order])
    attack = CompositeAttack(space.stages, mode="joint" if 1 in order else "sequential")
    assert attack.norm == "+".join(STAGES[index].name for index in order)
    assert attack.neighborhood.range == space.range
    found, _ = run(attack, classifier, pictures, predicted)
    check_inside(attack, pictures, found)
    if attack.mode == "joint":
        sequential, _ = run(CompositeAttack(space.stages), classifier, pictures, predicted)
        assert np.all(found.success >= sequential.success)


def test_it_is_made_from_json():
    attack = ATTACKS.build(
        {"name": "composite", "stages": [{"name": "color"}, {"name": "l2", "epsilon": 0.5}]}
    )
    assert [one.name for one in attack.attacks] == ["color", "pgd"]
    assert ATTACKS.build({"name": "composite", **attack.get_config()}) == attack


@pytest.mark.parametrize(
    ("stages", "mode", "message"),
    [
        ([{"name": "linf", "epsilon": 0.1}], "sequential", "stages: .*two or more"),
        ([{"name": "l0", "epsilon": 3}, {"name": "color"}], "sequential", "stages: got l0"),
        ([{"name": "noise", "epsilon": 0.1}, {"name": "color"}], "joint", "mode: got 'joint'"),
    ],
)
def test_stages_that_cannot_be_attacked_are_refused(stages, mode, message):
    with pytest.raises(InvalidSettings, match=message):
        CompositeAttack(stages=stages, mode=mode)
