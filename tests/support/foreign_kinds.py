"""Third-party models, each by evaluate, predict, export and serve."""

import contextlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from serving_helpers import ask, rows, running

import keras_srt as srt
from keras_srt.cli import main as cli
from keras_srt.cli.serve import served_folder
from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras, tf, tf_variable

SIZE, IMAGES = 8, 30
COMMANDS = ("evaluate", "predict", "export", "serve")
YES = "yes"
# Largest difference of a probability from that of the original.
TOLERANCE = 1e-5
UNIT = ("--input-range", "0,1")
_METADATA = "metadata.json"


class Foreign(NamedTuple):
    """A saved model, or a function.

    Attributes:
        path: The file or folder; None for a function.
        options: What must be declared.
        probabilities: float32 images [n, 8, 8, 1] in [0, 1] -> its probabilities [n, classes].
        has_gradients: Whether gradient attacks are possible.
        function: The function, if there is no file.
    """

    path: Path | None
    options: tuple[str, ...]
    probabilities: object
    has_gradients: bool = True
    function: object = None


def network(outputs=3, activation=None, before=(), gain=1.0, shape=(SIZE, SIZE, 1)):
    """A small network with separated classes; `gain` is the contrast that it expects."""
    keras.utils.set_random_seed(3)
    layers = [keras.Input(shape), *before, keras.layers.Conv2D(4, 3, activation="relu")]
    layers += [keras.layers.Flatten(), keras.layers.Dense(outputs, activation=activation)]
    model = keras.Sequential(layers)
    convolution, dense = model.layers[-3], model.layers[-1]
    convolution.set_weights([weight / gain for weight in convolution.get_weights()])
    kernel, bias = dense.get_weights()
    dense.set_weights([8 * (kernel - kernel.mean(axis=0)), bias])
    return model


def softmax(logits):
    return tf.nn.softmax(logits).numpy()


def _logits_of(model, prepare=lambda x: x):
    return lambda images: softmax(model(tf.constant(prepare(images)), training=False))


def _outputs_of(model, prepare=lambda x: x):
    return lambda images: np.asarray(model(tf.constant(prepare(images)), training=False))


def keras_file(folder, major):
    model = network()
    path = folder / f"keras{major}.keras"
    model.save(path)
    if keras.__version__[0] != str(major):
        _rewrite_version(path, f"{major}.0.0")
    return Foreign(path, UNIT, _logits_of(model))


