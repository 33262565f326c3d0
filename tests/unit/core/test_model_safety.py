"""Model files are opened only if they consist of allowed parts."""

import contextlib
import json
import re
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
from helpers import ROOT
from small_models import CASES
from unsafe_models import save_program

from keras_srt.core.errors import UserError
from keras_srt.core.model_loading import check_savedmodel, load_keras_file, load_savedmodel
from keras_srt.core.model_safety import check_keras_file, check_tflite_file
from keras_srt.core.tensorflow import keras

layers = keras.layers


def test_models_are_loaded_in_one_place():
    pattern = re.compile(r"saved_model\.load\(|load_model\(|load_v2\(")
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "keras_srt").rglob("*.py")
        if pattern.search(path.read_text("utf-8"))
    }
    assert found == {"keras_srt/core/model_loading.py"}


# Keras files.


def save(path, *more):
    inputs = keras.Input((8, 8, 1))
    outputs = layers.Flatten()(inputs)
    for layer in more:
        outputs = layer(outputs)
    model = keras.Model(inputs, layers.Dense(4, activation="relu")(outputs))
    model.save(path)
    return model


def rewrite(path, name, change):
    with zipfile.ZipFile(path) as archive:
        content = {entry: archive.read(entry) for entry in archive.namelist()}
    content[name] = change(content[name])
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in content.items():
            archive.writestr(entry, data)


@pytest.fixture
def plain(tmp_path):
    save(tmp_path / "plain.keras")
    return tmp_path / "plain.keras"


@pytest.fixture
def with_layer(plain):
    """A file with another layer, as in its config."""

    def make(layer):
        def change(content):
            config = json.loads(content)
            config["config"]["layers"].append({"name": "e", "inbound_nodes": [], **layer})
            return json.dumps(config).encode()

        rewrite(plain, "config.json", change)
        return plain

    return make


def test_the_same_model_comes_back(tmp_path):
    path, images = tmp_path / "m.keras", np.random.rand(2, 8, 8, 1).astype(np.float32)
    model = save(path, layers.Rescaling(2.0), lambda x: layers.ReLU()(x * 2.0 - 1.0))
    np.testing.assert_array_equal(load_keras_file(path)(images), model(images))


@pytest.mark.parametrize("name", ["small_cnn", "resnet", "resnet9", "wide_resnet"])
def test_models_of_the_registry_pass(name, tmp_path):
    model = CASES[name][0].build((32, 32, 3), 4, "mixed_bfloat16")
    model.save(tmp_path / "m.keras")
    check_keras_file(tmp_path / "m.keras")


