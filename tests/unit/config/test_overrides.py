"""`--set`: items of lists, counts beside paths, and settings that follow."""

from __future__ import annotations

import json

import pytest

from keras_srt.config import loader
from keras_srt.core.errors import InvalidSettings
from keras_srt.pipeline.configs import COMPONENTS

SETTINGS = {
    "name": "photos",
    "data": {
        "source": "folder",
        "labeled": "photos/labeled",
        "unlabeled": "photos/unlabeled",
        "size": 224,
    },
    "model": {"name": "small_cnn"},
    "neighborhood": {"name": "spatial", "max_rotation": 15, "max_translation": 14},
    "objective": {"name": "srt", "pseudo_labels": "teacher"},
    "teacher": {"objective": "standard"},
    "training": {
        "steps": 100,
        "labeled_per_batch": 16,
        "weight_warmup": 0.2,
        "strength_warmup": 0.3,
        "search_growth": 0.5,
        "initial_weights": "teacher",
    },
    "evaluation": {
        "attacks": [{"name": "fgsm", "epsilon": 0.1}, {"name": "randadv", "max_translation": 14}]
    },
}


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "photos.json"
    path.write_text(json.dumps(SETTINGS))
    return lambda *overrides: loader.load(path, COMPONENTS, None, overrides)


def test_an_index_changes_one_item_of_a_list(load):
    config = load("evaluation.attacks.1.max_translation=2", "evaluation.attacks.0.epsilon=0.2")
    fgsm, randadv = config.evaluation.attacks
    assert (fgsm.name, fgsm.epsilon) == ("fgsm", 0.2)
    assert (randadv.name, randadv.max_translation) == ("randadv", 2)


def test_an_index_beyond_the_list_is_refused(load):
    with pytest.raises(InvalidSettings) as error:
        load("evaluation.attacks.2.epsilon=0.2")
    assert error.value.problems == ("evaluation.attacks.2: got the index 2; allowed: 0 to 1",)


@pytest.mark.parametrize(("key", "other"), [("labeled", "unlabeled"), ("unlabeled", "labeled")])
def test_a_number_is_a_count_and_the_path_stays(load, key, other):
    data = load(f"data.{key}=30").data
    assert (getattr(data, key), getattr(data, other)) == (30, None)
    assert data.dataset.labeled == "photos/labeled"
    assert data.dataset.unlabeled == "photos/unlabeled"


def test_a_text_is_the_path(load):
    assert load("data.labeled=other").data.dataset.labeled == "other"


def test_settings_that_rt_does_not_use_are_reset(load):
    config = load("objective.name=rt")
    assert config.teacher is None
    training = config.training
    assert (training.labeled_per_batch, training.initial_weights) == (None, "random")
    assert (training.weight_warmup, training.strength_warmup) == (0.2, 0.3)


def test_settings_that_standard_training_does_not_use_are_reset(load):
    training = load("objective=standard").training
    assert (training.weight_warmup, training.strength_warmup, training.search_growth) == (0, 0, 0)


def test_own_pseudo_labels_need_no_teacher(load):
    config = load("objective.pseudo_labels=own")
    assert config.teacher is None
    assert config.training.labeled_per_batch == 16


def test_what_is_given_is_not_reset(load):
    with pytest.raises(InvalidSettings) as error:
        load("objective.name=rt", "training.labeled_per_batch=8")
    assert "training.labeled_per_batch: got 8" in str(error.value)


def test_translations_keep_their_share_of_the_image(load):
    config = load("data.size=32")
    assert config.neighborhood.max_translation == 2
    assert config.evaluation.attacks[1].max_translation == 2


def test_a_given_translation_is_not_scaled(load):
    config = load("evaluation.attacks.1.max_translation=3", "data.size=32")
    assert config.neighborhood.max_translation == 2
    assert config.evaluation.attacks[1].max_translation == 3
