"""A model without gradient masking passes every check; a masked one fails the right ones."""

import json

import numpy as np
import pytest
import tensorflow as tf
from linear_models import target_model

from keras_srt.attacks import PGD, GridAdv, QueryModel, TargetModel
from keras_srt.evaluation.masking import (
    Drop,
    falls_to_zero,
    find_masking,
    measure_drop,
    more_effort,
    never_rises,
    pgd_curve,
)
from keras_srt.evaluation.threats import Sample, Threat

CHECKS = ["large_epsilon", "monotone", "steps", "restarts", "square", "noise"]
COUNT, CLASSES = 40, 4
EPSILON = 0.1
LINF = PGD(epsilon=EPSILON, num_steps=5)

# Four orthogonal patterns of ±1 on 8×8 pixels, one for each class.
PATTERNS = np.stack(
    [np.kron(signs, np.ones((4, 4))) for signs in ([[1, 1], [1, 1]], [[1, -1], [1, -1]],
                                                   [[1, 1], [-1, -1]], [[1, -1], [-1, 1]])]
).astype(np.float32)  # fmt: skip


@pytest.fixture(scope="module")
def labels():
    return np.int32(np.arange(COUNT) % CLASSES)


@pytest.fixture(scope="module")
def images(labels):
    """Patterns of 0.03 to 0.17 on gray: ε = 0.1 turns half of them into another class."""
    strength = np.linspace(0.03, 0.17, COUNT, dtype=np.float32)[:, None, None]
    noise = np.random.default_rng(0).uniform(-0.02, 0.02, (COUNT, 8, 8))
    return np.float32(0.5 + strength * PATTERNS[labels] + noise)[..., None]


def linear(images):
    """Projection on each pattern: roughly robust up to ε = the strength of the pattern."""
    return tf.einsum("nhwc,khw->nk", images - 0.5, tf.constant(PATTERNS)) / 8.0


def failed(found, threat=0):
    """Names of the checks that failed in a pixel ball."""
    checks = found["threats"][threat]["checks"]
    assert [check["name"] for check in checks] == CHECKS
    return {check["name"] for check in checks if not check["passed"]}


def look(classifier, images, labels, attacks=(LINF,), **options):
    return find_masking(target_model(classifier), images, labels, attacks, **options)


# A model without masking.


@pytest.mark.parametrize("attack", [LINF, PGD(epsilon=0.8, norm_ball="l2", num_steps=5)])
def test_a_model_without_masking_passes_every_check(images, labels, attack):
    before, reported = images.copy(), []
    found = look(linear, images, labels, [attack], progress=lambda *done: reported.append(done))
    np.testing.assert_array_equal(images, before)
    assert reported == [(f"gradient masking, {attack.norm}", done, 4) for done in (0, 1, 2, 3, 4)]
    assert failed(found) == set()
    (threat,) = found["threats"]
    assert (threat["norm"], threat["epsilon"]) == (attack.norm, attack.epsilon)
    curve = [point["accuracy"] for point in threat["curve"]]
    assert curve[0] == 1.0
    assert 0.1 < curve[1] < 0.9
    assert curve[-1] == 0.0
    assert threat["curve"][-1]["epsilon"] == (1.0 if attack.norm == "linf" else 8.0)
    assert (found["n"], found["chance"]) == (COUNT, 0.25)
    json.dumps(found)


def test_a_constant_model_has_no_masking(images, labels):
    found = look(lambda x: 0.0 * linear(x) + [1.0, 0, 0, 0], images, labels)
    assert failed(found) == set()
    assert {point["accuracy"] for point in found["threats"][0]["curve"]} == {0.25}


def test_the_cost_is_as_documented():
    passes = {"gradient": 0, "logits": 0, "predictions": 0}

    class Counting(TargetModel):
        def gradient(self, images, *about):
            passes["gradient"] += len(images)
            return super().gradient(images, *about)

        def logits(self, images):
            passes["logits"] += len(images)
            return super().logits(images)

        def predictions(self, images, criterion, *loss):
            passes["predictions"] += len(images)
            return super().predictions(images, criterion, *loss)

    # 60 patterns that survive ε = 0.1, so that no image drops out early.
    strong = np.float32(0.5 + 0.3 * PATTERNS[np.arange(60) % CLASSES])[..., None]
    model = Counting(linear)
    found = find_masking(model, strong, np.int32(np.arange(60) % CLASSES), [LINF])
    assert failed(found) == set()
    assert found["queries"] == model.queries == sum(passes.values())
    # A fifth of the 60 images bears the expensive checks.
    assert passes["gradient"] <= 60 * (25 + 93 / 5)
    assert passes["logits"] + passes["predictions"] <= 60 * (10 + 110 / 5)


