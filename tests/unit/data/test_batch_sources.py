"""Arrays, folders and Hugging Face datasets become the same batches."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from row_datasets import Dataset, hugging_face

from keras_srt.attacks import FGSM
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras
from keras_srt.data import as_batches, pair
from keras_srt.data.keras_datasets import to_unit_range
from keras_srt.data.photo_decoder import PhotoDecoder
from keras_srt.evaluation.evaluate import evaluate
from keras_srt.models import SmallCNN
from keras_srt.neighborhoods import LInf
from keras_srt.objectives import SRT, Standard
from keras_srt.training.model import RobustModel

SHAPE = (16, 16, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (7, *SHAPE), np.uint8)
LABELS = np.int32([0, 1, 2, 0, 1, 2, 0])


@pytest.fixture
def folder(tmp_path):
    """A folder with a folder for each class."""
    for number, (image, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        path = tmp_path / f"class{label}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path


def content(batches):
    """The images of batches in the order of their bytes, and their labels."""
    parts = [batch if isinstance(batch, tuple) else (batch, None) for batch in batches]
    rows = [
        (np.uint8(image).tobytes(), None if labels is None else int(labels[index]))
        for images, labels in parts
        for index, image in enumerate(images)
    ]
    return sorted(rows)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_all_kinds_have_the_same_images_and_labels(folder, labeled, shuffle):
    expected = sorted(
        (image.tobytes(), int(label) if labeled else None)
        for image, label in zip(PIXELS, LABELS, strict=True)
    )
    arrays = (PIXELS, LABELS) if labeled else PIXELS
    for data in (arrays, hugging_face(PIXELS, LABELS), folder, str(folder)):
        batches = as_batches(
            data, "x", labeled=labeled, image_shape=SHAPE, batch_size=3, shuffle=shuffle
        )
        assert len(batches) == 3
        assert content(batches) == expected
        again = next(iter(batches))
        assert (again[0] if labeled else again).shape == (3, *SHAPE)


def test_a_dataset_of_batches_is_returned_unchanged():
    batches = tf.data.Dataset.from_tensors((PIXELS, LABELS))
    assert as_batches(batches, "x", batch_size=2) is batches


def test_arrays_and_rows_are_shuffled_anew_in_each_pass():
    for data in (np.arange(40).reshape(40, 1, 1, 1), hugging_face(*gray(40))):
        one = as_batches(data, "x", labeled=False, batch_size=40)
        passes = [next(iter(one)).numpy().ravel() for _ in range(2)]
        assert np.any(passes[0] != passes[1])
        assert sorted(passes[0]) == sorted(passes[1])
        ordered = as_batches(data, "x", labeled=False, batch_size=40, shuffle=False)
        np.testing.assert_array_equal(next(iter(ordered)).numpy()[:, 0, 0, 0], np.arange(40))


def gray(count):
    """Images with one value each, and labels."""
    images = np.tile(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), (1, 4, 4, 1))
    return images, np.zeros(count, np.int32)


def test_a_hugging_face_dataset_keeps_its_size_or_is_resized():
    rows = hugging_face(*gray(3))
    assert next(iter(as_batches(rows, "x")))[0].shape == (3, 4, 4, 1)
    resized, _ = next(iter(as_batches(rows, "x", image_shape=(6, 2, 3), shuffle=False)))
    np.testing.assert_array_equal(resized, np.tile(np.arange(3).reshape(3, 1, 1, 1), (1, 6, 2, 3)))


def test_a_model_is_trained_by_folders_and_hugging_face_datasets(folder):
    model = RobustModel(SmallCNN(2, hidden=4).build((20, 20, 1), 3), None, Standard())
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    rows = hugging_face(PIXELS, LABELS)
    for data in (folder, rows):
        history = model.fit(data, batch_size=4, validation_data=data, verbose=0).history
        assert model.optimizer.iterations % 2 == 0
        assert 0 < history["loss"][0] < 3
        found = model.evaluate(data, verbose=0, return_dict=True)
        assert found["accuracy"] == pytest.approx(history["val_accuracy"][0])


def test_kinds_are_paired(folder):
    rows = hugging_face(PIXELS, LABELS)
    batches = pair(folder, rows, image_shape=SHAPE, batch_sizes=(2, 7))
    assert len(batches) == 4
    batch = next(iter(batches))
    images, labels = batch["labeled"]
    assert (images.shape, labels.shape) == ((2, *SHAPE), (2,))
    np.testing.assert_allclose(
        np.sort(np.ravel(batch["unlabeled"])), np.sort(PIXELS.ravel() / 255), rtol=1e-6
    )
    model = RobustModel(
        SmallCNN(2, hidden=4).build(SHAPE, 3), LInf(epsilon=0.1, num_steps=1), SRT()
    )
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.fit(pair((PIXELS, LABELS), PIXELS, batch_sizes=(4, 4)), verbose=0)
    assert model.optimizer.iterations == 2


NAN = np.full((2, *SHAPE), np.nan, np.float32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no/folder", "'no/folder', which is no folder"),
        (PIXELS[..., 0], r"an array of shape \(7, 16, 16\); allowed: images \[n, height"),
        ((PIXELS, LABELS[:3]), "7 and 3 images and labels; allowed: as many"),
        (NAN, "NaN or infinite values"),
        ((np.where(NAN > 0, 0, np.inf), LABELS[:2]), "NaN or infinite values"),
        (hugging_face(PIXELS[:0], LABELS[:0]), "a streamed or empty dataset"),
    ],
)
def test_other_data_is_refused(data, message):
    with pytest.raises(InvalidSettings, match=f"^unlabeled: got .*{message}"):
        as_batches(data, "unlabeled")


def test_a_folder_needs_a_size_and_classes(folder):
    with pytest.raises(InvalidSettings, match=r"without an image size; allowed: image_shape="):
        as_batches(folder, "x")
    with pytest.raises(
        UserError, match=r"x: .*class0 has no subfolders; allowed: one subfolder per"
    ):
        as_batches(folder / "class0", "x", image_shape=SHAPE)
    with pytest.raises(InvalidSettings, match=r"got image_shape=\(4, 4\); allowed: \(height, wid"):
        as_batches(folder, "x", image_shape=(4, 4))


def test_a_folder_without_a_class_does_not_shift_class_ids(folder):
    shutil.rmtree(folder / "class0")
    (folder / "class0").mkdir()
    model = SmallCNN(2, hidden=4).build(SHAPE, 3)
    message = "the class folders class1, class2 in .* for 3 classes; allowed: a folder with images"
    with pytest.raises(InvalidSettings, match=message):
        evaluate(model, folder, [FGSM(0.1)])
    robust = RobustModel(model, None, Standard())
    robust.compile("sgd")
    with pytest.raises(InvalidSettings, match=message):
        robust.fit((PIXELS, LABELS), validation_data=str(folder), verbose=0)


@pytest.mark.parametrize("suffix", ["webp", "tif", "jpg"])
def test_a_folder_is_decoded_as_by_the_command_line(tmp_path, suffix):
    (tmp_path / "a").mkdir()
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated
    photo.save(tmp_path / "a" / f"photo.{suffix}", exif=exif)
    [(images, labels)] = as_batches(tmp_path, "x", image_shape=(8, 6, 3))
    expected = PhotoDecoder(size=(8, 6), channels=3).read(tmp_path / "a" / f"photo.{suffix}")
    np.testing.assert_array_equal(images[0], expected)
    assert labels.numpy().tolist() == [0]


def test_a_damaged_photo_is_named(folder):
    (folder / "class1" / "empty.png").write_bytes(b"")
    model = SmallCNN(2, hidden=4).build(SHAPE, 3)
    message = r"images: got .*empty\.png, which is empty; allowed: readable photos"
    with pytest.raises(InvalidSettings, match=message):
        evaluate(model, folder, [FGSM(0.1)])


def test_16_bit_images_keep_their_upper_bits():
    deep = hugging_face(np.uint16([[[10000]], [[50000]]])[..., None], np.int32([0, 1]))
    [(images, _)] = as_batches(deep, "x", shuffle=False)
    assert images.numpy().ravel().tolist() == [10000 >> 8, 50000 >> 8]


def test_missing_rows_are_named():
    rows = Dataset([PIXELS[0], None], [0, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="images: got none in row 1"):
        list(as_batches(rows, "x", image_shape=SHAPE, shuffle=False))
    rows = Dataset(PIXELS[:2], [0, None])
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels: got none in row 1"):
        list(as_batches(rows, "x", image_shape=SHAPE, shuffle=False))


def test_integer_images_of_0_and_1_are_refused():
    binary = np.tile(np.uint8([0, 1]).reshape(2, 1, 1, 1), (1, 4, 4, 1))
    with pytest.raises(InvalidSettings, match="integer images with values from 0 to 1; allowed"):
        to_unit_range(binary, "x")
    assert to_unit_range(np.float32(binary), "x").max() == 1


def test_the_columns_of_a_hugging_face_dataset_are_checked():
    rows = hugging_face(PIXELS, LABELS).remove_columns("label")
    with pytest.raises(InvalidSettings, match=r"columns image \(Image\); allowed: one ClassLabel"):
        as_batches(rows, "x")
    assert len(as_batches(rows, "x", labeled=False)) == 1


def test_images_of_several_sizes_need_a_size():
    uneven = [*PIXELS[:-1], PIXELS[-1][:6, :5]]
    rows = hugging_face(uneven, LABELS)
    message = r"^images: got 16x16 and 6x5 pixels; allowed: one size, or image_shape=\("
    with pytest.raises(InvalidSettings, match=message):
        pair(rows, rows)
    batch = next(iter(pair(rows, rows, image_shape=SHAPE, batch_sizes=(7, 7))))
    assert batch["unlabeled"].shape == (7, *SHAPE)
