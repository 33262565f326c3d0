"""Per-image predictions: worst case, classes, mistakes, and the file."""

import numpy as np
import pytest

from keras_srt.core.errors import UserError
from keras_srt.evaluation.per_image import ImagePredictions, describe_classes, fingerprint

LABELS = np.int32([0, 0, 1, 1, 2])
CLEAN = np.int32([0, 0, 1, 0, -1])
ATTACKED = {"weak": np.int32([0, 1, 1, 0, 2]), "strong": np.int32([2, 2, 1, 1, 2])}
OUTCOMES = ImagePredictions(LABELS, CLEAN, ATTACKED)


def test_the_worst_case_by_hand():
    # Wrong ones keep their answer; of two attacks the strongest has the word.
    assert OUTCOMES.strongest_first() == ["strong", "weak"]
    np.testing.assert_array_equal(OUTCOMES.worst_case(), [2, 2, 1, 0, -1])
    np.testing.assert_array_equal(OUTCOMES.surviving("weak"), [True, False, True, False, False])


def test_classes_and_mistakes_by_hand():
    parts = describe_classes(OUTCOMES, ["a", "b", "c", "d"])
    assert [each["n"] for each in parts["classes"]] == [2, 2, 1, 0]
    assert "clean" not in parts["classes"][3]  # no image, no share
    shares = [each["worst_case"]["accuracy"] for each in parts["classes"][:3]]
    assert shares == [0.0, 0.5, 0.0]
    assert parts["balanced"] == {"clean": 0.5, "worst_case": pytest.approx(1 / 6)}
    assert parts["worst_class"]["clean"] == {"name": "c", "accuracy": 0.0, "n": 1}
    assert parts["confusion"]["clean"] == [[2, 0, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]
    assert parts["confusion"]["worst_case"][0] == [0, 0, 2, 0]
    assert parts["mistakes"]["clean"] == [
        {"label": "b", "answer": "a", "count": 1},
        {"label": "c", "answer": "NaN", "count": 1},
    ]
    assert parts["mistakes"]["worst_case"][0] == {"label": "a", "answer": "c", "count": 2}


def test_many_classes_have_no_matrix():
    assert "confusion" not in describe_classes(OUTCOMES, [str(n) for n in range(21)])


def test_saved_and_loaded_they_are_equal(tmp_path):
    OUTCOMES.save(tmp_path / "outcomes.npz")
    loaded = ImagePredictions.load(tmp_path / "outcomes.npz")
    np.testing.assert_array_equal(loaded.labels, LABELS)
    np.testing.assert_array_equal(loaded.clean, CLEAN)
    assert list(loaded.attacked) == ["weak", "strong"]
    for name, answers in ATTACKED.items():
        np.testing.assert_array_equal(loaded.attacked[name], answers)
    assert [path.name for path in tmp_path.iterdir()] == ["outcomes.npz"]


@pytest.mark.parametrize(
    "columns",
    [
        {"labels": LABELS},
        {"labels": LABELS, "clean": CLEAN[:2]},
        {"labels": LABELS, "clean": CLEAN * 0.5},
        {"labels": LABELS, "clean": CLEAN.astype(object)},
    ],
    ids=["missing", "shorter", "shares", "pickled"],
)
def test_other_files_are_refused(columns, tmp_path):
    np.savez(tmp_path / "outcomes.npz", **columns)
    with pytest.raises(UserError, match=r"outcomes\.npz: can't be read"):
        ImagePredictions.load(tmp_path / "outcomes.npz")


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "outcomes.npz"
    OUTCOMES.save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="can't be read"):
        ImagePredictions.load(path)


def test_a_fingerprint_tells_images_labels_and_shapes_apart():
    images, labels = np.zeros((2, 2, 2, 1), np.uint8), np.int64([0, 1])
    same = fingerprint(images.copy(), labels.astype(np.int32))
    assert fingerprint(images, labels) == same
    others = [(images + 1, labels), (images, labels[::-1]), (images.reshape(2, 4, 1, 1), labels)]
    assert len({same, *(fingerprint(*other) for other in others)}) == 4