# Masked models.


def quantized(images):
    """32 levels of brightness, and 0 as the gradient of the rounding."""
    levels = tf.round(32 * images) / 32
    return linear(tf.stop_gradient(levels) + 0.0 * images)


def test_steps_that_are_too_coarse_in_large_balls_are_no_masking():
    def band(x):
        """Class 1 where the mean brightness is within 0.03 of 0.63, which 8 steps to 1 miss."""
        distance = tf.abs(tf.reduce_mean(x, axis=[1, 2, 3]) - 0.63)
        return 20 * tf.stack([distance, 0.06 - distance], axis=1)

    gray, zeros = np.full((10, 8, 8, 1), 0.5, np.float32), np.zeros(10, np.int32)
    model, seed = target_model(band), tf.constant([0, 1])
    sample = Sample(model, gray, zeros, np.ones(10, bool), 0.5, Threat("linf", 0.12), seed)
    assert sample.surviving(sample.pgd(1.0, num_steps=8), sample.correct).all()
    curve, _ = pgd_curve(sample)
    assert [point["accuracy"] for point in curve] == [1, 0, 0, 0, 0]


def test_large_logits_are_no_masking(images, labels):
    """The softmax is 1 to the last bit; the attacks' loss has a slope nevertheless."""
    found = look(lambda x: 1e6 * linear(x), images, labels)
    assert failed(found) == set()


def test_a_zero_gradient_is_detected(images, labels):
    found = look(quantized, images, labels)
    assert failed(found) == {"large_epsilon", "square"}
    (threat,) = found["threats"]
    large, square = (threat["checks"][CHECKS.index(name)] for name in ("large_epsilon", "square"))
    assert large["text"].startswith("accuracy 100.0% at eps 1, where every image can become")
    assert square["text"].startswith("Square of 100 queries takes APGD's accuracy from 100.0% to")
    assert square["before"]["n"] == COUNT
    assert square["before"]["accuracy"] - square["after"]["accuracy"] > 0.2


def test_a_gradient_that_vanishes_at_the_images_is_detected_by_restarts(images, labels):
    whole = np.float32(np.round(images * 64) / 64)

    def classifier(x):
        # The gradient is 0 at the levels of clean images only.
        off = tf.cast(tf.abs(64 * x - tf.round(64 * x)) > 1e-3, tf.float32)
        return linear(off * x + tf.stop_gradient((1 - off) * x))

    assert failed(look(classifier, whole, labels)) == {"large_epsilon", "restarts"}


def test_a_model_that_is_not_robust_to_noise_fails_only_that_check(images, labels):
    def rough(x):
        """Class 1 if neighbors differ, as under any noise."""
        roughness = tf.reduce_mean(tf.square(x[:, 1:] - x[:, :-1]), axis=[1, 2, 3])
        return tf.stack([0.0 * roughness, 1e3 * (roughness - 0.002)], axis=1)

    found = look(rough, 0.5 + 0.1 * (images - 0.5), np.zeros(COUNT, np.int32))
    assert failed(found) == {"noise"}
    check = found["threats"][0]["checks"][-1]
    assert check["before"]["accuracy"] == 1.0
    assert check["after"]["accuracy"] < 0.1
    assert "not even robust to noise" in check["text"]


# The rules.


def curve_of(*accuracies, n=100):
    return [{"epsilon": 0.1 * i, "accuracy": share, "n": n} for i, share in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("last", "chance", "passed"), [(0.0, 0.1, True), (0.1, 0.1, True), (0.11, 0.1, False)]
)
def test_the_accuracy_at_the_largest_epsilon_must_not_exceed_a_guess(last, chance, passed):
    assert falls_to_zero(curve_of(1.0, 0.5, last), chance).passed is passed


