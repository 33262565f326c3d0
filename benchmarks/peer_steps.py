"""The same training step in several libraries; each job makes a program that runs one step.

The model is SmallCNN on 28×28 images, the batch 128 images, the search k steps of projected
gradient ascent on the cross-entropy in an L∞ ball from a random start, the optimizer SGD with
momentum. A step of `srt` computes pseudo-labels of 128 images, perturbs them, and trains on the 21
labeled images and all perturbed images; a step of `adversarial` perturbs 128 labeled images and
trains on them, as ART's trainer does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from steps import compiled, random_batch, whole_step

SHAPE, CLASSES = (28, 28, 1), 10
LABELED, IMAGES = 21, 128
EPSILON, STEPS = 0.3, 10
STEP_SIZE = 2.5 * EPSILON / STEPS
RATE, MOMENTUM = 1e-4, 0.9

# Runs one training step and waits for its end.
Step = Callable[[], Any]


class Job(NamedTuple):
    """A library's training step.

    Attributes:
        task: "srt" or "adversarial".
        distribution: The library's distribution.
        make: Builds model and batch and returns the step.
    """

    task: str
    distribution: str
    make: Callable[[], Step]


def _ours(task: str, precision: str = "float32") -> Step:
    from keras_srt import SRT, Adversarial, LInf, RobustModel, SmallCNN

    ball = LInf(epsilon=EPSILON, num_steps=STEPS)
    srt = task == "srt"
    classifier = SmallCNN().build(SHAPE, CLASSES, precision)
    model = compiled(RobustModel(classifier, ball, SRT() if srt else Adversarial()))
    labeled = LABELED if srt else IMAGES
    return whole_step(model, random_batch(labeled, IMAGES - labeled, SHAPE))


def _torch(precision: str) -> Step:
    """The published SRT: eager, channels last, the fastest number of threads."""
    import torch
    from torch.nn import functional

    model = _torch_model().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, SHAPE[2], *SHAPE[:2], generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (LABELED,), generator=generator)
    low, high = (images - EPSILON).clamp(min=0.0), (images + EPSILON).clamp(max=1.0)
    lower = torch.autocast("cpu", torch.bfloat16, enabled=precision != "float32")

    def logits(x: torch.Tensor) -> torch.Tensor:
        with lower:
            return model(x).float()

    def search(answers: torch.Tensor) -> torch.Tensor:
        now = images + EPSILON * (2 * torch.rand_like(images) - 1)
        now = now.clamp(0.0, 1.0)
        for _ in range(STEPS):
            now.requires_grad_(True)
            loss = functional.cross_entropy(logits(now), answers, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, now)
            now = now.detach().add_(gradient.sign_(), alpha=STEP_SIZE)
            now = torch.minimum(torch.maximum(now, low), high)
        return now

    def step() -> None:
        model.eval()
        with torch.no_grad():
            answers = logits(images).argmax(1)
        # Otherwise each pass of the search would also compute the gradient of the weights.
        model.requires_grad_(False)
        perturbed = search(answers)
        model.requires_grad_(True)
        model.train()
        outputs = logits(torch.cat([images[:LABELED], perturbed]))
        loss = functional.cross_entropy(outputs[:LABELED], labels)
        loss = loss + functional.cross_entropy(outputs[LABELED:], answers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    torch.set_num_threads(_fastest(step, torch.set_num_threads))
    return step


def _torch_model() -> Any:
    """SmallCNN in Torch: the same layers, the same number of weights."""
    from torch import nn

    layers: list[nn.Module] = []
    channels = SHAPE[2]
    for filters in (32, 64):
        for _ in range(2):
            layers += [nn.Conv2d(channels, filters, 3), nn.ReLU(inplace=True)]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(64 * 4 * 4, 200), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    layers += [nn.Linear(200, 200), nn.ReLU(inplace=True), nn.Linear(200, CLASSES)]
    return nn.Sequential(*layers)


def _fastest(step: Step, set_threads: Callable[[int], None]) -> int:
    """The number of threads, up to the number of cores, with the fastest step."""

    def seconds(threads: int) -> float:
        set_threads(threads)
        took = []
        for _ in range(4):
            began = time.perf_counter()
            step()
            took.append(time.perf_counter() - began)
        return min(took)

    return min(range(1, (os.cpu_count() or 1) + 1), key=seconds)


def _foolbox() -> Step:
    """SRT with Foolbox's PGD; the rest in two `tf.function`s."""
    import foolbox

    from keras_srt import SmallCNN
    from keras_srt.core.tensorflow import keras, tf

    classifier = SmallCNN().build(SHAPE, CLASSES)
    batch = random_batch(LABELED, IMAGES - LABELED, SHAPE)
    labeled, labels = batch["labeled"]
    images = tf.concat([labeled, batch["unlabeled"]], 0)
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    subject = foolbox.TensorFlowModel(classifier, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=STEPS, random_start=True)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits

    @tf.function(autograph=False)
    def answer() -> tf.Tensor:
        return tf.argmax(classifier(images, training=False), -1, output_type=tf.int32)

    @tf.function(autograph=False)
    def train(perturbed: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = classifier(tf.concat([labeled, perturbed], 0), training=True)
            loss = tf.reduce_mean(losses(labels, logits[:LABELED]))
            loss += tf.reduce_mean(losses(answers, logits[LABELED:]))
        weights = classifier.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    def step() -> None:
        answers = answer()
        # Only the ascent: calling the attack would also clip and verify the result.
        perturbed = attack.run(subject, images, answers, epsilon=EPSILON)
        train(perturbed, answers).numpy()

    return step


def _art() -> Step:
    """ART's Madry trainer with a `tf.function` as training step, as its documentation advises."""
    from art.defences.trainer import AdversarialTrainerMadryPGD
    from art.estimators.classification import TensorFlowV2Classifier

    from keras_srt import SmallCNN
    from keras_srt.core.tensorflow import keras, tf

    classifier = SmallCNN().build(SHAPE, CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)

    @tf.function
    def train(model: Any, images: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    estimator = TensorFlowV2Classifier(
        classifier,
        nb_classes=CLASSES,
        input_shape=SHAPE,
        loss_object=loss,
        train_step=train,
        clip_values=(0.0, 1.0),
    )
    trainer = AdversarialTrainerMadryPGD(
        estimator, batch_size=IMAGES, eps=EPSILON, eps_step=STEP_SIZE, max_iter=STEPS
    )
    images, labels = (part.numpy() for part in random_batch(IMAGES, 0, SHAPE)["labeled"])
    return lambda: trainer.fit(images, labels, batch_size=IMAGES, nb_epochs=1)


JOBS: dict[str, Job] = {
    "keras_srt": Job("srt", "tensorflow", partial(_ours, "srt", "float32")),
    "keras_srt, bfloat16": Job("srt", "tensorflow", partial(_ours, "srt", "mixed_bfloat16")),
    "Torch": Job("srt", "torch", partial(_torch, "float32")),
    "Torch, bfloat16": Job("srt", "torch", partial(_torch, "bfloat16")),
    "Foolbox": Job("srt", "foolbox", _foolbox),
    "keras_srt, adversarial": Job("adversarial", "tensorflow", partial(_ours, "adversarial")),
    "ART": Job("adversarial", "adversarial-robustness-toolbox", _art),
}
