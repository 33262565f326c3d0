"""Attacks are as strong as those of other libraries: `pip install -e ".[crosscheck]"`."""

import json

import numpy as np
import pytest
from attack_pairs import PAIRS, Pair
from comparing import Comparison, compare, write_table
from libraries import DISTRIBUTIONS, foolbox
from small_classifier import torch_twin

from keras_srt.core.tensorflow import keras


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_ours_is_not_the_weaker(pair, subject, test_part, comparisons):
    distribution = DISTRIBUTIONS[pair.theirs.module]
    pytest.importorskip(pair.theirs.module, reason=f"pip install {distribution}")
    images, labels = test_part
    assert len(images) >= 500
    found = compare(pair, subject, images, labels)
    comparisons.append(found)
    assert found.strayed == 0, f"{found.strayed} of their images left the threat model"
    assert 5 < found.ours < 92  # otherwise the comparison shows nothing
    assert found.points <= pair.points + 1e-9
    assert found.share <= pair.share


def test_differences_that_are_allowed_have_a_reason():
    for pair in PAIRS:
        is_usual = (pair.points, pair.share) == (1.0, 0.03)
        assert is_usual or pair.reason, str(pair)


def test_every_pair_has_a_name_of_its_own():
    names = [str(pair) for pair in PAIRS]
    assert len(set(names)) == len(names)


def test_the_twin_in_torch_answers_alike(subject, test_part):
    torch = pytest.importorskip("torch")
    images, _ = test_part
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    theirs = subject.twin(torch.from_numpy(channels_first)).numpy()
    np.testing.assert_allclose(theirs, subject.classifier(images).numpy(), atol=1e-5)


def test_a_layer_that_has_no_twin_is_refused():
    pytest.importorskip("torch")
    classifier = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.BatchNormalization()])
    with pytest.raises(ValueError, match="allowed: valid Conv2D, Flatten and Dense"):
        torch_twin(classifier)


def comparison(ours, theirs, distances=(None, None)):
    pair = Pair({"name": "fgsm", "epsilon": 0.1}, foolbox("FGSM", {}, 0.1), reason="because")
    return Comparison(pair, 500, ours, theirs, *distances, 1.5, 2.5, 0)


@pytest.mark.parametrize(
    ("ours", "theirs", "distances", "verdict"),
    [
        (50.0, 50.0, (None, None), "equal"),
        (51.0, 50.0, (None, None), "equal"),
        (51.2, 50.0, (None, None), "theirs is stronger"),
        (48.8, 50.0, (None, None), "ours is stronger"),
        (50.0, 50.0, (1.02, 1.0), "equal"),
        (50.0, 50.0, (1.04, 1.0), "theirs is stronger"),
        (50.0, 50.0, (0.96, 1.0), "ours is stronger"),
        (48.0, 50.0, (1.04, 1.0), "theirs is stronger"),
    ],
)
def test_verdict(ours, theirs, distances, verdict):
    assert comparison(ours, theirs, distances).verdict == verdict


def test_the_table_replaces_the_old_one_and_nothing_else(tmp_path):
    pytest.importorskip("foolbox")
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- results -->\nold\n<!-- end of results -->\nbelow\n")
    write_table([comparison(51.2, 50.0, (1.04, 1.0))], page)
    text = page.read_text()
    assert text.startswith("above\n<!-- results -->\n| attack |")
    assert text.endswith("|\n<!-- end of results -->\nbelow\n")
    assert "| 50.0 | 51.2 | +1.2 | 1 | 1.04 (+4.0%) | theirs is stronger: because |" in text
    assert "old" not in text
    (row,) = json.loads(page.with_suffix(".json").read_text())
    assert (row["theirs"], row["ours"], row["reason"]) == (50.0, 51.2, "because")
