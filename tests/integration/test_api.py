"""The API for Keras users: the README's example, callbacks, and what `import keras_srt` costs."""

import ast
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from api_example import EXAMPLE

import keras_srt as srt
from keras_srt import keras
from keras_srt.training.optimization import Warmup


def config_of(model):
    """The config without the numbers by which Keras 3 finds shared objects."""

    def without_ids(part):
        return {key: value for key, value in part.items() if key != "shared_object_id"}

    return json.loads(json.dumps(model.get_config()), object_hook=without_ids)


def write_photos(folder, count, classes=("cat", "dog", "owl")):
    """Images of one bright channel per class, with noise; class folders if there are any."""
    generator = np.random.default_rng(0)
    for number in range(count):
        label = number % 3
        pixels = generator.integers(0, 100, (96, 96, 3), np.uint8)
        pixels[..., label] += 100
        path = folder / (classes[label] if classes else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, pixels, scale=False)


def make_classifier(side):
    means = keras.layers.AveragePooling2D(side)
    return keras.Sequential(
        [keras.Input((side, side, 3)), means, keras.layers.Flatten(), keras.layers.Dense(3)]
    )


def test_the_example_of_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_photos(Path("photos/labeled"), 12)
    write_photos(Path("photos/unlabeled"), 20, classes=())
    write_photos(Path("photos/test"), 3)
    load = keras.utils.image_dataset_from_directory
    test = load("photos/test", image_size=(96, 96), batch_size=4)
    # The attacks of AutoAttack have tests of their own.
    monkeypatch.setattr(srt.AutoAttack, "members", property(lambda self: (srt.FGSM(self.epsilon),)))
    names = {"classifier": make_classifier(96), "validation": test, "test": test}
    exec(EXAMPLE, names)
    low, high = names["result"].confidence_interval
    assert low <= names["result"].robust_accuracy <= names["result"].clean_accuracy
    assert f"{names['result'].robust_accuracy} ({low}, {high})" in capsys.readouterr().out
    assert Path("saved_models/photos/1/saved_model.pb").is_file()
    assert Path("saved_models/photos/tflite/1/model_int8.tflite").is_file()
    assert names["result"].report()["attacks"][0]["name"] == "autoattack"


IMAGES = np.random.default_rng(0).random((12, 8, 8, 3), np.float32)
LABELS = np.int32(np.arange(12) % 3)


def make_model(**settings):
    model = srt.RobustModel(make_classifier(8), srt.LInf(0.1, num_steps=2), srt.RT(), **settings)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    return model


@pytest.mark.parametrize("settings", [{}, {"ema": 0.5, "gradient_clip": 1.0, "seed": 3}])
def test_keras_callbacks_work_in_fit(settings, tmp_path, eager):
    model, callbacks, path = make_model(**settings), keras.callbacks, str(tmp_path / "best.keras")
    history = model.fit(
        IMAGES,
        LABELS,
        epochs=3,
        verbose=0,
        validation_data=(IMAGES, LABELS),
        callbacks=[
            callbacks.EarlyStopping(
                "val_robust_accuracy", mode="max", patience=1, restore_best_weights=True
            ),
            callbacks.ModelCheckpoint(path, "val_robust_accuracy", mode="max"),
            callbacks.TensorBoard(tmp_path / "logs"),
            callbacks.CSVLogger(tmp_path / "history.csv"),
        ],
    )
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert len(rows) == len(history.history["loss"])
    assert {"loss", "robust", "val_accuracy", "val_robust_accuracy"} <= set(rows[0])
    assert list((tmp_path / "logs").rglob("events*"))
    assert config_of(keras.models.load_model(path)) == config_of(model)