def _rewrite_version(path, version):
    """Let a file name another version of Keras."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents[_METADATA] = json.dumps(
        {**json.loads(contents[_METADATA]), "keras_version": version}
    ).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def exported(folder):
    model = network()
    with contextlib.redirect_stdout(io.StringIO()):  # Keras prints the signatures
        model.export(str(folder / "exported"))
    return Foreign(folder / "exported", UNIT, _logits_of(model))


def tf1_savedmodel(folder):
    """A graph with a session and reference variables, as TensorFlow 1 wrote them."""
    model, v1 = network(), tf.compat.v1
    kernel, bias, weights, offsets = (w for layer in model.layers for w in layer.get_weights())
    path = folder / "tf1"
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, SIZE, SIZE, 1])
        variables = [
            v1.get_variable(name, initializer=value, use_resource=False)
            for name, value in zip("abcd", (kernel, bias, weights, offsets), strict=True)
        ]
        features = tf.nn.relu(tf.nn.conv2d(images, variables[0], 1, "VALID") + variables[1])
        features = tf.reshape(features, [-1, weights.shape[0]])
        outputs = tf.nn.softmax(tf.matmul(features, variables[2]) + variables[3])
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"x": images}, {"y": outputs})
    return Foreign(path, (*UNIT, "--foreign"), _logits_of(model))


def one_sigmoid(folder):
    model = network(1, "sigmoid")
    model.save(folder / "sigmoid.keras")

    def probabilities(images):
        p = _outputs_of(model)(images)
        return np.concatenate([1 - p, p], axis=1)

    return Foreign(folder / "sigmoid.keras", UNIT, probabilities)


def with_softmax(folder):
    model = network(3, "softmax")
    tf.saved_model.save(model, str(folder / "softmax"))
    return Foreign(folder / "softmax", UNIT, _outputs_of(model))


def with_rescaling(folder):
    model = network(3, "softmax", before=[keras.layers.Rescaling(1 / 255)])
    model.save(folder / "rescaling.keras")
    return Foreign(folder / "rescaling.keras", (), _outputs_of(model, lambda x: 255 * x))


def of_255(folder):
    model = network(gain=255.0)
    model.save(folder / "of255.keras")
    declared = ("--input-range", "0,255")
    return Foreign(folder / "of255.keras", declared, _logits_of(model, lambda x: 255 * x))


def channels_first(folder):
    before = [keras.layers.Permute((2, 3, 1))]
    model = network(before=before, shape=(1, SIZE, SIZE))
    model.save(folder / "first.keras")
    return Foreign(
        folder / "first.keras", UNIT, _logits_of(model, lambda x: x.transpose(0, 3, 1, 2))
    )


def two_inputs(folder):
    model = network()
    other = keras.Input((2,))
    outputs = keras.layers.Add()([model.outputs[0], keras.layers.Dense(3)(other)])
    keras.Model([model.inputs[0], other], outputs).save(folder / "two.keras")
    return Foreign(folder / "two.keras", UNIT, _logits_of(model))


def tflite_file(folder):
    model = network(3, "softmax")
    holder = tf.Module()
    holder.weights = [tf_variable(weight) for weight in model.variables]
    spec = tf.TensorSpec([1, SIZE, SIZE, 1], tf.float32)
    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], holder)
    (folder / "other.tflite").write_bytes(converter.convert())
    declared = (*UNIT, "--outputs", "probabilities")
    return Foreign(folder / "other.tflite", declared, _outputs_of(model), has_gradients=False)


def function(folder):
    model = network()
    return Foreign(
        None, UNIT, _logits_of(model), function=lambda images: model(images, training=False)
    )


# Title in the table -> how the model is made.
KINDS = {
    "Keras 2 `.keras` file": lambda folder: keras_file(folder, 2),
    "Keras 3 `.keras` file": lambda folder: keras_file(folder, 3),
    "SavedModel of `model.export`": exported,
    "SavedModel of TensorFlow 1": tf1_savedmodel,
    "one sigmoid": one_sigmoid,
    "softmax (`tf.saved_model.save`)": with_softmax,
    "`Rescaling` and softmax": with_rescaling,
    "inputs 0…255": of_255,
    "channels first": channels_first,
    "two inputs": two_inputs,
    "third-party TFLite file": tflite_file,
    "Python function": function,
}


class Sample(NamedTuple):
    """Test images for a model.

    Attributes:
        images: float32 [n, 8, 8, 1].
        labels: int [n]; a third differs from the predictions of the original.
        expected: The probabilities of the original.
        folder: The images as PNG files in a folder for each class.
        files: The files, in the order of the images.
    """

    images: np.ndarray
    labels: np.ndarray
    expected: np.ndarray
    folder: Path
    files: list

    @property
    def accuracy(self):
        return float(np.mean(self.expected.argmax(axis=1) == self.labels))


def make_sample(foreign, folder):
    pixels = np.random.default_rng(5).integers(0, 256, (IMAGES, SIZE, SIZE, 1), np.uint8)
    images = np.float32(pixels / 255.0)
    expected = foreign.probabilities(images)
    labels = expected.argmax(axis=1)
    labels[::3] = (labels[::3] + 1) % expected.shape[1]
    files = []
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / "images" / str(label) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
        files.append(path)
    for label in range(expected.shape[1]):  # a class may have no image
        path = folder / "images" / str(label)
        assert path.is_dir(), "the original predicts each class"
    return Sample(images, labels, expected, folder / "images", files)


class Refused(Exception):
    """The one line with which a command refuses a model."""


def _run(*arguments):
    """Run a command in this process; return its standard output."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = cli.main([str(argument) for argument in arguments])
    if code:
        raise Refused(errors.getvalue().strip().splitlines()[-1])
    return out.getvalue()


