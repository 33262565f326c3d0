"""Exported files: accuracies, warnings, latency, and their part of the report."""

import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers import tiny, write_config

from keras_srt import report as reports
from keras_srt.attacks import FGSM
from keras_srt.cli import main as cli
from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras
from keras_srt.evaluation import deployed_files
from keras_srt.evaluation.attacked_images import AttackedImages
from keras_srt.evaluation.deployed_files import (
    Probabilities,
    accuracies,
    agreement,
    measure,
    warnings_of,
)
from keras_srt.evaluation.intervals import proportion
from keras_srt.evaluation.latency import interleaved
from keras_srt.evaluation.robustness import AttackOutcome, Robustness
from keras_srt.exporters.export import ExportResult
from keras_srt.pipeline import publish
from keras_srt.pipeline import run as pipeline
from keras_srt.report.deployment_section import NOTE, deployment_html


def answers_with(clean, **found):
    """Probabilities of two classes whose largest is the given class."""
    eye = np.eye(2, dtype=np.float32)
    return Probabilities(eye[clean], {name: eye[classes] for name, classes in found.items()})


def result_of(share, n=100):
    return proportion(np.arange(n) < share * n)


def model(name, clean, fgsm, pgd, **more):
    return {
        "name": name,
        "clean": result_of(clean),
        "attacks": [{"name": "fgsm", **result_of(fgsm)}, {"name": "pgd", **result_of(pgd)}],
        "worst_case": result_of(min(fgsm, pgd)),
        **more,
    }


FILE = {
    "bytes": 123456,
    "latency_ms": {"median": 0.4211, "p99": 1.26, "rounds": 300},
    "agreement": {"same_class": 0.995, "largest_difference": 0.0333},
}
MODELS = [
    model("keras", 0.95, 0.8, 0.75),
    model("savedmodel", 0.95, 0.8, 0.75, **FILE),
    model("float32", 0.95, 0.8, 0.75, **FILE),
    model("int8", 0.94, 0.78, 0.4, **FILE),
]
DEPLOYMENT = {
    "version": 3,
    "interpreter": "tflite-runtime",
    "batch": 1,
    "threads": 1,
    "n": 100,
    "models": MODELS,
    "warnings": warnings_of(MODELS),
}


# What is counted.


def test_accuracies_require_a_correct_prediction_before_and_after():
    labels = np.int32([0, 0, 0, 1])
    answers = answers_with([0, 0, 1, 1], fgsm=[0, 1, 0, 1], pgd=[1, 0, 0, 1])
    got = accuracies(answers, labels)
    assert got["clean"] == proportion(np.array([True, True, False, True]))
    fgsm, pgd = got["attacks"]
    # The third image is right after the attacks, but was wrong before.
    assert fgsm == {"name": "fgsm", **proportion(np.array([True, False, False, True]))}
    assert pgd == {"name": "pgd", **proportion(np.array([False, True, False, True]))}
    assert got["worst_case"] == proportion(np.array([False, False, False, True]))


def test_agreement_by_hand():
    expected = np.float32([[0.75, 0.25], [0.25, 0.75], [0.5625, 0.4375], [1, 0]])
    got = np.float32([[0.5, 0.5], [0.25, 0.75], [0.4375, 0.5625], [1, 0]])
    assert agreement(expected, got) == {"same_class": 0.75, "largest_difference": 0.25}


def test_a_warning_names_each_accuracy_below_the_interval():
    (pgd, worst) = warnings_of(MODELS)
    low = 100 * result_of(0.75)["ci95"][0]
    assert pgd == (
        "int8 lost accuracy (pgd): 40.00%, where the Keras model has 75.00% (95% interval from "
        f"{low:.2f}%)"
    )
    assert worst == pgd.replace("(pgd)", "(worst case)")


def test_accuracies_in_the_interval_or_above_cause_no_warning():
    low = result_of(0.75)["ci95"][0]
    for share, count in ((low + 0.01, 0), (1.0, 0), (low - 0.01, 2)):
        others = [model("int8", 0.95, 0.8, round(share, 2))]
        assert len(warnings_of([MODELS[0], *others])) == count, share


# AttackedImages images.


@pytest.fixture
def attacked():
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (6, 4, 4, 1), np.uint8)
    labels = np.int32([0, 1, 0, 1, 0, 1])
    verdicts = {
        name: AttackOutcome(FGSM(epsilon=0.1), draws.random((6, 4, 4, 1), np.float32), labels, 0.1)
        for name in ("fgsm", "pgd@0.1#2")
    }
    return pixels, Robustness(labels, labels, verdicts)


