"""Finished parts of an evaluation are read instead of computed again."""

import numpy as np
import pytest

from keras_srt.attacks import QueryModel
from keras_srt.evaluation.finished_parts import FinishedParts


@pytest.fixture
def model():
    return QueryModel(lambda images: images.reshape(len(images), -1)[:, :2], 10)


def compute(parts, model, settings, calls):
    def function():
        calls.append(settings)
        model.queries += 7
        return {"values": np.arange(3)}

    return parts.compute("part", settings, model, function)


def test_a_part_is_computed_once(tmp_path, model):
    calls = []
    first = compute(FinishedParts(tmp_path / "parts", weights="a"), model, {"first": 0}, calls)
    again = FinishedParts(tmp_path / "parts", weights="a")
    second = compute(again, model, {"first": 0}, calls)
    assert len(calls) == 1
    assert second.keys() == first.keys() == {"values", "seconds"}
    np.testing.assert_array_equal(second["values"], first["values"])
    assert model.queries == 14  # as if it had been computed twice
    assert again.seconds == second["seconds"] == first["seconds"]


def test_parts_of_another_evaluation_are_not_read(tmp_path, model):
    calls = []
    for weights, first in (("a", 0), ("b", 0), ("a", 1)):
        compute(FinishedParts(tmp_path, weights=weights), model, {"first": first}, calls)
    assert len(calls) == 3


def test_a_damaged_part_is_computed_again(tmp_path, model):
    calls = []
    compute(FinishedParts(tmp_path), model, {}, calls)
    (path,) = tmp_path.iterdir()
    for content in (b"", path.read_bytes()[:100], b"x" * 200):
        path.write_bytes(content)
        compute(FinishedParts(tmp_path), model, {}, calls)
    assert len(calls) == 4


def test_json_parts(tmp_path, model):
    for value in (None, {"a": [1, 2.5, "x"]}):
        name = "none" if value is None else "some"
        for function in (lambda value=value: value, pytest.fail):
            parts = FinishedParts(tmp_path)
            assert parts.compute_json(name, {}, model, function) == value


def test_nothing_is_kept_without_a_folder(model):
    calls = []
    for _ in range(2):
        compute(FinishedParts(), model, {}, calls)
    assert len(calls) == 2
