"""Weights files."""

import os

import numpy as np
import pytest

from keras_srt.core.errors import UserError
from keras_srt.device.weights import BadWeights, TrainedWeights, load_weights, save_weights


def test_weights_are_saved_and_damaged_files_are_rejected(tmp_path):
    path = tmp_path / "weights.npz"
    state = {"a_b": np.float32([[1.5, -2]]), "c": np.float32([3])}
    save_weights(path, TrainedWeights(state, 7, "abc"))
    back = load_weights(path, "abc")
    assert (back.step, back.model) == (7, "abc")
    np.testing.assert_equal(dict(back.state), state)
    with pytest.raises(BadWeights, match="another model file"):
        load_weights(path, "abd")
    content = path.read_bytes()
    for damaged in (content[:-30], content[:40], b"", b"PK\x03\x04" + content[4:60]):
        path.write_bytes(damaged)
        with pytest.raises(BadWeights, match=r"weights\.npz"):
            load_weights(path, "abc")
    flipped = bytearray(content)
    flipped[content.index(b"state/a_b.npy") + 60] ^= 0xFF  # in its compressed values
    path.write_bytes(bytes(flipped))
    with pytest.raises(BadWeights, match="damaged"):
        load_weights(path, "abc")
    save_weights(path, TrainedWeights({"c": np.float32([np.nan])}, 7, "abc"))
    with pytest.raises(BadWeights, match="not finite"):
        load_weights(path, "abc")
    np.savez(path, **{"state/a": np.array([{}], object), "step": 1, "model": "abc"})
    with pytest.raises(BadWeights, match="damaged"):
        load_weights(path, "abc")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    save_weights(path, TrainedWeights({"c": np.float32([3])}, 1, "abc"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space"):
        save_weights(path, TrainedWeights({"c": np.float32([4])}, 2, "abc"))
    monkeypatch.undo()
    assert load_weights(path, "abc").step == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.npz"]