def test_attacked_images_are_stored_exactly(attacked, tmp_path):
    pixels, robustness = attacked
    kept = AttackedImages.of(pixels, robustness, 4)
    kept.save(tmp_path / "attacked.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["attacked.npz"]
    got = AttackedImages.load(tmp_path / "attacked.npz")
    np.testing.assert_array_equal(got.images, np.float32(pixels[:4] / 255))
    np.testing.assert_array_equal(got.labels, [0, 1, 0, 1])
    assert list(got.attacked) == ["fgsm", "pgd@0.1#2"]
    for name, images in got.attacked.items():
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


# Latency.


def test_functions_are_timed_in_turns(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr("time.perf_counter", lambda: clock["now"])
    order = []

    def call(name, *seconds):
        durations = iter(seconds)

        def run():
            order.append(name)
            clock["now"] += next(durations, seconds[-1])

        return run

    # Ten calls each to warm up, which don't count.
    got = interleaved({"a": call("a", *[9.0] * 10, 0.002), "b": call("b", *[9.0] * 10, 0.003)})
    assert order[20:26] == ["a", "b", "a", "b", "a", "b"]
    assert got["a"] == {"median": pytest.approx(2), "p99": pytest.approx(2), "rounds": 300}
    assert got["b"] == {"median": pytest.approx(3), "p99": pytest.approx(3), "rounds": 300}
    # A slow model is timed less often.
    assert interleaved({"slow": call("slow", 1.0)})["slow"]["rounds"] == 30


# All together.


def test_every_exported_file_is_measured(tmp_path, monkeypatch):
    """Whose answers are which: a SavedModel and files that differ from the Keras model."""
    import tensorflow as tf

    from keras_srt.exporters.tflite import export_tflite

    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    classifier = keras.Model(inputs, outputs)
    weight = np.tile([[-1.0, 1.0]], (16, 1)).astype(np.float32)
    # Whether the mean is over 1/2.
    classifier.layers[-1].set_weights([weight, np.float32([8.0, -8.0])])

    def constant(self, image):
        shape = [tf.shape(image)[0], 1]
        return {"probabilities": tf.tile([[0.0, 1.0]], shape)}

    served = tf.Module()
    served.answer = tf.function(
        lambda image: constant(served, image),
        input_signature=[tf.TensorSpec([None, 4, 4, 1], name="image")],
    )
    tf.saved_model.save(served, str(tmp_path / "7"), signatures={"image": served.answer})
    dark, bright = np.full((3, 4, 4, 1), 0.2, np.float32), np.full((3, 4, 4, 1), 0.8, np.float32)
    export_tflite(classifier, ["dark", "bright"], tmp_path / "tflite", 7, np.r_[dark, bright])
    (tmp_path / "tflite" / "7" / "model_dynamic.tflite").unlink()
    latency = {"median": 1.0, "p99": 2.0, "rounds": 30}
    names = ["savedmodel", "float32", "float16", "int8"]
    monkeypatch.setattr(deployed_files, "measure_latency", lambda *_: dict.fromkeys(names, latency))
    images = np.r_[dark, bright]
    attacked = AttackedImages(
        images, np.int32([0, 0, 0, 1, 1, 1]), {"swap": images[[0, 1, 3, 3, 4, 0]]}
    )

    part = measure(classifier, tmp_path / "7", tmp_path / "tflite" / "7", attacked)

    assert (part["version"], part["n"], part["threads"], part["batch"]) == (7, 6, 1, 1)
    models = {entry["name"]: entry for entry in part["models"]}
    assert list(models) == ["keras", *names]
    for name in ("keras", "float32", "float16", "int8"):
        assert models[name]["clean"]["accuracy"] == 1
        assert models[name]["attacks"] == [
            {"name": "swap", **proportion(np.array([1, 1, 0, 1, 1, 0], bool))}
        ]
    assert models["savedmodel"]["clean"]["accuracy"] == 0.5
    assert models["savedmodel"]["attacks"][0]["accuracy"] == 0.5
    assert models["savedmodel"]["agreement"]["same_class"] == 0.5
    assert models["float32"]["agreement"]["largest_difference"] < 1e-5
    size = (tmp_path / "tflite" / "7" / "model_float32.tflite").stat().st_size
    assert models["float32"]["bytes"] == size
    files = [path for path in (tmp_path / "7").rglob("*") if path.is_file()]
    assert models["savedmodel"]["bytes"] == sum(path.stat().st_size for path in files)
    assert models["int8"]["latency_ms"] == latency
    assert [line.split(":")[0] for line in part["warnings"]] == ["savedmodel lost accuracy (clean)"]


def test_a_slow_model_is_measured_on_fewer_images():
    empty = np.zeros((500, 1, 1, 1), np.float32)
    attacked = AttackedImages(empty, np.zeros(500, np.int32), {"fgsm": empty, "pgd": empty})
    for milliseconds, images in ((0.5, 20000), (100, 100), (5000, 50)):
        latencies = {name: {"median": milliseconds} for name in ("savedmodel", "int8")}
        assert deployed_files._affordable(attacked, latencies) == images


# A run.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished tiny run with a deployment part; publishing and measuring are made up.

    What they do is tested above, and all of it together where a user's first command is.
    """
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder, tiny(evaluation__deployment=12))
    seen = []

    def export_run(config, run, data_dir, version=1, *_):
        return ExportResult(version, folder / str(version), folder / "tflite", 0.0, (), folder, ())

    def made_up(classifier, savedmodel, tflite, attacked):
        seen.append(attacked)
        return DEPLOYMENT | {"version": int(savedmodel.name)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "export_run", export_run)
        patch.setattr(publish, "measure", made_up)
        assert cli.main(["train", "--config", str(config), "--run-dir", str(folder / "run")]) == 0
        yield folder / "run", seen


def test_a_run_ends_with_the_deployment_in_its_reports(run):
    folder, seen = run
    report = json.loads((folder / "report.json").read_text())
    assert report["deployment"] == json.loads(json.dumps(DEPLOYMENT | {"version": 1}))
    assert {"clean", "attacks", "worst_case", "risks"} <= set(report)
    page = (folder / "report.html").read_text()
    assert "int8 lost accuracy (pgd)" in page
    # The bars, three of the classes, the examples, the training.
    assert page.count("<figure>") == 6
    attacked = seen[0]
    assert len(attacked.labels) == 12
    assert list(attacked.attacked) == ["fgsm", "pgd"]
    kept = AttackedImages.load(folder / "attacked.npz")
    np.testing.assert_array_equal(kept.images, attacked.images)


def test_export_measures_again_on_the_images_of_the_run(run, tmp_path, capsys):
    original, seen = run
    shutil.copytree(original, tmp_path / "run")
    assert cli.main(["export", "--run", str(tmp_path / "run"), "--version", "9"]) == 0
    output = capsys.readouterr().out
    assert "WARNING: int8 lost accuracy (pgd)" in output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["deployment"]["version"] == 9
    np.testing.assert_array_equal(seen[-1].attacked["pgd"], seen[0].attacked["pgd"])
    # A run from before: the images are attacked anew, and come out the same.
    (tmp_path / "run" / "attacked.npz").unlink()
    assert cli.main(["export", "--run", str(tmp_path / "run"), "--version", "10"]) == 0
    np.testing.assert_allclose(seen[-1].attacked["pgd"], seen[0].attacked["pgd"], atol=1e-6)


def test_ctrl_c_while_measuring_leaves_the_report_as_it_was(run, tmp_path, monkeypatch):
    original, _ = run
    shutil.copytree(original, tmp_path / "run")
    before = (tmp_path / "run" / "report.json").read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "measure", interrupted)
    assert cli.main(["export", "--run", str(tmp_path / "run"), "--version", "11"]) == 130
    assert (tmp_path / "run" / "report.json").read_bytes() == before


# What is shown.


def test_the_table_has_a_line_for_each_model():
    lines = reports.deployment_table(DEPLOYMENT).splitlines()
    assert lines[0] == (
        "Exported version 3: 100 test images; batch size 1 on 1 CPU thread (tflite-runtime)"
    )
    table = lines[2:8]
    assert len({len(line) for line in table}) == 1
    assert table[2].split()[:7] == ["Keras", "-", "-", "-", "-", "-", "95.00"]
    low, high = (f"{100 * bound:.2f}" for bound in result_of(0.4)["ci95"])
    file = ["int8", "123.5", "0.42", "1.26", "99.50", "3.3e-02", "94.00"]
    assert table[5].split() == [*file, "40.00", f"[{low},", f"{high}]"]
    assert [line for line in lines if line.startswith("WARNING: int8 lost accuracy (pgd)")]
    assert " ".join(lines).endswith(NOTE)
    assert max(map(len, lines)) <= 100
    assert all(line.isascii() for line in lines)


def test_the_page_has_a_column_for_each_attack():
    class Cells(HTMLParser):
        rows, warnings = [], 0

        def handle_starttag(self, tag, attributes):
            self.rows += [[]] if tag == "tr" else []
            self.warnings += ("class", "reduced") in attributes

        def handle_data(self, text):
            if self.rows:
                self.rows[-1].append(text)

    parser = Cells()
    parser.feed(deployment_html(DEPLOYMENT))
    header, keras, *_, int8 = parser.rows
    assert header[4:] == ["clean %", "fgsm %", "pgd %", "worst case %"]
    assert keras[:8] == ["Keras", *"---", "95.00", "80.00", "75.00", "75.00"]
    assert int8[:6] == ["int8", "123.5 kB", "0.42", "p99 1.26", "99.50", "3.3e-02"]
    assert int8[6:10] == ["94.00", "78.00", "40.00", "40.00"]
    assert parser.warnings == len(DEPLOYMENT["warnings"]) == 2


def test_names_are_escaped_on_the_page():
    attack = {"name": "<b>", **result_of(0.5)}
    models = [entry | {"attacks": [attack]} for entry in MODELS]
    html = deployment_html(DEPLOYMENT | {"models": models, "warnings": ["<script>"]})
    assert "<b>" not in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