@pytest.mark.parametrize(
    ("accuracies", "n", "passed"),
    [
        ((1.0, 0.8, 0.3, 0.0), 100, True),
        ((1.0, 0.3, 0.32, 0.0), 100, True),
        ((1.0, 0.3, 0.33, 0.0), 100, False),
        ((1.0, 0.3, 0.31, 0.325), 200, False),
        ((1.0, 0.3, 0.4, 0.0), 10, True),
        ((1.0, 0.3, 0.5, 0.0), 10, False),
    ],
)
def test_a_rise_by_two_points_and_one_image_is_tolerated(accuracies, n, passed):
    finding = never_rises(curve_of(*accuracies, n=n))
    assert finding.passed is passed
    assert passed or "rises from 30.0% at eps 0.1 to" in finding.text


@pytest.mark.parametrize(
    ("before", "after", "significant"),
    [
        (100, 95, False),  # P(X >= 5) is 0.051, X ~ Binomial(100, 0.02)
        (100, 94, True),
        (6, 1, False),
        (6, 0, True),
        (0, 0, False),
    ],
)
def test_a_drop_of_hardly_more_than_two_points_is_not_significant(before, after, significant):
    everything, index = np.ones(100, bool), np.arange(100)
    assert Drop(everything, index < before, index < after).significant is significant


@pytest.mark.parametrize(("n", "falls"), [(2, 2), (20, 3), (50, 4), (100, 6), (1000, 29)])
def test_a_warning_takes_more_images_of_a_larger_sample(n, falls):
    everything, index = np.ones(n, bool), np.arange(n)
    assert Drop(everything, everything, index >= falls).significant
    assert not Drop(everything, everything, index >= falls - 1).significant


def test_one_image_of_twenty_is_no_masking():
    """1 of 20 correct images falls, and the accuracy is then 0."""
    drop = Drop(np.ones(20, bool), np.arange(20) < 1, np.zeros(20, bool))
    finding = drop.finding("steps", "5 times the steps take PGD's accuracy", "weak attacks")
    assert finding.passed
    assert finding.text == "5 times the steps take PGD's accuracy from 5.0% to 0.0% (n=20)"


def test_the_rest_is_tested_only_if_one_of_the_first_images_falls():
    surviving, tried = np.ones(100, bool), []

    def trial(among, breaks=()):
        tried.append(np.flatnonzero(among))
        after = among.copy()
        after[list(breaks)] = False
        return among, after

    got = measure_drop(surviving, trial)
    assert [len(index) for index in tried] == [20]
    assert got.numbers["after"]["n"] == 20
    got = measure_drop(surviving, lambda among: trial(among, [5, 70]))
    assert [len(index) for index in tried[1:]] == [20, 80]
    assert got.numbers["after"] == {**got.numbers["after"], "accuracy": 0.98, "n": 100}
    # A later image that would fall is not tested.
    got = measure_drop(surviving, lambda among: trial(among & (np.arange(100) < 60), [70]))
    assert got.numbers["after"]["n"] == 20


@pytest.mark.parametrize(
    ("weak_spot", "expected"),
    [
        (lambda attack: attack.num_steps == 40, {"steps"}),
        (lambda attack: attack.restarts == 4 and attack.random_start, {"restarts"}),
        (lambda attack: False, set()),
    ],
)
def test_more_steps_and_more_starts_are_separate_checks(
    weak_spot, expected, images, labels, monkeypatch
):
    def surviving(self, attack, among):
        return among & (np.arange(COUNT) % 5 > 0) if weak_spot(attack) else among

    monkeypatch.setattr(Sample, "surviving", surviving)
    everything = np.ones(COUNT, bool)
    threat = Threat("linf", EPSILON)
    sample = Sample(
        target_model(linear), images, labels, everything, 0.25, threat, tf.constant([0, 1])
    )
    findings = more_effort(sample, everything)
    assert {finding.name for finding in findings if not finding.passed} == expected
    for finding in findings:
        if finding.name in expected:
            assert "from 100.0% to 80.0% (n=40)" in finding.text


def test_without_a_threat_gradients_or_images_nothing_is_checked(images, labels):
    assert look(linear, images, labels, [GridAdv()]) is None
    assert look(linear, images[:0], labels[:0]) is None
    queried = QueryModel(lambda x: linear(x).numpy())
    assert find_masking(queried, images, labels, [LINF]) is None
    assert queried.queries == 0


def test_each_norm_is_checked_separately(images, labels, monkeypatch):
    monkeypatch.setattr(Sample, "surviving", lambda self, attack, among: among & False)
    found = look(linear, images, labels, [LINF, PGD(epsilon=0.8, norm_ball="l2")])
    assert [threat["norm"] for threat in found["threats"]] == ["linf", "l2"]