def test_a_loss_of_the_user_is_not_read(tmp_path):
    def own_loss(labels, outputs):
        return tf.reduce_mean(outputs)

    path = tmp_path / "m.keras"
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)])
    model.compile("sgd", own_loss)
    model.save(path)
    images = np.ones((2, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(load_keras_file(path)(images), model(images))


ADD = {"function": "__operators__.add"}
OPERATION = {"module": "keras.src.layers.core.tf_op_layer", "class_name": "TFOpLambda"}


@pytest.mark.parametrize(
    "layer",
    [
        {"class_name": "TFOpLambda", "config": {"function": "io.gfile.makedirs"}},
        {"class_name": "TFOpLambda", "config": ADD},
        {"class_name": "Dense", "config": {"units": 4}},
        {**OPERATION, "config": {"function": "io.gfile.rmtree"}},
        {**OPERATION, "config": {"function": ["__operators__.add"]}},
        {**OPERATION, "config": ADD, "registered_name": "Custom>TFOpLambda"},
        {"module": "keras.layers", "class_name": "Lambda", "config": {}},
        {"module": "keras.layers", "class_name": "TextVectorization", "config": {}},
        {"module": "keras.layers", "class_name": "StringLookup", "config": {}},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {}},
        {"module": "keras.utils", "class_name": "get_file", "config": {}},
        {"module": "keras.models", "class_name": "load_model", "config": {}},
        {"module": "keras.layers", "class_name": "layers.Dense", "config": {}},
        {"module": "keras.layers.", "class_name": "Dense", "config": {}},
        {"module": "os", "class_name": "mkdir", "config": {}},
        {"module": ["keras.layers"], "class_name": "Dense", "config": {}},
        {"module": "keras.layers", "class_name": ["Dense"], "config": {}},
        {"module": "builtins", "class_name": "function", "config": "relu"},
        {"class_name": "function", "config": "relu"},
        {"class_name": "__lambda__", "config": {"value": ""}},
        {"class_name": "__typespec__", "spec_name": "x", "config": {}},
    ],
    ids=lambda layer: f"{layer.get('module')} {layer['class_name']}"[:50],
)
def test_other_classes_are_refused(layer, with_layer):
    with pytest.raises(UserError, match="is no part of plain Keras classifiers"):
        check_keras_file(with_layer(layer))


@pytest.mark.parametrize(
    "settings",
    [{"activation": "get_file"}, {"recurrent_activation": "x"}, {"kernel_initializer": "zeros"}],
    ids=str,
)
def test_names_that_keras_would_look_up_are_refused(settings, with_layer):
    layer = {"module": "keras.layers", "class_name": "Dense", "config": settings}
    with pytest.raises(UserError, match="is no object of Keras"):
        check_keras_file(with_layer(layer))


def test_a_refused_class_is_found_at_any_depth(with_layer):
    inner = {"class_name": "Lambda", "config": {}}
    outer = {"layer": [{"deep": {"model": inner}}]}
    layer = {"module": "keras.layers", "class_name": "TimeDistributed", "config": outer}
    with pytest.raises(UserError, match="'Lambda' without its module"):
        check_keras_file(with_layer(layer))


@pytest.mark.parametrize("kind", ["link", "data"])
def test_weights_in_other_files_are_refused(kind, plain, tmp_path):
    def change(content):
        path = tmp_path / "w.h5"
        path.write_bytes(content)
        with h5py.File(path, "a") as file:
            if kind == "link":
                file["x"] = h5py.ExternalLink("/etc/passwd", "/")
            else:
                file.create_dataset("x", (4,), "u1", external=[("/etc/passwd", 0, 4)])
        return path.read_bytes()

    rewrite(plain, "model.weights.h5", change)
    with pytest.raises(UserError, match=r"in its weights|in another file"):
        check_keras_file(plain)


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"\xff", b'"x"'])
def test_a_damaged_config_is_refused(content, plain):
    rewrite(plain, "config.json", lambda _: content)
    with pytest.raises(UserError, match="can't be loaded"):
        check_keras_file(plain)


# SavedModels.


PROGRAMS = {
    "WriteFile": lambda x: [tf.io.write_file("made", "x")],
    "ReadFile": lambda x: [tf.io.read_file("made")],
    "SaveV2": lambda x: [tf.raw_ops.SaveV2(
        prefix="made", tensor_names=["x"], shape_and_slices=[""], tensors=[x])],
    "Save": lambda x: [tf.raw_ops.Save(filename="made", tensor_names=["x"], data=[x])],
    "RestoreV2": lambda x: [tf.raw_ops.RestoreV2(
        prefix="made", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])[0]],
    "PrintV2": lambda x: [tf.print("x")],
    "EagerPyFunc": lambda x: [tf.py_function(lambda: 1.0, [], tf.float32)],
    "CreateSummaryFileWriter": lambda x: [tf.raw_ops.CreateSummaryFileWriter(
        writer=tf.raw_ops.SummaryWriter(), logdir="made", max_queue=1, flush_millis=1,
        filename_suffix="")],
    "DatasetToTFRecord": lambda x: [tf.raw_ops.DatasetToTFRecord(
        input_dataset=tf.data.Dataset.from_tensors("x")._variant_tensor, filename="made",
        compression_type="")],
    "CacheDataset": lambda x: [
        tf.data.Dataset.from_tensors(1).cache("made").reduce(0, lambda a, b: b)],
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_savedmodels_with_other_operations_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_program(tmp_path / "saved", PROGRAMS[name])
    with pytest.raises(UserError, match=rf"{name}\w*,? .*--foreign"):
        load_savedmodel(tmp_path / "saved")
    assert not list(tmp_path.glob("made*"))
    assert load_savedmodel(tmp_path / "saved", foreign=True).signatures


def test_operations_in_branches_are_found(tmp_path):
    def run(image):
        def write():
            with tf.control_dependencies([tf.io.write_file("made", "x")]):
                return tf.constant(1.0)

        return [tf.cond(tf.reduce_sum(image) > 0, write, lambda: 1.0)]

    save_program(tmp_path, run)
    with pytest.raises(UserError, match="WriteFile"):
        check_savedmodel(tmp_path)


