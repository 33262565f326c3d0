"""Classifiers of which everything is known in closed form, and a way to attack them."""

import numpy as np
import tensorflow as tf

from keras_srt.attacks import Criterion, TargetModel

SEED = [3, 5]


def linear(weights, scale=1.0):
    """f(x) = scale·W(x - 1/2) for weights [height, width, channels, classes]."""
    weights = tf.constant(scale * weights, tf.float32)
    return lambda images: tf.tensordot(images - 0.5, weights, 3)


def constant(classes=4):
    """Answers class 0, whatever it is shown."""
    answer = tf.one_hot(0, classes)
    return lambda images: 0 * tf.reduce_sum(images, axis=[1, 2, 3])[:, None] + answer


def without_gradient(classifier, levels=16):
    """The classifier behind a quantization whose gradient is 0 everywhere."""

    def logits(images):
        return classifier(tf.stop_gradient(tf.round(images * levels) / levels) + 0 * images)

    return logits


def answers(classifier, images):
    """The classifier's own answers."""
    return np.int32(np.argmax(classifier(tf.constant(images)), axis=1))


def run(attack, classifier, images, labels, seed=SEED, targets=None, batch_size=500):
    """Runs an attack and returns what it found and the target_model, which counts queries."""
    target_model = TargetModel(classifier, batch_size)
    return attack.run(
        target_model, images, Criterion(labels, targets), tf.constant(seed)
    ), target_model


def moved(found, images):
    """The perturbations in float64, [n, values]."""
    return (np.float64(found.images) - np.float64(images)).reshape(len(images), -1)


def dual_norm(weights, norm):
    """The largest w·δ over ‖δ‖ ≤ 1, for weights […, values]."""
    return np.abs(weights).sum(-1) if norm == "linf" else np.sqrt(np.square(weights).sum(-1))


def length(perturbation, norm):
    """‖δ‖ of each row."""
    size = np.abs(perturbation)
    return size.max(-1) if norm == "linf" else np.sqrt(np.square(size).sum(-1))
