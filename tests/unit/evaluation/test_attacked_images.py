"""The file of attacked images."""

import numpy as np
import pytest

from keras_srt.attacks import FGSM
from keras_srt.core.errors import UserError
from keras_srt.evaluation.attacked_images import AttackedImages
from keras_srt.evaluation.robustness import AttackOutcome, Robustness


@pytest.fixture
def attacked():
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (6, 4, 4, 1), np.uint8)
    labels = np.int32([0, 1, 0, 1, 0, 1])
    outcomes = {
        name: AttackOutcome(FGSM(epsilon=0.1), draws.random((6, 4, 4, 1), np.float32), labels, 0.1)
        for name in ("fgsm", "pgd@0.1#2")
    }
    return pixels, Robustness(labels, labels, outcomes)


def test_attacked_images_are_stored_exactly(attacked, tmp_path):
    pixels, robustness = attacked
    stored = AttackedImages.of(pixels, robustness, 4)
    stored.save(tmp_path / "attacked.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["attacked.npz"]
    loaded = AttackedImages.load(tmp_path / "attacked.npz")
    np.testing.assert_array_equal(loaded.images, np.float32(pixels[:4] / 255))
    np.testing.assert_array_equal(loaded.labels, [0, 1, 0, 1])
    assert list(loaded.attacked) == ["fgsm", "pgd@0.1#2"]
    for name, images in loaded.attacked.items():
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images, robustness.outcomes[name].images[:4])


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other arrays"])
def test_a_damaged_file_of_attacked_images_is_refused(attacked, tmp_path, damage):
    path = tmp_path / "attacked.npz"
    AttackedImages.of(*attacked, 4).save(path)
    if damage == "other arrays":
        np.savez(path, something=np.zeros(3))
    else:
        path.write_bytes({"cut": path.read_bytes()[:300], "empty": b"", "text": b"PK"}[damage])
    with pytest.raises(UserError, match=r"attacked\.npz: is damaged"):
        AttackedImages.load(path)
