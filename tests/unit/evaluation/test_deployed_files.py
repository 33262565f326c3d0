"""Exported files: accuracies, agreement, warnings, and a measurement of real files."""

import numpy as np
from deployment_sample import MODELS, entry, result_of

from keras_srt.core.tensorflow import keras
from keras_srt.evaluation import deployed_files
from keras_srt.evaluation.attacked_images import AttackedImages
from keras_srt.evaluation.deployed_files import (
    Probabilities,
    accuracies,
    agreement,
    measure,
    warnings_of,
)
from keras_srt.evaluation.intervals import proportion


def probabilities_with(clean, **found):
    """Probabilities of two classes whose largest is the given class."""
    eye = np.eye(2, dtype=np.float32)
    return Probabilities(eye[clean], {name: eye[classes] for name, classes in found.items()})


def test_accuracies_require_a_correct_prediction_before_and_after():
    labels = np.int32([0, 0, 0, 1])
    probabilities = probabilities_with([0, 0, 1, 1], fgsm=[0, 1, 0, 1], pgd=[1, 0, 0, 1])
    got = accuracies(probabilities, labels)
    assert got["clean"] == proportion(np.array([True, True, False, True]))
    fgsm, pgd = got["attacks"]
    # The third image is correct after the attacks, but was misclassified before.
    assert fgsm == {"name": "fgsm", **proportion(np.array([True, False, False, True]))}
    assert pgd == {"name": "pgd", **proportion(np.array([False, True, False, True]))}
    assert got["worst_case"] == proportion(np.array([False, False, False, True]))


def test_agreement_by_hand():
    expected = np.float32([[0.75, 0.25], [0.25, 0.75], [0.5625, 0.4375], [1, 0]])
    got = np.float32([[0.5, 0.5], [0.25, 0.75], [0.4375, 0.5625], [1, 0]])
    assert agreement(expected, got) == {"same_class": 0.75, "largest_difference": 0.25}


def test_a_warning_names_each_accuracy_below_the_interval():
    (pgd, worst) = warnings_of(MODELS)
    low = 100 * result_of(0.75)["ci95"][0]
    assert pgd == (
        "int8 lost accuracy (pgd): 40.00%, where the Keras model has 75.00% (95% interval from "
        f"{low:.2f}%)"
    )
    assert worst == pgd.replace("(pgd)", "(worst case)")


def test_accuracies_in_the_interval_or_above_cause_no_warning():
    low = result_of(0.75)["ci95"][0]
    for share, count in ((low + 0.01, 0), (1.0, 0), (low - 0.01, 2)):
        others = [entry("int8", 0.95, 0.8, round(share, 2))]
        assert len(warnings_of([MODELS[0], *others])) == count, share


def test_every_exported_file_is_measured(tmp_path, monkeypatch):
    """A SavedModel that differs from the Keras model, and .tflite files that do not."""
    import tensorflow as tf

    from keras_srt.exporters.tflite import export_tflite

    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    classifier = keras.Model(inputs, outputs)
    weight = np.tile([[-1.0, 1.0]], (16, 1)).astype(np.float32)
    # Whether the mean is over 1/2.
    classifier.layers[-1].set_weights([weight, np.float32([8.0, -8.0])])

    def constant(self, image):
        shape = [tf.shape(image)[0], 1]
        return {"probabilities": tf.tile([[0.0, 1.0]], shape)}

    served = tf.Module()
    served.answer = tf.function(
        lambda image: constant(served, image),
        input_signature=[tf.TensorSpec([None, 4, 4, 1], name="image")],
    )
    tf.saved_model.save(served, str(tmp_path / "7"), signatures={"image": served.answer})
    dark, bright = np.full((3, 4, 4, 1), 0.2, np.float32), np.full((3, 4, 4, 1), 0.8, np.float32)
    export_tflite(classifier, ["dark", "bright"], tmp_path / "tflite", 7, np.r_[dark, bright])
    (tmp_path / "tflite" / "7" / "model_dynamic.tflite").unlink()
    latency = {"median": 1.0, "p99": 2.0, "rounds": 30}
    names = ["savedmodel", "float32", "float16", "int8"]
    monkeypatch.setattr(deployed_files, "measure_latency", lambda *_: dict.fromkeys(names, latency))
    images = np.r_[dark, bright]
    attacked = AttackedImages(
        images, np.int32([0, 0, 0, 1, 1, 1]), {"swap": images[[0, 1, 3, 3, 4, 0]]}
    )

    part = measure(classifier, tmp_path / "7", tmp_path / "tflite" / "7", attacked)

    assert (part["version"], part["n"], part["threads"], part["batch"]) == (7, 6, 1, 1)
    models = {entry["name"]: entry for entry in part["models"]}
    assert list(models) == ["keras", *names]
    for name in ("keras", "float32", "float16", "int8"):
        assert models[name]["clean"]["accuracy"] == 1
        assert models[name]["attacks"] == [
            {"name": "swap", **proportion(np.array([1, 1, 0, 1, 1, 0], bool))}
        ]
    assert models["savedmodel"]["clean"]["accuracy"] == 0.5
    assert models["savedmodel"]["attacks"][0]["accuracy"] == 0.5
    assert models["savedmodel"]["agreement"]["same_class"] == 0.5
    assert models["float32"]["agreement"]["largest_difference"] < 1e-5
    size = (tmp_path / "tflite" / "7" / "model_float32.tflite").stat().st_size
    assert models["float32"]["bytes"] == size
    files = [path for path in (tmp_path / "7").rglob("*") if path.is_file()]
    assert models["savedmodel"]["bytes"] == sum(path.stat().st_size for path in files)
    assert models["int8"]["latency_ms"] == latency
    assert [line.split(":")[0] for line in part["warnings"]] == ["savedmodel lost accuracy (clean)"]


def test_a_slow_model_is_measured_on_fewer_images():
    empty = np.zeros((500, 1, 1, 1), np.float32)
    attacked = AttackedImages(empty, np.zeros(500, np.int32), {"fgsm": empty, "pgd": empty})
    for milliseconds, images in ((0.5, 20000), (100, 100), (5000, 50)):
        latencies = {name: {"median": milliseconds} for name in ("savedmodel", "int8")}
        assert deployed_files._affordable(attacked, latencies) == images