def parsed(folder):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return saved, saved.meta_graphs[0]


def saver_function(graph):
    name = graph.saver_def.save_tensor_name.partition(":")[0]
    (node,) = [node for node in graph.graph_def.node if node.name == name]
    return node.attr["f"].func.name


def call_from_a_function(graph):
    function = graph.graph_def.library.function[0]
    called = function.node_def.add(name="evil", op="PartitionedCall")
    called.attr["f"].func.name = saver_function(graph)


def name_as_a_method(graph):
    node = graph.object_graph_def.nodes.add()
    node.function.concrete_functions.append(saver_function(graph))


def name_as_a_signature(graph):
    node = graph.object_graph_def.nodes.add()
    node.bare_concrete_function.concrete_function_name = saver_function(graph)


def call_as_an_operation(graph):
    graph.graph_def.node.add(name="evil", op=saver_function(graph))


def implement_another(graph):
    (function,) = [
        function
        for function in graph.graph_def.library.function
        if function.signature.name == saver_function(graph)
    ]
    function.attr["api_implements"].s = b"other"


@pytest.mark.parametrize(
    "change",
    [
        call_from_a_function,
        name_as_a_method,
        name_as_a_signature,
        call_as_an_operation,
        implement_another,
    ],
)
def test_the_saver_is_for_nothing_else(change, tmp_path):
    save_program(tmp_path, lambda x: None)
    check_savedmodel(tmp_path)
    saved, graph = parsed(tmp_path)
    change(graph)
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(UserError, match="SaveV2"):
        check_savedmodel(tmp_path)


def test_a_file_that_tensorflow_prefers_is_refused(tmp_path):
    save_program(tmp_path, lambda x: None)
    (tmp_path / "saved_model.cpb").touch()
    with pytest.raises(UserError, match="can't be checked"):
        check_savedmodel(tmp_path)


def test_plain_keras_classifiers_pass(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.Rescaling(1 / 255),
            layers.SeparableConv2D(4, 3, activation="swish"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Dropout(0.5),
            layers.LayerNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(np.ones([4, 32, 32, 3], np.float32), np.zeros(4), verbose=0)
    model.export(str(tmp_path / "m"))
    check_savedmodel(tmp_path / "m")
    model.save(tmp_path / "m.keras")
    load_keras_file(tmp_path / "m.keras")


@pytest.mark.parametrize(
    ("other", "python"), [("2.15.0", "3.10 or 3.11"), ("3.15.1", "3.12 or newer")]
)
def test_a_file_of_the_other_keras_is_answered_by_the_way_out(plain, other, python):
    rewrite(plain, "metadata.json", lambda _: json.dumps({"keras_version": other}).encode())
    if other.startswith(keras.__version__[0]):
        load_keras_file(plain)
        return
    with pytest.raises(UserError) as caught:
        load_keras_file(plain)
    message = str(caught.value)
    assert f"was saved by Keras {other}, and Keras {keras.__version__} is installed" in message
    assert f"on Python {python}" in message
    assert "model.export" in message


# TFLite files.


def convert(function, *select):
    made = tf.function(function, input_signature=[tf.TensorSpec([1, 4])], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([made.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, *select]
    converter.allow_custom_ops = True
    return converter.convert()


def test_tflite_files_with_flex_operations_are_refused(tmp_path):
    def run(x):
        with tf.control_dependencies([tf.io.write_file("made", "x")]):
            return tf.math.asin(x) + 1.0

    path = tmp_path / "m.tflite"
    path.write_bytes(convert(run, tf.lite.OpsSet.SELECT_TF_OPS))
    with pytest.raises(ValueError, match="has the operations Flex"):
        check_tflite_file(path)


def test_tflite_files_of_its_own_operations_pass(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(lambda x: tf.nn.softmax(x * 2.0)))
    check_tflite_file(path)


def test_any_part_of_a_tflite_file_is_read_or_refused(tmp_path):
    content, path = convert(lambda x: tf.nn.softmax(x * 2.0)), tmp_path / "m.tflite"
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with contextlib.suppress(ValueError):
            check_tflite_file(path)
