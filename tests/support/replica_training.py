"""Run as a script: trains on one device and on logical CPUs, and says how far apart they end.

TensorFlow counts its devices once, so that tests run this in a process of their own:
`replica_training.py REPLICAS CASE…` prints a JSON object for each case.
"""

import functools
import json
import sys

import numpy as np
import tensorflow as tf

from keras_srt.config.schema import AugmentationSettings
from keras_srt.core.tensorflow import keras
from keras_srt.data import BatchSizes, evaluation_batches, training_batches
from keras_srt.data.sharding import distribute, split_rows
from keras_srt.models import MODELS
from keras_srt.neighborhoods import L0, Color, Composite, LInf, Spatial
from keras_srt.objectives import SRT, UAT, Standard
from keras_srt.training.model import RobustModel
from keras_srt.training.strategy import make_strategy

STEPS = 10
PIXEL = LInf(epsilon=0.1, num_steps=2)
TURN = Spatial(max_rotation=20, max_translation=1, num_samples=2)
CNN = {"name": "small_cnn", "width": 2, "hidden": 8, "dropout": 0.0}
RESNET = {"name": "resnet", "filters": [2, 2], "blocks": 1}  # with BatchNorm
# Model, neighborhood, objective, and whether the weights are clipped and averaged.
CASES = {
    "pixel": (CNN, PIXEL, SRT(robust_weight=0.7), False),
    "spatial": (CNN, TURN, SRT(), False),
    "composite": (RESNET, Composite(stages=(PIXEL, TURN)), SRT(), False),
    "sparse": (CNN, L0(epsilon=4, num_steps=2), SRT(), False),
    "color": (RESNET, Color(num_steps=2), UAT(), True),
    "standard": (RESNET, None, Standard(), False),
    "frozen": (RESNET, PIXEL, SRT(), True),
}
SIZES = BatchSizes(labeled=5, unlabeled=8)
# The last batch is smaller, and shared out unevenly.
VALIDATION, VALIDATION_BATCH = 13, 8


def trained(case, strategy):
    """The weights, how far they moved, the history, and the saved means of one training."""
    spec, neighborhood, objective, updated = CASES[case]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 16, 16, 1), np.uint8)
    labels = np.int32(generator.integers(0, 3, 40))
    answers = np.int32(generator.integers(0, 3, 31))
    with strategy.scope():
        keras.utils.set_random_seed(0)
        classifier = MODELS.build(spec).build((16, 16, 1), 3)
        model = RobustModel(
            classifier,
            neighborhood,
            objective,
            seed=3,
            weight_decay=0.01,
            gradient_clip=0.5 if updated else None,
            ema=0.9 if updated else None,
            freeze=STEPS // 2 if case == "frozen" else 0,
        )
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        model.optimizer.build(classifier.trainable_variables)
    start = classifier.get_weights()
    batches = functools.partial(
        training_batches,
        images[:9],
        labels[:9],
        images[9:],
        SIZES if objective.uses_unlabeled else BatchSizes(sum(SIZES), 0),
        seed=3,
        augmentation=AugmentationSettings(pad=1, flip=True),
        pseudo_labels=answers if objective.uses_teacher else None,
    )
    whole = evaluation_batches(images[:VALIDATION], labels[:VALIDATION], VALIDATION_BATCH)
    saved = SavedMeans()
    history = model.fit(
        distribute(strategy, lambda replicas: batches(replicas=replicas)),
        steps_per_epoch=STEPS,
        validation_data=distribute(strategy, functools.partial(split_rows, whole)),
        validation_steps=-(-VALIDATION // VALIDATION_BATCH),
        callbacks=[saved],
        verbose=0,
    ).history
    weights = classifier.get_weights()
    moved = max(float(np.max(np.abs(a - b))) for a, b in zip(weights, start, strict=True))
    last = {name: values[-1] for name, values in history.items()}
    return weights + model.inference_model.get_weights(), moved, last, saved.values


class SavedMeans(keras.callbacks.Callback):
    """Sums and counts of the loss terms, as a checkpoint has them."""

    def on_test_begin(self, logs=None):
        means = self.model.term_metrics
        self.values = [float(tf.convert_to_tensor(v)) for mean in means for v in mean.variables]


def collective_operations(strategy):
    """TensorFlow's collective operations in the graph of a sum over the replicas."""

    @tf.function(autograph=False)
    def total():
        replica = tf.distribute.get_replica_context
        return strategy.run(lambda: replica().all_reduce("SUM", tf.ones(2)))

    graph = total.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for of in graph.library.function for node in of.node_def)]
    return sorted({node.op for node in nodes if node.op.startswith("Collective")})


def main(count, cases):
    """Prints, case by case, how far the weights of several replicas are from those of one."""
    cpus = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpus[0], logical)
    # One strategy for all cases: TensorFlow numbers the sums of each from 0 and confuses them.
    several = make_strategy("mirrored")
    for case in cases:
        one, moved, history, means = trained(case, make_strategy("one_device"))
        weights, _, its_history, its_means = trained(case, several)
        pairs = list(zip(one, weights, strict=True))
        result = {
            "case": case,
            "replicas": several.num_replicas_in_sync,
            "collective": collective_operations(several),
            "moved": moved,
            "difference": max(float(np.max(np.abs(a - b))) for a, b in pairs),
            "history": {name: [history[name], its_history[name]] for name in history},
            "means": [means, its_means],
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