def evaluate(foreign, sample, folder):
    """The probabilities are compared by the accuracy."""
    if foreign.path is None:
        data, attack = (sample.images, sample.labels), [srt.FGSM(0.05)]
        model = srt.adapt_model(
            foreign.function, input_range=(0, 1), input_shape=sample.images.shape[1:]
        )
        accuracy = srt.evaluate(model, data, attack).clean_accuracy
    else:
        dataset = {
            "name": "folder",
            "labeled": str(sample.folder),
            "test": str(sample.folder),
            "size": SIZE,
            "channels": 1,
        }
        attacks = "fgsm@0.05" if foreign.has_gradients else "gridadv_t"
        _run(
            *("evaluate", "--model", foreign.path, *foreign.options, "--attacks", attacks),
            *("--config", "digits_pixel", "--variant", "smoke", "--output", folder / "made.json"),
            *("--set", f"data.dataset={json.dumps(dataset)}"),
        )
        accuracy = json.loads((folder / "made.json").read_text())["clean"]["accuracy"]
    assert abs(accuracy - sample.accuracy) <= TOLERANCE, (accuracy, sample.accuracy)


def predict(foreign, sample, folder):
    classes = sample.expected.shape[1]
    text = _run(
        *("predict", *sample.files, "--model", foreign.path, *foreign.options),
        *("--json", "--top", classes),
    )
    found = np.zeros_like(sample.expected)
    for row, line in zip(found, text.strip().splitlines(), strict=True):
        for entry in json.loads(line)["top"]:
            row[int(entry["class_name"])] = entry["score"]
    _check(found, sample)


def export(foreign, sample, folder):
    target = folder / "saved" / "model"
    shutil.rmtree(target, ignore_errors=True)
    if foreign.path is None:
        shape = sample.images.shape[1:]
        model = srt.adapt_model(foreign.function, input_range=(0, 1), input_shape=shape)
        srt.export(model, target, ["a", "b", "c"], samples=sample.images)
    else:
        _run(
            *("export", "--model", foreign.path, *foreign.options, "--to", target),
            *("--images", sample.folder),
        )
    loaded = tf.saved_model.load(str(target / "1"))
    outputs = loaded.signatures["image"](image=tf.constant(sample.images))
    _check(outputs["probabilities"].numpy(), sample)


def serve(foreign, sample, folder):
    """In this process, which saves the start of another TensorFlow."""
    arguments = ["serve", "--model", str(foreign.path), *foreign.options]
    copies = folder / "copies"
    copies.mkdir(exist_ok=True)
    served = served_folder(foreign.path, cli.make_parser().parse_args(arguments), copies)
    with running(served) as server:
        url = f"{server.url}/v1/models/{foreign.path.stem}:predict"
        status, document, _ = ask(url, rows(*(file.read_bytes() for file in sample.files)))
    assert status == 200
    _check(np.float32([row["probabilities"] for row in document["predictions"]]), sample)


def _check(found, sample):
    difference = float(np.abs(found - sample.expected).max())
    assert difference <= TOLERANCE, difference


def cell(command, foreign, sample, folder):
    """Run a command on a model; return "yes", "refused: …" or "—", as in the table."""
    if foreign.path is None and command in ("predict", "serve"):
        return "—: a function is no file"
    try:
        {"evaluate": evaluate, "predict": predict, "export": export, "serve": serve}[command](
            foreign, sample, folder
        )
    except (Refused, UserError) as error:
        line = str(error).removeprefix("error: ").removeprefix(f"--model {foreign.path}: ")
        return f"refused: {line}"
    return YES
