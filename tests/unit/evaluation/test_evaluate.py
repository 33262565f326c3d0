"""`evaluate` takes images in every form that `fit` takes."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from row_datasets import hugging_face
from terminals import terminal

from keras_srt.attacks import FGSM
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.evaluation.evaluate import evaluate

SHAPE = (4, 4, 1)
# The class is 1 from 0.5 on; 140 / 255 falls below it by 0.1, 200 / 255 does not.
LEVELS, LABELS = np.uint8([30, 140, 200, 90]), np.int32([0, 1, 1, 1])
IMAGES = np.broadcast_to(LEVELS[:, None, None, None], (4, *SHAPE)).copy()


def threshold():
    """A classifier of the brightness of the first pixel."""
    images = keras.Input(SHAPE)
    level = keras.layers.Flatten()(images)
    logits = keras.layers.Dense(2)(level)
    model = keras.Model(images, logits)
    kernel = np.zeros((16, 2), np.float32)
    kernel[0] = [-1, 1]
    model.set_weights([kernel, np.float32([0.5, -0.5])])
    return model


def save_folder(folder, size):
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        path = folder / f"class{label}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).resize((size, size)).save(path)
    return folder


def forms(tmp_path):
    yield IMAGES, LABELS
    yield tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(3)
    # Folders and Hugging Face datasets are resized to the images of the model.
    yield save_folder(tmp_path, 9)
    yield hugging_face(IMAGES, LABELS)


def test_every_form_of_images_gives_the_same_result(tmp_path):
    for data in forms(tmp_path):
        result = evaluate(threshold(), data, [FGSM(0.1)])
        assert (result.clean_accuracy, result.robust_accuracy) == (0.75, 0.5)
        assert result.report()["clean"]["n"] == 4


def test_a_bar_is_shown_on_a_terminal_unless_progress_is_none(capsys):
    with terminal(80) as screen:
        evaluate(threshold(), (IMAGES, LABELS), [FGSM(0.1)], progress=None)
        assert screen.read() == ""
        evaluate(threshold(), (IMAGES, LABELS), [FGSM(0.1)])
        assert "fgsm: 100%" in screen.read()
    evaluate(threshold(), (IMAGES, LABELS), [FGSM(0.1)])
    assert capsys.readouterr() == ("", "")


def test_a_function_has_no_image_size(tmp_path):
    folder, model = save_folder(tmp_path, 9), threshold()
    with pytest.raises(InvalidSettings, match="data: got a folder without an image size"):
        evaluate(lambda images: model(images), folder, [FGSM(0.1)])
    result = evaluate(lambda images: model(images), folder, [FGSM(0.1)], image_shape=SHAPE)
    assert (result.clean_accuracy, result.robust_accuracy) == (0.75, 0.5)


@pytest.mark.parametrize("data", [IMAGES, None, (IMAGES, LABELS, LABELS)])
def test_other_data_is_refused(data):
    with pytest.raises(InvalidSettings, match=r"data: got another structure; allowed: batches"):
        evaluate(threshold(), data, [FGSM(0.1)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attacks": FGSM(0.1)}, r"attacks: got FGSM.*allowed: a list of attacks"),
        ({"attacks": ["fgsm"]}, r"attacks: got \['fgsm'\]; allowed: a list of attacks"),
        ({"batch_size": 0}, "batch_size: got 0; allowed: at least 1"),
        ({"seed": -1}, "seed: got -1; allowed: at least 0"),
        ({"precision": "bfloat16"}, "precision: got 'bfloat16'; allowed: auto, float32"),
        ({"data": (IMAGES[:0], LABELS[:0])}, "data: got no images; allowed: at least one"),
        (
            {"data": tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))},
            "data: got another structure; allowed: batches",
        ),
    ],
)
def test_invalid_arguments_are_named(arguments, message):
    given = {"data": (IMAGES, LABELS), "attacks": [FGSM(0.1)], **arguments}
    with pytest.raises(InvalidSettings, match=message):
        evaluate(threshold(), **given)