@pytest.mark.parametrize("settings", [{}, {"ema": 0.5, "gradient_clip": 1.0, "seed": 3}])
def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(settings, tmp_path, eager):
    model = make_model(**settings)
    model.fit(IMAGES, LABELS, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert config_of(loaded) == config_of(model)
    for one in (model, loaded):
        one.fit(IMAGES, LABELS, epochs=1, shuffle=False, verbose=0)
    np.testing.assert_array_equal(loaded.predict(IMAGES), model.predict(IMAGES))
    assert len(loaded.weights) == len(model.weights)
    for one, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_of_the_whole_model_warns_of_nothing_and_loads(tmp_path, recwarn):
    """Also of a classifier that the first batch builds, and with a schedule of this package."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    model = srt.RobustModel(keras.Sequential(layers), srt.LInf(0.1, num_steps=1), srt.RT())
    rate = Warmup(keras.optimizers.schedules.CosineDecay(0.1, 10), 5)
    model.compile(keras.optimizers.SGD(rate))
    path = str(tmp_path / "model.keras")
    model.fit(IMAGES, LABELS, verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(path)])
    warned = [str(one.message) for one in recwarn if one.category is UserWarning]
    assert [text for text in warned if "run_functions_eagerly" not in text] == []  # of a fixture
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.predict(IMAGES), model.predict(IMAGES))
    rates = [one.optimizer.get_config()["learning_rate"] for one in (loaded, model)]
    assert rates[0] == rates[1]


def test_a_saved_model_of_this_package_loads(tmp_path):
    classifier = srt.SmallCNN(2, hidden=4, dropout=0.3).build((16, 16, 1), 3)
    model = srt.RobustModel(classifier, srt.LInf(0.1), srt.RT())
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    for one, other in zip(loaded.classifier.layers, classifier.layers, strict=True):
        assert type(one) is type(other)


def test_a_model_round_trips_through_its_config():
    both = srt.Composite([srt.LInf("8/255"), srt.Spatial(20)])
    model = srt.RobustModel(make_classifier(8), both, srt.Trades(2.0), seed=3, strength_warmup=5)
    again = srt.RobustModel.from_config(model.get_config())
    assert (again.neighborhood, again.objective) == (both, srt.Trades(2.0))
    assert again.get_config() == model.get_config()
    plain = srt.RobustModel(make_classifier(8), None, srt.Standard())
    assert srt.RobustModel.from_config(plain.get_config()).neighborhood is None


@pytest.mark.parametrize("name", ["loss", "metrics", "loss_weights", "weighted_metrics"])
def test_compile_refuses_what_would_have_no_effect(name):
    with pytest.raises(srt.InvalidSettings, match=rf"^{name}: got .*; allowed: None, because "):
        make_model().compile("sgd", **{name: ["accuracy"]})


def test_labels_and_weights_of_another_kind_are_refused():
    one_hot = np.eye(12, dtype=np.float32)[:, :3]
    for data in ((IMAGES, one_hot), (tf.data.Dataset.from_tensors((IMAGES, one_hot)),)):
        with pytest.raises(srt.InvalidSettings, match=r"labels: got shape .*not one-hot"):
            make_model().fit(*data, verbose=0)
    with pytest.raises(srt.InvalidSettings, match="class_weight: got"):
        make_model().fit(IMAGES, LABELS, class_weight={0: 1.0, 1: 2.0, 2: 1.0}, verbose=0)


def test_images_up_to_255_give_the_same_results():
    pixels = np.uint8(IMAGES * 255)
    model = make_model()
    accuracies = [
        model.evaluate(images, LABELS, verbose=0, return_dict=True)
        for images in (pixels, np.float32(pixels), np.float32(pixels / 255))
    ]
    assert accuracies[0] == accuracies[1] == accuracies[2]
    results = [
        srt.evaluate(model, (images, LABELS), [srt.FGSM(0.1)]).report()
        for images in (pixels, np.float32(pixels))
    ]
    assert results[0]["clean"] == results[1]["clean"]


def test_export_without_training_needs_samples(tmp_path):
    with pytest.raises(srt.InvalidSettings, match=r"^samples: missing"):
        srt.export(make_model(), tmp_path / "m", class_names="abc")


@pytest.mark.parametrize("name", srt.__all__)
def test_every_public_name_resolves(name):
    assert getattr(srt, name) is not None
    assert name in dir(srt)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match=r"no_such_name"):
        srt.no_such_name  # noqa: B018


def test_the_stub_exports_what_it_imports():
    tree = ast.parse(Path(srt.__file__).with_suffix(".pyi").read_text())
    exported = ast.literal_eval(tree.body[-1].value)
    assert sorted(exported) == srt.__all__
