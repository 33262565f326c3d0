"""The common suite: laws that every attack of the registry obeys."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from linear_models import SEED

from keras_srt.attacks import ATTACKS, PGD, Criterion, QueryModel, TargetModel
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.evaluation.runner import check_inside

GRID = {"grid": (3, 3, 5), "max_rotation": 20.0, "max_translation": 2.0}
NO_GRID = {**GRID, "max_rotation": 0, "max_translation": 0}

# One row for each attack: the norm of its threat model, settings with which it is fast and
# succeeds on some images, and settings whose threat model contains only the image itself.
ATTACK_ROWS = {
    "fgsm": ("linf", {"epsilon": 0.1}, {"epsilon": 0}),
    "pgd": ("linf", {"epsilon": 0.1, "num_steps": 5, "restarts": 2}, {"epsilon": 0}),
    "mi_fgsm": ("linf", {"epsilon": 0.1, "num_steps": 5}, {"epsilon": 0}),
    "cw": (
        "l2",
        {"epsilon": 1.0, "iterations": 30, "searches": 3, "learning_rate": 0.05},
        {"epsilon": 0, "iterations": 3, "searches": 1},
    ),
    "ddn": ("l2", {"epsilon": 1.0, "num_steps": 15}, {"epsilon": 0, "num_steps": 3}),
    "jsma": ("l0", {"epsilon": 8}, {"epsilon": 0, "gamma": 0.1}),
    "pointwise": (
        "l0",
        {"epsilon": 6, "restarts": 1, "noise_draws": 9, "bisections": 2},
        {"epsilon": 0, "restarts": 1, "noise_draws": 1, "bisections": 0},
    ),
    "randadv": ("spatial", {}, {"max_rotation": 0, "max_translation": 0}),
    "randadv_r": ("spatial", {}, {"max_rotation": 0}),
    "randadv_t": ("spatial", {}, {"max_translation": 0}),
    "gridadv": ("spatial", GRID, NO_GRID),
    "gridadv_r": ("spatial", {"points": 7}, {"points": 3, "max_rotation": 0}),
    "gridadv_t": ("spatial", {"points": 3}, {"points": 3, "max_translation": 0}),
    "pgd_plus": (
        "linf+spatial",
        {"epsilon": 0.1, "num_steps": 3, **GRID},
        {"epsilon": 0, "num_steps": 2, **NO_GRID},
    ),
    "gridadv_plus": (
        "spatial+linf",
        {"epsilon": 0.1, "num_steps": 3, **GRID},
        {"epsilon": 0, "num_steps": 2, **NO_GRID},
    ),
    "color": (
        "color",
        {"max_contrast": 0.2, "max_brightness": 0.07, "num_samples": 3, "num_steps": 3},
        {"max_contrast": 0, "max_brightness": 0, "num_samples": 2, "num_steps": 2},
    ),
    "composite": (
        "color+linf+spatial",
        {
            "stages": [
                {"name": "color", "max_contrast": 0.1, "max_brightness": 0.02, "num_steps": 2},
                {"name": "linf", "epsilon": 0.03, "num_steps": 2},
                {"name": "spatial", "max_rotation": 10, "max_translation": 1, "num_samples": 3},
            ]
        },
        {
            "stages": [
                {"name": "noise", "epsilon": 0},
                {"name": "spatial", "max_rotation": 0, "max_translation": 0, "num_samples": 2},
            ]
        },
    ),
    "noise": ("noise", {"epsilon": 0.3, "num_samples": 5}, {"epsilon": 0}),
    "pixel_dropout": (
        "pixel_dropout",
        {"share": 0.2, "num_samples": 2, "num_steps": 3},
        {"share": 0},
    ),
    "damage": ("damage", {"share": 0.2, "num_samples": 4}, {"share": 0, "num_samples": 2}),
    "apgd_ce": ("linf", {"epsilon": 0.1, "num_steps": 8}, {"epsilon": 0, "num_steps": 2}),
    "apgd_dlr": ("linf", {"epsilon": 0.1, "num_steps": 8}, {"epsilon": 0, "num_steps": 2}),
    "apgd_t": ("linf", {"epsilon": 0.1, "num_steps": 8}, {"epsilon": 0, "num_steps": 2}),
    "fab_t": ("linf", {"epsilon": 0.1, "num_steps": 8}, {"epsilon": 0, "num_steps": 2}),
    "square": ("linf", {"epsilon": 0.1, "queries": 60}, {"epsilon": 0, "queries": 3}),
    "autoattack": (
        "linf",
        {"epsilon": 0.1, "num_steps": 5, "queries": 20},
        {"epsilon": 0, "num_steps": 2, "queries": 3},
    ),
}

NORMS = {
    "linf": lambda r: np.abs(r).max(axis=(1, 2, 3)),
    "l2": lambda r: np.sqrt((r**2).sum(axis=(1, 2, 3))),
    "l0": lambda r: (r != 0).any(axis=-1).sum(axis=(1, 2)),
}


def test_every_attack_has_a_row():
    assert set(ATTACK_ROWS) == set(ATTACKS)


@pytest.fixture(scope="module", params=sorted(ATTACK_ROWS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def attack(name):
    return ATTACKS.build({"name": name, **ATTACK_ROWS[name][1]})


@pytest.fixture(scope="module")
def model(classifier):
    """A model whose functions are traced once for all tests."""
    return TargetModel(classifier)


@pytest.fixture(scope="module")
def attacked(model):
    """Run an attack on the model."""

    def run(attack, images, labels, targets=None):
        return attack.run(model, images, Criterion(labels, targets), tf.constant(SEED))

    return run


@pytest.fixture(scope="module")
def result(attack, attacked, pictures, predicted):
    return attacked(attack, pictures, predicted)


@pytest.fixture(scope="module")
def targets(predicted):
    """A target for each picture, different from its class."""
    return np.int32((predicted + 1 + np.arange(len(predicted)) % 2) % 3)


@pytest.fixture(scope="module")
def targeted(attack, attacked, pictures, predicted, targets):
    return attacked(attack, pictures, predicted, targets)


def assert_in_threat_model(attack, pictures, result):
    """In float64, by the neighborhood's own measure and by norms written out here."""
    assert result.images.shape == pictures.shape
    assert result.images.dtype == np.float32
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    check_inside(attack, pictures, result)
    stages = attack.neighborhood.stages_in_order
    if len(stages) == 1 and stages[0].name in NORMS:
        each = [np.float64(result.images) - np.float64(pictures)]
    else:
        each = result.parameters if len(stages) > 1 else [result.parameters]
    for stage, parameters in zip(stages, map(np.float64, each), strict=True):
        assert stage.relative_size(parameters).max() <= 1 + 1e-6
        if stage.name in NORMS:
            assert NORMS[stage.name](parameters).max() <= stage.epsilon + 2e-6
        elif stage.name == "noise":
            assert np.abs(parameters).max() <= stage.bound + 2e-6
        elif stage.name == "pixel_dropout":
            assert set(np.unique(parameters)) <= {0, 1}
            assert parameters.mean(axis=(1, 2, 3)).max() <= stage.share
        elif stage.name == "damage":
            lost = parameters[..., :-1].max(axis=-1) + parameters[..., -1]
            assert lost.mean(axis=(1, 2)).max() <= stage.share + 1e-6
        else:
            assert np.all(np.abs(parameters) <= np.float64(stage.limits) + 1e-6)


