"""An exported SavedModel in other processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers import ROOT, python, settled

from keras_srt.core.tensorflow import keras
from keras_srt.exporters.savedmodel import export_savedmodel


def exported(tmp_path):
    samples = np.random.default_rng(4).random((12, 8, 8, 1), np.float32)
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    classifier = settled(keras.Model(inputs, outputs), samples)
    names = ("a", "b", "c")
    return *export_savedmodel(classifier, names, tmp_path / "model", 1, samples), samples


def test_saved_model_cli_agrees_with_python(tmp_path):
    folder, _, samples = exported(tmp_path)
    np.save(tmp_path / "images.npy", samples)
    process = subprocess.run(
        [
            Path(sys.executable).parent / "saved_model_cli",
            *("run", "--dir", folder, "--tag_set", "serve"),
            *("--signature_def", "image", "--inputs", f"image={tmp_path / 'images.npy'}"),
            *("--outdir", tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    expected = tf.saved_model.load(str(folder)).signatures["image"](image=tf.constant(samples))
    for name in ("probabilities", "class_id", "score", "valid"):
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected[name], atol=1e-6)


def test_wrong_shapes_are_refused_without_a_crash(tmp_path):
    folder, _, _ = exported(tmp_path)
    # In a subprocess: without the checks, a wrong rank crashes the process.
    code = f"""
import sys, json, numpy as np
sys.path.insert(0, {str(ROOT / "tests" / "support")!r})
from c_api import CApiError, CSession
session = CSession({str(folder)!r})
outcome = []
for shape in [(1,7,8,1),(1,8,9,1),(1,8,8,3),(8,8,1),(1,1,8,8,1),(1,0,0,1),(0,7,7,1),(64,),()]:
    for signature, name in (("image", "image"), ("logits", "images")):
        try:
            session.run({{name: np.zeros(shape, np.float32)}}, signature)
            outcome.append("answered")
        except CApiError as error:
            outcome.append(error.code)
for shape in [(), (1, 1)]:
    try:
        session.run({{"image_bytes": np.full(shape, b"", object)}})
        outcome.append("answered")
    except CApiError as error:
        outcome.append(error.code)
right = session.run({{"image": np.zeros((1, 8, 8, 1), np.float32)}}, "image")
print(json.dumps([outcome, float(right["probabilities"].sum())]))
"""
    process = python("-c", code)
    assert process.returncode == 0, process.stderr
    outcome, total = json.loads(process.stdout)
    assert outcome == [3] * 20
    assert total == pytest.approx(1, abs=1e-5)
