"""Helpers for tests of objectives: losses and a small network in NumPy, sums of loss terms."""

import numpy as np
import tensorflow as tf

from keras_srt.neighborhoods import LInf, Spatial
from keras_srt.objectives import Batch
from keras_srt.training.model import RobustModel

BALL = LInf(epsilon=0.1, num_steps=3)
TURN = Spatial(max_rotation=20, max_translation=1, num_samples=4)
SEED = (1, 2)
ANSWERS = np.int32([2, 0, 1, 1, 0, 2])


def make_batch(images, labels, unlabeled):
    """Labeled images, and six unlabeled images with pseudo-labels."""
    return Batch(*(tf.constant(part) for part in (images, labels, unlabeled, ANSWERS)))


def softmax(logits):
    """The same as TensorFlow's, in float64."""
    powers = np.exp(np.float64(logits) - np.max(logits, axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(logits, labels):
    """-log softmax(logits)_label of each row."""
    return -np.log(softmax(logits)[np.arange(len(labels)), labels])


def kl(logits, others):
    """Σ p·log(p/q) of each row."""
    p, q = softmax(logits), softmax(others)
    return np.sum(p * np.log(p / q), axis=-1)


def numpy_mlp(images, kernel, middle, last):
    """tanh(x·kernel + middle)·last."""
    flat = np.float64(images).reshape(len(images), -1)
    return np.tanh(flat @ kernel + middle) @ last


def make_mlp(weights):
    """The network of `numpy_mlp` as TensorFlow sees it, in float64, and its variables."""
    variables = [tf.Variable(weight) for weight in weights]

    def classifier(images, training=None):
        flat = tf.reshape(tf.cast(images, tf.float64), [-1, len(weights[0])])
        hidden = tf.tanh(tf.matmul(flat, variables[0]) + variables[1])
        return tf.matmul(hidden, variables[2])

    return classifier, variables


def mlp_weights(inputs=128):
    """Weights of a small smooth network, float64."""
    generator = np.random.default_rng(7)
    sizes = ((inputs, 5), (5,), (5, 3))
    return [generator.normal(size=size) * (0.2 if size[0] == inputs else 1) for size in sizes]


def in_single(classifier):
    """The classifier with its logits in float32, as searches take them."""
    return lambda images, training=None: tf.cast(classifier(images), tf.float32)


def total(objective, classifier, prepared):
    """Σ weight · mean(values)."""
    terms = objective.terms(classifier, prepared).values()
    return tf.add_n([tf.cast(t.weight, t.values.dtype) * tf.reduce_mean(t.values) for t in terms])


def assert_gradient_is_the_slope(objective, classifier, variables, prepared):
    """The gradient of the loss agrees with its finite differences, in float64."""
    generator = np.random.default_rng(0)
    with tf.GradientTape() as tape:
        value = total(objective, classifier, prepared)
    for variable, gradient in zip(variables, tape.gradient(value, variables), strict=True):
        start, size = variable.numpy(), 1e-5
        direction = generator.normal(size=start.shape)
        ends = []
        for sign in (1, -1):
            variable.assign(start + sign * size * direction)
            ends.append(total(objective, classifier, prepared))
        variable.assign(start)
        slope = (ends[0] - ends[1]) / (2 * size)
        assert abs(slope) > 1e-4
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-6)


def assert_step_passes(objective, neighborhood, passes, batch, classifier):
    """Count the images of the convolutions in the graph of a step: one convolution per pass."""
    assert objective.passes(neighborhood, labeled=4, unlabeled=6) == passes

    model = RobustModel(classifier, neighborhood, objective)
    model.compile("sgd")
    model.optimizer.build(model.classifier.trainable_variables)
    data = {"labeled": (batch.images, batch.labels), "unlabeled": batch.unlabeled}
    data["pseudo_labels"] = batch.pseudo_labels
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(data).graph
    live, found = {*graph.control_outputs, *(tensor.op for tensor in graph.outputs)}, []
    while live:  # TensorFlow does not run what neither a result nor a weight depends on
        found.append(live.pop())
        before = {tensor.op for tensor in found[-1].inputs} | set(found[-1].control_inputs)
        live |= before.difference(found)

    def images_of(kind, tensor):
        return [op.inputs[tensor].shape[0] for op in found if op.type == kind]

    assert sum(images_of("Conv2D", 0)) == sum(passes)
    assert sum(images_of("Conv2DBackpropInput", 2)) == passes.gradient
    assert images_of("Conv2DBackpropFilter", 0) == [passes.training]
    assert max(images_of("Conv2D", 0)) <= max(passes.training, 10)
