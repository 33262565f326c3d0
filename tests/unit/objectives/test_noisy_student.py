"""The loss of `noisy_student` against NumPy."""

import numpy as np
import tensorflow as tf
from objective_helpers import cross_entropy, make_mlp, mlp_weights, numpy_mlp, softmax

from keras_srt.objectives import NoisyStudent, StepPasses


def test_the_loss_is_that_on_labels_and_the_divergence_from_the_teacher(batch):
    weights = mlp_weights()
    classifier, _ = make_mlp(weights)
    generator = np.random.default_rng(0)
    p = softmax(generator.normal(size=(6, 3)))
    case = NoisyStudent(0.5, label_smoothing=0.2)
    taught = batch._replace(pseudo_labels=tf.constant(p, tf.float64))
    terms = case.terms(classifier, case.prepare(classifier, taught, None, None))
    labeled = numpy_mlp(batch.images, *weights)
    smooth = -np.log(softmax(labeled)).mean(1)
    expected = 0.8 * cross_entropy(labeled, batch.labels.numpy()) + 0.2 * smooth
    np.testing.assert_allclose(terms["labeled"].values, expected, atol=1e-6)
    q = softmax(numpy_mlp(batch.unlabeled, *weights))
    np.testing.assert_allclose(terms["unlabeled"].values, (p * np.log(p / q)).sum(1), atol=1e-6)
    assert (terms["labeled"].weight, terms["unlabeled"].weight) == (1.0, 0.5)
    assert case.passes(None, 4, 6) == StepPasses(0, 0, 10)
