"""Laws of every objective, for the common suite by day and for all variants at night."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import total

from keras_srt.neighborhoods import LInf, Spatial
from keras_srt.objectives import (
    KLR,
    RST,
    RT,
    SRT,
    UAT,
    Adversarial,
    Batch,
    NoisyStudent,
    Standard,
    Trades,
    WorstOfK,
)

# One row for each component.
CASES = {
    "standard": Standard(),
    "adversarial": Adversarial(),
    "trades": Trades(robust_weight=6),
    "uat": UAT(fixed_weight=0.5, online_weight=2),
    "rst": RST(),
    "noisy_student": NoisyStudent(),
    "worst_of_k": WorstOfK(num_samples=4),
    "klr": KLR(num_samples=4),
    "rt": RT(robust_weight=0.5),
    "srt": SRT(robust_weight=0.5),
}
VARIANTS = {
    "uat_ot": UAT(fixed_weight=0),
    "uat_ft": UAT(online_weight=0),
    "srt_kl": SRT(robust_loss="kl"),
    "srt_margin": SRT(robust_loss="margin"),
    "srt_teacher": SRT(pseudo_labels="teacher"),
    "srt_soft": SRT(pseudo_labels="teacher", robust_loss="kl", label_smoothing=0.1),
    "srt_confident": SRT(pseudo_labels="teacher", robust_loss="kl", confidence_threshold=0.6),
}
BALL = LInf(epsilon=0.1, num_steps=3)
TURN = Spatial(max_rotation=20, max_translation=1, num_samples=4)
SEED = (1, 2)


def prepare(case, classifier, batch, scale=1.0, seed=SEED):
    """The preparation of an objective, with the neighborhood that it can search."""
    neighborhood = TURN if case.name in ("worst_of_k", "klr") else BALL
    return case.prepare(classifier, batch, neighborhood, seed, scale)


def state_of(classifier):
    """All variables of a classifier, including BatchNorm statistics."""
    return [value.numpy() for value in classifier.variables]


class ObjectiveLaws:
    """Laws of an objective; a subclass gives the fixture `case`."""

    @pytest.fixture
    def batch(self, case, images, labels, unlabeled):
        """Four labeled images and six unlabeled images with pseudo-labels."""
        pseudo_labels = np.int32([2, 0, 1, 1, 0, 2])
        if case.soft_pseudo_labels:
            pseudo_labels = np.float32(0.7 * np.eye(3)[pseudo_labels] + 0.1)
        return Batch(*(tf.constant(part) for part in (images, labels, unlabeled, pseudo_labels)))

    def test_the_terms_are_named_and_finite(self, case, batch, make_classifier):
        classifier = make_classifier()
        terms = case.terms(classifier, prepare(case, classifier, batch))
        assert tuple(terms) == case.term_names
        for term in terms.values():
            assert term.values.dtype == tf.float32
            assert term.values.shape.rank == 1
            assert np.all(np.isfinite(term.values))
            assert np.all(term.values >= 0)

    def test_preparation_does_not_change_the_classifier(self, case, batch, make_classifier):
        classifier = make_classifier()
        classifier(batch.images, training=True)  # changes the initial statistics
        before = state_of(classifier)
        prepare(case, classifier, batch)
        for old, new in zip(before, state_of(classifier), strict=True):
            np.testing.assert_array_equal(new, old)

    def test_the_loss_terms_update_the_statistics_of_batch_norm(self, case, batch, make_classifier):
        classifier = make_classifier()
        prepared = prepare(case, classifier, batch)
        before = state_of(classifier)
        case.terms(classifier, prepared)
        changed = [np.any(a != b) for a, b in zip(before, state_of(classifier), strict=True)]
        moving = ["moving" in value.name for value in classifier.variables]
        assert changed == moving
        assert any(moving)

    def test_the_preparation_carries_no_gradient(self, case, batch, make_classifier):
        classifier = make_classifier()
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(batch.images)
            prepared = prepare(case, classifier, batch)
            made = [part for part in tf.nest.flatten(prepared) if part is not None]
            made = [part for part in made if part.dtype.is_floating and part is not batch.images]
            sums = [tf.reduce_sum(part) for part in made]
        for value in sums:
            assert tape.gradient(value, classifier.trainable_variables[0]) is None
        if case.uses_neighborhood:
            assert made

    def test_the_gradient_treats_the_preparation_as_constant(self, case, batch, make_classifier):
        classifier = make_classifier()
        weights, start = classifier.trainable_variables, classifier.get_weights()
        with tf.GradientTape() as outer:
            inside = total(case, classifier, prepare(case, classifier, batch))
        classifier.set_weights(start)  # resets the statistics of BatchNorm
        prepared = tf.nest.map_structure(
            lambda part: None if part is None else tf.constant(part.numpy()),
            prepare(case, classifier, batch),
        )
        with tf.GradientTape() as tape:
            value = total(case, classifier, prepared)
        np.testing.assert_allclose(inside, value, rtol=1e-6)
        for one, other in zip(
            outer.gradient(inside, weights), tape.gradient(value, weights), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=1e-6)
            assert np.any(other != 0)

    def test_the_search_increases_the_loss(self, case, batch, make_classifier):
        classifier = make_classifier(batch_norm=False)
        full = total(case, classifier, prepare(case, classifier, batch, 1.0))
        none = total(case, classifier, prepare(case, classifier, batch, 0.0))
        assert (full > none) == case.uses_neighborhood
        if not case.uses_neighborhood:
            assert full == none

    def test_unlabeled_images_matter_only_if_they_are_used(self, case, batch, make_classifier):
        classifier = make_classifier(batch_norm=False)

        def value(its_batch):
            return total(case, classifier, prepare(case, classifier, its_batch))

        other = batch._replace(unlabeled=1.0 - batch.unlabeled)
        assert (value(batch) != value(other)) == case.uses_unlabeled

    def test_labels_matter(self, case, batch, make_classifier):
        classifier = make_classifier(batch_norm=False)

        def value(its_batch):
            return total(case, classifier, prepare(case, classifier, its_batch, 0.0))

        assert value(batch) != value(batch._replace(labels=(batch.labels + 1) % 3))

    def test_the_preparation_is_a_function_of_the_seed(self, case, batch, make_classifier):
        classifier = make_classifier()
        first, again, other = (
            list(tf.nest.flatten(prepare(case, classifier, batch, 1.0, seed)))
            for seed in (SEED, SEED, (1, 3))
        )
        pairs = [(a, b, c) for a, b, c in zip(first, again, other, strict=True) if a is not None]
        for one, same, _ in pairs:
            np.testing.assert_array_equal(one, same)
        assert any(np.any(one != new) for one, _, new in pairs) == case.uses_neighborhood
