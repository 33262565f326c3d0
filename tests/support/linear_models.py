"""Classifiers with closed-form results under attack, and helpers to attack them."""

import copy
import functools

import numpy as np
import tensorflow as tf

from keras_srt.attacks import Criterion, TargetModel

SEED = [3, 5]


def once_per_arrays(make):
    """Decorate a function so that equal arrays give the same classifier, which is traced once."""
    made = {}

    @functools.wraps(make)
    def get(*arrays, **scale):
        key = tuple(
            (np.shape(array), np.float64(array).tobytes()) for array in (*arrays, *scale.values())
        )
        if key not in made:
            made[key] = make(*arrays, **scale)
        return made[key]

    return get


@once_per_arrays
def linear(weights, scale=1.0):
    """f(x) = scale·W(x - 1/2) for weights [height, width, channels, classes]."""
    weights = np.float32(scale * weights)
    return lambda images: tf.tensordot(images - 0.5, weights, 3)


@once_per_arrays
def affine(weights, bias):
    """f(x) = (x - 1/2)·W + b for W of shape [values, classes]."""
    weights, bias = np.float32(weights), np.float32(bias)
    return lambda images: (tf.reshape(images, [-1, weights.shape[0]]) - 0.5) @ weights + bias


@functools.cache
def constant(classes=4):
    """Class 0 for every image."""
    logits = np.eye(1, classes, dtype=np.float32)
    return lambda images: 0 * tf.reduce_sum(images, axis=[1, 2, 3])[:, None] + logits


def without_gradient(classifier, levels=16):
    """The classifier behind a quantization whose gradient is 0 everywhere."""

    def logits(images):
        return classifier(tf.stop_gradient(tf.round(images * levels) / levels) + 0 * images)

    return logits


def predict_classes(classifier, images):
    """Predicted classes."""
    return np.int32(np.argmax(classifier(tf.constant(images)), axis=1))


@functools.lru_cache(maxsize=32)
def traced_model(classifier, batch_size):
    return TargetModel(classifier, batch_size)


def target_model(classifier, batch_size=500):
    """A model without a query; all models of a classifier share the functions that are traced."""
    return copy.copy(traced_model(classifier, batch_size))


def run(attack, classifier, images, labels, targets=None, seed=SEED, batch_size=500):
    """Run an attack; return its result and the model, which counts queries."""
    model = target_model(classifier, batch_size)
    targets = None if targets is None else np.int32(targets)
    return attack.run(model, images, Criterion(np.int32(labels), targets), tf.constant(seed)), model


class RecordingModel(TargetModel):
    """Records the images of each gradient query."""

    def __init__(self, classifier):
        super().__init__(classifier)
        self.queried = []

    def gradient(self, images, criterion, **settings):
        self.queried.append(np.array(images))
        return super().gradient(images, criterion, **settings)


def pairwise_distances(weights, bias, images, labels):
    """|f_y - f_j| / ‖w_y - w_j‖₂ of `affine` for every class j, [n, classes]; infinite for y."""
    logits = (np.float64(images).reshape(len(images), -1) - 0.5) @ weights + bias
    own = logits[np.arange(len(labels)), labels]
    away = weights[:, labels].T[:, :, None] - weights[None]
    norm = np.sqrt(np.square(away).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (own[:, None] - logits) / norm
    return np.where(np.arange(len(bias)) == np.asarray(labels)[:, None], np.inf, ratio)


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
