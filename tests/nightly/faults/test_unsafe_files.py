"""Model files that could run code or reach out of the process are refused, and do neither."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny, write_config
from unsafe_models import save_program

from keras_srt.cli import main as cli
from keras_srt.core.tensorflow import keras
from keras_srt.pipeline.run_folder import RunFolder

GROUP = "unsafe model files"


class Bomb:
    """A pickle of it makes a file when it is opened."""

    def __init__(self, trace):
        self._trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self._trace,)


@pytest.fixture
def trace(tmp_path):
    """What unsafe files would leave; nothing is there in the end."""
    path = tmp_path / "trace"
    yield path
    assert not path.exists()


@pytest.fixture
def assert_refused(tmp_path, capsys):
    """Refused in one line by `evaluate`."""

    def check(model, *words, more=()):
        config = write_config(tmp_path, tiny())
        arguments = ["evaluate", "--model", str(model), "--config", str(config), *more]
        assert cli.main([*arguments, "--limit", "4"]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        for word in (str(model), *words):
            assert word in lines[0]

    return check


def pickled(value):
    """Bytes of a pickle, without the name that the package's own rules forbid."""
    file = io.BytesIO()
    np.save(file, np.array([value], object), allow_pickle=True)
    return file.getvalue()


def plain_pickle(value):
    content = pickled(value)
    return content[content.index(b"\n") + 1 :]


def small_model(*layers):
    model = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten(), *layers])
    return keras.Model(model.inputs, keras.layers.Dense(10)(model.output))


def changed(path, change):
    """Rewrites the config.json of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    content["config.json"] = json.dumps(change(config) or config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ["model.pkl", "model.keras"])
def test_a_pickle(name, tmp_path, trace, assert_refused):
    (tmp_path / name).write_bytes(plain_pickle(Bomb(trace)))
    assert_refused(tmp_path / name, "is a pickle, which runs code")


def test_an_array_that_is_a_pickle(tmp_path, trace, assert_refused):
    (tmp_path / "model.npy").write_bytes(pickled(Bomb(trace)))
    assert_refused(tmp_path / "model.npy", "is a pickle, which runs code")


def test_pseudo_labels_that_are_a_pickle(tmp_path, trace):
    from keras_srt.core.errors import UserError
    from keras_srt.pipeline import teacher

    run = RunFolder(tmp_path / "run")
    run.teacher.path.mkdir(parents=True)
    run.pseudo_labels.write_bytes(pickled(Bomb(trace)))
    with pytest.raises(UserError, match="can't be read"):
        teacher._load(run, 1, 10)


def test_hdf5_with_a_lambda_layer(tmp_path, assert_refused):
    path = tmp_path / "model.h5"
    small_model(keras.layers.Lambda(lambda x: x + 1.0)).save(path)
    assert_refused(path, "is an HDF5 file, whose Lambda layers run code")


def test_keras_file_with_a_lambda_layer(tmp_path, assert_refused):
    path = tmp_path / "model.keras"
    small_model(keras.layers.Lambda(lambda x: x + 1.0)).save(path)
    assert_refused(path, "names 'Lambda' of keras.layers")


def test_keras_file_with_an_operation_on_files(tmp_path, trace, assert_refused):
    path = tmp_path / "model.keras"
    small_model().save(path)

    def change(config):
        made = {"name": "e", "function": "io.gfile.makedirs"}
        nodes = [["_CONSTANT_VALUE", -1, str(trace), {}]]
        layer = {"class_name": "TFOpLambda", "config": made, "name": "e", "inbound_nodes": nodes}
        config["config"]["layers"].append(layer)

    assert_refused(changed(path, change), "names 'TFOpLambda' without its module")


def test_keras_file_that_names_a_function_of_another_module(tmp_path, trace, assert_refused):
    path = tmp_path / "model.keras"
    small_model().save(path)

    def change(config):
        return {"module": "os", "class_name": "mkdir", "config": {"path": str(trace)}}

    assert_refused(changed(path, change), "names 'mkdir' of os")


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/keras-srt-evil.txt"])
def test_keras_file_that_would_write_elsewhere(name, tmp_path, assert_refused):
    path = tmp_path / "model.keras"
    small_model().save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "evil")
    assert_refused(path, "would write outside of its folder")
    assert not os.path.exists(os.path.join(tmp_path, name))


def test_savedmodel_that_writes_a_file(tmp_path, trace, assert_refused, capsys):
    path = tmp_path / "saved"
    save_program(path, lambda image: [tf.io.write_file(str(trace), "evil")])
    assert_refused(path, "WriteFile", "give --foreign")


def test_savedmodel_that_writes_a_file_is_not_served(tmp_path, trace, capsys):
    save_program(tmp_path / "name" / "1", lambda image: [tf.io.write_file(str(trace), "evil")])
    assert cli.main(["serve", "--model", str(tmp_path / "name"), "--port", "0"]) == 2
    assert "WriteFile" in capsys.readouterr().err


def test_tflite_file_that_writes_a_file(tmp_path, trace, assert_refused):
    @tf.function(input_signature=[tf.TensorSpec([1, 16, 16, 1])])
    def run(image):
        with tf.control_dependencies([tf.io.write_file(str(trace), "evil")]):
            return tf.reshape(image, [1, 256])[:, :10] + 1.0

    converter = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()])
    builtin, flex = tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS
    converter.target_spec.supported_ops = [builtin, flex]
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    assert_refused(tmp_path / "model.tflite", "has the operations Flex")
