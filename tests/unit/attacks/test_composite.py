"""PGD+ and GridAdv+."""

import numpy as np
from linear_models import run

from keras_srt.attacks import PGD, GridAdvPlus, PGDPlus

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
    assert pixel.epsilon == both.stages[0].epsilon


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
