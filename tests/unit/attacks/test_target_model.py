"""Models under attack: padded queries, and models without gradients."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import Criterion, TargetModel


@pytest.mark.parametrize("count", [0, 1, 3, 17, 24])
def test_padding_changes_neither_predictions_nor_the_count(count, classifier, pictures, predicted):
    model = TargetModel(classifier, batch_size=20)
    criterion = Criterion(predicted[:count])
    answers, gradient = model.gradient(pictures[:count], criterion)
    np.testing.assert_array_equal(answers.classes, predicted[:count])
    assert model.queries == count
    with tf.GradientTape() as tape:
        images = tf.Variable(pictures[:count])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(criterion.labels, classifier(images))
    np.testing.assert_allclose(answers.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(gradient, tape.gradient(loss, images), rtol=1e-4, atol=1e-6)


def test_queries_come_in_few_sizes(pictures):
    sizes = set()

    def logits(images):
        tf.numpy_function(lambda n: sizes.add(int(n)), [tf.shape(images)[0]], [])
        return tf.reduce_sum(images, axis=[1, 2])

    model = TargetModel(logits, batch_size=24)
    for count in range(1, 25):
        model.logits(pictures[:count])
    assert sizes == {1, 2, 4, 8, 16, 24}