def test_the_name_norm_and_radius_are_those_of_the_row(name, attack):
    norm, settings, _ = ATTACK_ROWS[name]
    epsilon = 0.03 if name == "composite" else settings.get("epsilon")
    assert (attack.name, attack.norm, attack.radius) == (name, norm, epsilon)


def test_the_result_is_in_the_threat_model(attack, pictures, result, targeted):
    assert_in_threat_model(attack, pictures, result)
    assert_in_threat_model(attack, pictures, targeted)


def test_the_parameters_produce_the_images(attack, pictures, result):
    again = attack.neighborhood.apply(tf.constant(pictures), result.parameters)
    np.testing.assert_allclose(result.images, again, atol=1e-6)


def test_success_is_a_change_of_the_predicted_class(classifier, predicted, result):
    classes = np.argmax(classifier(result.images), axis=1)
    np.testing.assert_array_equal(result.success, classes != predicted)
    assert 0 < result.success.sum() < len(predicted)  # otherwise this test shows nothing


def test_targeted_success_is_the_prediction_of_the_target(classifier, targets, targeted):
    classes = np.argmax(classifier(targeted.images), axis=1)
    np.testing.assert_array_equal(targeted.success, classes == targets)
    assert 0 < targeted.success.sum() < len(targets)


def test_the_same_seed_gives_the_same_result(attack, attacked, pictures, predicted, result):
    again = attacked(attack, pictures, predicted)
    np.testing.assert_array_equal(result.images, again.images)
    for one, other in zip(
        *map(tf.nest.flatten, (result.parameters, again.parameters)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_an_empty_threat_model_changes_nothing(name, attacked, pictures, predicted):
    attack = ATTACKS.build({"name": name, **ATTACK_ROWS[name][2]})
    result = attacked(attack, pictures, predicted)
    np.testing.assert_allclose(result.images, pictures, atol=1e-6)
    assert not result.success.any()


def test_images_that_are_adversarial_already_stay_adversarial(
    attack, attacked, classifier, pictures, predicted
):
    wrong = (predicted + 1) % 3
    for targets in (None, predicted):
        result = attacked(attack, pictures, wrong, targets)
        assert result.success.all()
        classes = np.argmax(classifier(result.images), axis=1)
        if targets is None:
            assert np.all(classes != wrong)
        else:
            np.testing.assert_array_equal(classes, predicted)
        if attack.name == "fgsm" or "adv" in attack.name:
            np.testing.assert_allclose(result.images, pictures, atol=1e-6)


def test_an_attack_reports_a_rising_share_of_its_work(name, attack, model, pictures, predicted):
    shares = []
    with model.progress.shown_by(shares.append, seconds=0):
        attack.run(model, pictures, Criterion(predicted), tf.constant(SEED))
    assert len(shares) >= (1 if name == "fgsm" else 3)
    assert all(one < other for one, other in itertools.pairwise([0.0, *shares]))
    assert shares[-1] <= 1.0
    attack.run(model, pictures[:2], Criterion(predicted[:2]), tf.constant(SEED))
    assert shares[-1] <= 1.0  # what isn't shown isn't reported


def test_an_empty_batch_has_an_empty_result(attack, attacked, pictures, predicted):
    result = attacked(attack, pictures[:0], predicted[:0])
    assert result.images.shape == (0, 8, 8, 1)
    assert result.success.shape == (0,)


def test_a_model_without_gradients_is_refused_or_attacked_by_queries_alone(
    attack, classifier, pictures, predicted, result
):
    model = QueryModel(lambda images: classifier(tf.constant(images)).numpy())
    arguments = (model, pictures, Criterion(predicted), tf.constant(SEED))
    if attack.needs_gradients:
        with pytest.raises(UserError, match="no gradient"):
            attack.run(*arguments)
        assert model.queries == 0
    else:
        np.testing.assert_allclose(attack.run(*arguments).images, result.images, atol=1e-5)


def test_a_name_may_contain_the_radius():
    assert ATTACKS.build({"name": "pgd@0.1"}) == PGD(epsilon=0.1)
    assert ATTACKS.build({"name": "pgd@8/255", "num_steps": 3}) == PGD(epsilon=8 / 255, num_steps=3)
    assert ATTACKS.build({"name": "pgd@0.1", "epsilon": 0.3}).epsilon == 0.3
    for name in ("pgd@", "pgd@x", "pgd@-1", "pgd@nan", "fgsm@2", "gridadv@0.1", "pdg@0.1", "@"):
        with pytest.raises(InvalidSettings):
            ATTACKS.build({"name": name})
