"""Evaluation runs: names, batches, invalid images, and threat models."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import (
    ATTACKS,
    FGSM,
    PGD,
    Attack,
    AttackResult,
    GridAdv,
    batch_progress,
    target_model,
)
from keras_srt.core.errors import UserError
from keras_srt.evaluation.runner import evaluate_robustness

pytestmark = pytest.mark.usefixtures("eager")
SMALL_GRID = GridAdv(grid=(3, 3, 5), max_rotation=20, max_translation=1)


def test_attacks_on_misclassified_images_change_their_class(some_right, pictures):
    classifier, labels = some_right
    outcome = evaluate_robustness(classifier, pictures, labels, [PGD(epsilon=0.3, num_steps=10)])
    wrong = ~outcome.correct
    changed = outcome.outcomes["pgd"].classes != outcome.clean_classes
    assert changed[wrong].mean() > 0.5
    assert not outcome.surviving("pgd")[wrong].any()


def test_repeated_attacks_get_unique_names(some_right, pictures):
    classifier, labels = some_right
    attacks = [
        FGSM(epsilon=0.1),
        PGD(epsilon=0.1, num_steps=1),
        PGD(epsilon=0.25, num_steps=1),
        PGD(epsilon=0.1, num_steps=2),
        SMALL_GRID,
        SMALL_GRID,
    ]
    outcome = evaluate_robustness(classifier, pictures[:2], labels[:2], attacks)
    names = ["fgsm", "pgd@0.1", "pgd@0.25", "pgd@0.1#2", "gridadv", "gridadv#2"]
    assert list(outcome.outcomes) == names
    assert [outcome.outcomes[name].attack for name in names] == attacks


def test_the_success_that_an_attack_claims_is_ignored(some_right, pictures, monkeypatch):
    classifier, labels = some_right
    honest = evaluate_robustness(classifier, pictures, labels, [SMALL_GRID])
    run = GridAdv.run

    def lie(*arguments):
        found = run(*arguments)
        return found._replace(success=~found.success)

    monkeypatch.setattr(GridAdv, "run", lie)
    outcome = evaluate_robustness(classifier, pictures, labels, [SMALL_GRID])
    np.testing.assert_array_equal(outcome.surviving("gridadv"), honest.surviving("gridadv"))
    assert honest.surviving("gridadv").any()


@pytest.mark.parametrize("fast", [False, True])
def test_the_precision_is_reported_and_changes_no_outcome(some_right, pictures, monkeypatch, fast):
    monkeypatch.setattr(target_model, "bfloat16_is_fast", lambda: fast)
    classifier, labels = some_right
    alone, first = (
        evaluate_robustness(classifier, pictures, labels, [SMALL_GRID], precision=precision)
        for precision in ("float32", "auto")
    )
    assert alone.report()["precision"] == "float32"
    assert first.report()["precision"] == ("bfloat16" if fast else "float32")
    for outcome, other in zip(alone.outcomes.values(), first.outcomes.values(), strict=True):
        np.testing.assert_array_equal(outcome.classes, other.classes)
        np.testing.assert_array_equal(outcome.images, other.images)


def test_outcomes_do_not_depend_on_the_batch_size(some_right, pictures):
    classifier, labels = some_right
    attacks = [FGSM(epsilon=0.02), SMALL_GRID]
    told = []
    whole, parts = (
        evaluate_robustness(
            classifier, pictures, labels, attacks, batch_size=size,
            progress=(lambda *done: told.append(done)) if size == 7 else None,
        )
        for size in (100, 7)
    )  # fmt: skip
    for name in whole.outcomes:
        np.testing.assert_array_equal(whole.surviving(name), parts.surviving(name))
    assert told[:6] == [("fgsm", done, 30) for done in (0, 7, 14, 21, 28, 30)]
    assert told[-1] == ("gridadv", 30, 30)


def test_progress_is_reported_inside_a_batch(some_right, pictures, monkeypatch):
    classifier, labels = some_right
    monkeypatch.setattr(batch_progress, "_SECONDS", 0)
    told = []
    evaluate_robustness(
        classifier, pictures, labels, [PGD(epsilon=1e-4, num_steps=3), SMALL_GRID], batch_size=20,
        progress=lambda *done: told.append(done),
    )  # fmt: skip
    assert [done for name, done, _ in told if name == "pgd"][:6] == [0, 5, 10, 15, 20, 22.5]
    grid = [done for name, done, _ in told if name == "gridadv"]
    assert grid == sorted(grid)
    assert {0, 20, 30} < set(grid)
    assert len(grid) > 10


def test_draws_differ_by_seed_and_batch():
    same = np.full((4, 8, 8, 1), 0.5, np.float32)
    flat = lambda x: 0.0 * tf.reshape(x, [-1, 64])[:, :2] + [1.0, 0.0]  # noqa: E731
    found = [
        evaluate_robustness(
            flat, same, np.zeros(4), [PGD(epsilon=0.2, num_steps=1)], batch_size=2, seed=seed
        ).outcomes["pgd"].images
        for seed in (0, 0, 1)
    ]  # fmt: skip
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0.1
    assert np.abs(found[0][0] - found[0][2]).max() > 0.1


def test_uint8_images_are_divided_by_255(some_right, pictures):
    classifier, labels = some_right
    whole = np.uint8(np.round(255 * pictures))
    one, other = (
        evaluate_robustness(classifier, images, labels, [FGSM(epsilon=0.05)])
        for images in (whole, np.float32(whole / 255.0))
    )
    np.testing.assert_array_equal(one.outcomes["fgsm"].images, other.outcomes["fgsm"].images)


def test_inputs_are_not_modified(some_right, pictures):
    classifier, labels = some_right
    before, its_labels = pictures.copy(), labels.copy()
    weights = classifier.get_weights()
    evaluate_robustness(classifier, pictures, labels, [PGD(epsilon=0.1, num_steps=2), SMALL_GRID])
    np.testing.assert_array_equal(pictures, before)
    np.testing.assert_array_equal(labels, its_labels)
    for now, then in zip(classifier.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


def test_nan_logits_are_wrong(pictures):
    def broken(images):
        first = images[:, 0, 0, 0]
        nan = tf.where(first > 0.5, np.nan, 0.0)
        return tf.stack([1.0 + nan, 0.1 * first], axis=1)

    labels = np.zeros(len(pictures), np.int32)
    outcome = evaluate_robustness(broken, pictures, labels, [FGSM(epsilon=0.0), SMALL_GRID])
    expected = pictures[:, 0, 0, 0] <= 0.5
    assert 0 < expected.sum() < 30
    np.testing.assert_array_equal(outcome.correct, expected)
    np.testing.assert_array_equal(outcome.surviving("fgsm"), expected)
    assert not outcome.worst_case()[~expected].any()


def test_a_model_without_gradients_is_refused(pictures):
    def steps(images):
        return tf.round(tf.stop_gradient(tf.reshape(images, [-1, 128])[:, :2]))

    labels = np.zeros(len(pictures), np.int32)
    with pytest.raises(UserError, match="no gradient"):
        evaluate_robustness(steps, pictures, labels, [FGSM(epsilon=0.1)])
    assert "gridadv" in evaluate_robustness(steps, pictures, labels, [SMALL_GRID]).outcomes


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x * np.nan, "nan"),
        (lambda x: x + np.inf, "inf"),
        (lambda x: x + 1, "0 to 1"),
        (lambda x: x - 1, "0 to 1"),
        (lambda x: 255 * x, "divide by 255"),
        (lambda x: x[:0], "n > 0"),
        (lambda x: x[..., 0], "height, width, channels"),
        (lambda x: x[:-1], "one class id for each"),
        (lambda x: np.full(x.shape, "a"), "could not convert"),
    ],
    ids=["nan", "inf", "above", "below", "0 to 255", "empty", "rank", "count", "text"],
)
def test_invalid_images_are_refused(some_right, pictures, spoil, words):
    classifier, labels = some_right
    with pytest.raises(ValueError, match=words):
        evaluate_robustness(classifier, spoil(pictures), labels, [FGSM(epsilon=0.1)])


def test_an_empty_set_is_refused(some_right, pictures):
    classifier, _ = some_right
    with pytest.raises(ValueError, match="n > 0"):
        evaluate_robustness(classifier, pictures[:0], [], [FGSM(epsilon=0.1)])


@pytest.fixture
def in_graphs(eager):
    """Functions are traced after all."""
    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


def test_repeated_evaluations_cause_no_retracing_warning(in_graphs, pictures, caplog):
    classifier = lambda x: tf.reshape(x, [-1, 128])[:, :3]  # noqa: E731
    labels = np.zeros(len(pictures), np.int32)
    caplog.set_level("WARNING", logger="tensorflow")
    tf.get_logger().propagate = True
    for _ in range(7):
        evaluate_robustness(classifier, pictures, labels, [FGSM(epsilon=0.1)])
    assert "retracing" not in caplog.text


@pytest.mark.parametrize("attack", [PGD(epsilon=0.1, num_steps=2), GridAdv(grid=(1, 1, 3))])
def test_equal_neighborhoods_are_traced_once(in_graphs, some_right, pictures, attack, monkeypatch):
    classifier, labels = some_right
    kind, method = type(attack.neighborhood), "apply"
    if attack.needs_gradients:
        kind, method = type(attack.neighborhood.solver), "step"
    traced, original = [], getattr(kind, method)

    def counted(self, images, *others):
        if not tf.executing_eagerly():
            traced.append(images.shape)
        return original(self, images, *others)

    monkeypatch.setattr(kind, method, counted)
    evaluate_robustness(classifier, pictures, labels, [attack], batch_size=5)
    # Once for the first batch, and once with an open batch size.
    assert 1 <= len(traced) <= 2


@pytest.mark.parametrize("settings", [{"name": "pgd"}, {"name": "ddn", "num_steps": 60}])
def test_a_single_image_of_a_single_pixel_is_attacked(settings):
    """NumPy makes a scalar of `np.float64(one element)`."""

    def brighter_than_half(images):
        mean = tf.reduce_mean(images, axis=[1, 2, 3])
        return tf.stack([0.5 + 0 * mean, mean], axis=1)

    attack = ATTACKS.build({"epsilon": 0.2, **settings})
    image, label = np.full((1, 1, 1, 1), 0.6, np.float32), [1]
    outcome = evaluate_robustness(brighter_than_half, image, label, [attack])
    assert not outcome.surviving(attack.name).any()
    moved = float(outcome.outcomes[attack.name].images[0, 0, 0, 0] - image[0, 0, 0, 0])
    assert -0.2 - 1e-6 <= moved <= -0.1


# Threat models.


class Cheating(Attack):
    """FGSM whose result is changed by `cheat`."""

    name = "cheating"
    epsilon = 0.1
    neighborhood = FGSM(epsilon=0.1).neighborhood

    def __init__(self, cheat):
        super().__init__()
        object.__setattr__(self, "cheat", cheat)

    def search(self, model, images, criterion, seed):
        honest = FGSM(epsilon=0.1).run(model, images, criterion, seed)
        return AttackResult(*self.cheat(images, honest)[:3])


@pytest.mark.parametrize(
    "cheat",
    [
        lambda x, f: (np.clip(x + 0.2, 0, 1), np.clip(x + 0.2, 0, 1) - x, f.success),
        lambda x, f: (1 - x, f.parameters, f.success),
        lambda x, f: (f.images, f.parameters * 2, f.success),
        lambda x, f: (x + 0.09, np.full_like(x, 0.09), f.success),
        lambda x, f: (x * np.nan, f.parameters, f.success),
        lambda x, f: (f.images, f.parameters * np.nan, f.success),
    ],
    ids=["beyond", "another image", "other parameters", "above 1", "nan", "nan parameters"],
)
def test_an_attack_that_leaves_its_threat_model_is_refused(some_right, pictures, cheat):
    classifier, labels = some_right
    with pytest.raises(RuntimeError, match=r"cheating.*threat model"):
        evaluate_robustness(classifier, pictures, labels, [Cheating(cheat)])


def test_an_attack_inside_its_threat_model_is_accepted(some_right, pictures):
    classifier, labels = some_right
    honest = Cheating(lambda x, f: f)
    outcome = evaluate_robustness(classifier, pictures, labels, [honest])
    assert "cheating" in outcome.outcomes
