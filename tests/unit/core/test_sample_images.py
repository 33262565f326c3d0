"""Sample images in a SavedModel."""

import numpy as np
import pytest
from PIL import Image

from keras_srt.core.sample_images import (
    EncodedSample,
    SampleImages,
    choose_samples,
    read_samples,
    write_samples,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ([2, 2, 0, 1, 0, 3], [0, 2, 3]),
        ([1, 1, 1, 0, 0, 1], [0, 3, 1]),
        ([3], [0]),
        ([], []),
    ],
)
def test_first_images_of_different_classes_are_chosen(labels, chosen):
    labels = np.int32(labels)
    images, names = choose_samples(IMAGES[: len(labels)], labels, ["a", "b", "c", "d"])
    np.testing.assert_array_equal(images, IMAGES[chosen])
    assert names == ["abcd"[labels[index]] for index in chosen]


@pytest.mark.parametrize("channels", [1, 3])
def test_written_images_are_read_without_a_change(tmp_path, channels):
    images = IMAGES[:3, ..., :channels]
    write_samples(tmp_path, SampleImages(images, ["cat", "a/b", "é" * 50]))
    found = read_samples(tmp_path)
    assert [sample.name for sample in found] == ["cat", "a_b", "é" * 40]
    paths = sorted((tmp_path / "assets.extra" / "samples").iterdir())
    for path, sample, image in zip(paths, found, images, strict=True):
        assert path.read_bytes() == sample.png
        np.testing.assert_array_equal(np.asarray(Image.open(path)).reshape(image.shape), image)


def test_other_files_are_left_out(tmp_path):
    assert read_samples(tmp_path) == []
    folder = tmp_path / "assets.extra" / "samples"
    folder.mkdir(parents=True)
    png = b"\x89PNG\r\n\x1a\n"
    for name, content in {
        "1-text.png": b"secret",
        "2-large.png": png + bytes(2**20),
        "3-photo.jpg": png,
        **{f"{number}-{number}.png": png for number in (4, 5, 6, 7)},
    }.items():
        (folder / name).write_bytes(content)
    assert read_samples(tmp_path) == [EncodedSample(name, png) for name in "456"]
