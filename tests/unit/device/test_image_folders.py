"""Batches from folders of images."""

import numpy as np
import pytest
from trainable_models import NAMES, SHAPE

from keras_srt.device.image_folders import BadFolder, ImageFiles, list_labeled, list_unlabeled


def test_each_pass_draws_every_file_once(place):
    paths, labels = list_labeled(place / "labeled", NAMES)
    assert labels == [0, 0, 1, 1, 2, 2]
    assert [path.parent.name for path in paths] == [NAMES[label] for label in labels]
    files = ImageFiles(paths, SHAPE, [0], lambda *_: None)
    drawn = [number for step in range(6) for number in files.batch(step, 4)[1]]
    for epoch in range(4):
        assert sorted(drawn[6 * epoch : 6 * epoch + 6]) == list(range(6))
    assert drawn[:6] != drawn[6:12]
    images, numbers = ImageFiles(paths, SHAPE, [0], lambda *_: None).batch(3, 4)
    assert numbers == drawn[12:16]
    assert images.shape == (4, *SHAPE)
    assert images.dtype == np.float32


def test_a_folder_of_unreadable_files_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    files = ImageFiles(list_unlabeled(tmp_path), SHAPE, [0], lambda *_: None)
    with pytest.raises(BadFolder, match="none of its images"):
        files.batch(0, 2)
