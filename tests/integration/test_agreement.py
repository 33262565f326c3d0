"""Every route to a published model answers as the Keras model, and the docs' table says so."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, python, write_config
from serving_helpers import running, running_gateway

from keras_srt.cli import main as cli
from keras_srt.core.tensorflow import keras, tf
from keras_srt.exporters.export import export_classifier

sys.path.append(str(ROOT / "benchmarks"))

import agreement
from agreement_routes import (
    FLOATS,
    PNGS,
    Answer,
    Published,
    Route,
    Unavailable,
    all_routes,
    reference,
)
from agreement_table import TOLERANCES, is_within, row, row_not_run, to_markdown

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
DOCS = ROOT / "docs" / "agreement.md"


def start_here(option, value):
    """`keras-srt serve` in this process, which spares the seconds of another TensorFlow."""

    @contextmanager
    def started():
        make = running if option == "--model" else running_gateway
        with make(Path(value) if option == "--model" else value) as server:
            yield server.url

    return started()


def is_cheap(route):
    return "saved_model_cli" not in route.name


CHEAP = [route for route in all_routes(start_here) if is_cheap(route)]
OUT_OF_TOLERANCE = row("R", "floats", "s 1", "int8", Answer(*np.eye(2)), Answer(*np.zeros((2, 2))))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A network of some hundred weights, exported."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, activation="relu")]
    # Large weights, for classes that are far apart.
    layers += [keras.layers.Flatten(), keras.layers.Dense(3, kernel_initializer="random_normal")]
    classifier = keras.Sequential(layers)
    classifier.layers[-1].set_weights([w * 20 for w in classifier.layers[-1].get_weights()])
    samples = np.float32(IMAGES / 255.0)
    folder = tmp_path_factory.mktemp("published") / "tiny"
    exported = export_classifier(classifier, ["a", "b", "c"], folder, samples)
    return Published(classifier, exported.savedmodel, exported.tflite)


def route_that_says(answer, ways=(FLOATS,)):
    """A route of Keras with its answer changed by a function."""

    @contextmanager
    def opened(model):
        with reference(model) as ask:
            yield lambda way, batch: answer(ask(way, batch))

    return Route("changed", ("numpy",), opened, ways)


# The routes, on a small model.


@pytest.mark.parametrize("route", CHEAP, ids=lambda route: f"{route.name}, {route.packages[0]}")
def test_every_route_answers_as_keras(published, route):
    rows = agreement.compare(published, IMAGES, [route])
    assert [made["input"] for made in rows] == [way.title for way in route.ways]
    for made in rows:
        if made.get("not_run", "").startswith("No module named"):
            pytest.skip(made["not_run"])
        assert made["images"] == len(IMAGES)
        assert made["software"].startswith(f"{route.packages[0]} ")
        assert is_within(made), made
        if route.precision == "float32":
            assert made["largest_difference"] <= 1e-5
            assert made["same_class"] == len(IMAGES)


def test_the_small_model_has_something_to_say(published):
    with reference(published) as ask:
        probabilities, classes = ask(FLOATS, np.float32(IMAGES / 255.0))
    assert set(classes) == {0, 1, 2}
    assert np.median(probabilities.max(axis=1)) > 0.6


def test_no_route_of_the_issue_is_forgotten():
    names = " ".join(route.name for route in all_routes())
    for part in (
        "Keras",
        "Python loader",
        "saved_model_cli",
        "C API",
        "serve",
        "gRPC",
        "--backend",
    ):
        assert part in names
    pairs = {(route.precision, route.packages[0]) for route in all_routes() if "TFLite" in route[0]}
    precisions = ("float32", "float16", "dynamic", "int8")
    interpreters = ("tensorflow", "tflite-runtime", "ai-edge-litert")
    assert pairs == {(p, i) for p in precisions for i in interpreters}


# What the comparison finds.


def test_both_ways_in_carry_the_same_images(published):
    seen = {}

    @contextmanager
    def opened(model):
        def ask(way, batch):
            seen[way] = batch
            return Answer(np.zeros((len(batch), 3)), np.zeros(len(batch), int))

        yield ask

    agreement.compare(published, IMAGES, [Route("spy", (), opened)])
    np.testing.assert_array_equal(np.round(seen[FLOATS] * 255), IMAGES)
    assert seen[FLOATS].dtype == np.float32
    decoded = [np.asarray(tf.io.decode_png(image)) for image in seen[PNGS]]
    np.testing.assert_array_equal(decoded, IMAGES)


@pytest.mark.parametrize(
    ("change", "difference", "same"),
    [
        (lambda a: a, 0.0, 24),
        # A class that is called by another's id.
        (lambda a: Answer(a.probabilities, (a.classes + 1) % 3), 0.0, 0),
        # Images that are called invalid.
        (lambda a: Answer(a.probabilities, np.where(np.arange(24) < 4, -1, a.classes)), 0.0, 20),
        (lambda a: Answer(a.probabilities + 0.25, a.classes), 0.25, 24),
        (lambda a: Answer(a.probabilities * np.nan, a.classes), np.nan, 24),
    ],
)
def test_differences_are_found(published, change, difference, same):
    (made,) = agreement.compare(published, IMAGES, [route_that_says(change)])
    np.testing.assert_allclose(made["largest_difference"], difference, atol=1e-7)
    assert made["same_class"] == same
    assert is_within(made) == (difference == 0 and same == 24)


def test_an_image_without_an_answer_is_an_error(published):
    route = route_that_says(lambda a: Answer(a.probabilities[1:], a.classes[1:]))
    with pytest.raises(ValueError, match=r"changed, floats: answers of shapes \(23, 3\)"):
        agreement.compare(published, IMAGES, [route])


def test_large_sets_are_asked_for_in_batches(published):
    sizes = []

    def note(answer):
        sizes.append(len(answer.classes))
        return answer

    images = np.resize(IMAGES, (450, 8, 8, 1))
    (made,) = agreement.compare(published, images, [route_that_says(note)])
    assert sizes == [200, 200, 50]
    assert (made["images"], made["same_class"]) == (450, 450)


def test_what_is_not_here_is_listed_with_the_reason(published, tmp_path):
    @contextmanager
    def missing(model):
        raise Unavailable("no such thing")
        yield

    routes = [Route("gone", ("no-such-package",), missing), *CHEAP[-1:]]
    told = []
    rows = agreement.compare(published._replace(tflite=tmp_path), IMAGES, routes, told.append)
    assert rows == told
    assert [made["not_run"].split(":")[0] for made in rows] == [
        "no such thing",
        "no such thing",
        "`export` left this file out",
    ]
    assert rows[0]["software"] == "no-such-package (not installed)"


# The table.


def test_the_markdown_of_a_table():
    rows = [
        row("`serve`", "floats", "x 1.2", "float32", *[Answer(*np.eye(2))] * 2),
        OUT_OF_TOLERANCE,
        row_not_run("cli", "PNG files", "y 3", "not installed"),
    ]
    document = {"images": 2, "model": "M", "command": "C", "machine": "2 cores", "rows": rows}
    text = to_markdown(document)
    assert [line for line in text.splitlines() if line.startswith("|")][2:] == [
        "| `serve` | floats | x 1.2 | 2 | 0 | 1.0e-05 | 2 | 100% |",
        "| R | floats | s 1 | 2 | 1 (too much) | 0.25 | 1 | 95% |",
        "| cli | PNG files | y 3 | not run: not installed |  |  |  |  |",
    ]
    assert "The same 2 test images" in text
    assert "\n    C\n" in text


@pytest.mark.parametrize(("rows", "code"), [([], 0), ([OUT_OF_TOLERANCE], 1)])
def test_the_command_writes_both_files_and_tells_by_its_exit_code(
    tmp_path, monkeypatch, rows, code
):
    document = {"images": 2, "model": "M", "command": "C", "machine": "2 cores", "rows": rows}
    monkeypatch.setattr(agreement, "_measure", lambda options: document)
    assert agreement.main(["--run", "r", "--output", str(tmp_path / "a.md")]) == code
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == to_markdown(document)
    assert json.loads((tmp_path / "a.json").read_text()) == document


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no config.json"),
        (["--images", "0"], "--images: got 0"),
        (["--output", "no-such-folder/a.md"], "its folder doesn't exist"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, words):
    assert agreement.main(["--run", str(tmp_path), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


# The table in the docs.


@pytest.fixture(scope="module")
def documented():
    return json.loads(DOCS.with_suffix(".json").read_text())


def test_the_page_is_what_the_figures_say(documented):
    assert DOCS.read_text(encoding="utf-8") == to_markdown(documented)


def test_the_page_has_every_route_run_with_200_images(documented):
    expected = [(r.name, w.title, r.packages[0]) for r in all_routes() for w in r.ways]
    rows = documented["rows"]
    assert [(r["route"], r["input"], r["software"].split(" ")[0]) for r in rows] == expected
    assert not [made for made in rows if "not_run" in made]
    assert {made["images"] for made in rows} == {documented["images"]} == {200}


def test_the_page_keeps_the_tolerances_of_today(documented):
    precisions = [route.precision for route in all_routes() for _ in route.ways]
    for made, precision in zip(documented["rows"], precisions, strict=True):
        tolerance = TOLERANCES[precision]
        assert (made["allowed_difference"], made["least_share"]) == tolerance
        assert is_within(made), made


# The whole command.


@pytest.mark.slow
def test_the_command_on_a_run(tmp_path):
    config = write_config(tmp_path)
    assert cli.main(["train", "--config", str(config), "--run-dir", str(tmp_path / "run")]) == 0
    arguments = ["--run", tmp_path / "run", "--images", "20", "--output", tmp_path / "a.md"]
    process = python(ROOT / "benchmarks" / "agreement.py", *arguments, timeout=600)
    document = json.loads((tmp_path / "a.json").read_text())
    assert [(made["route"], made["input"]) for made in document["rows"]] == [
        (route.name, way.title) for route in all_routes() for way in route.ways
    ]
    floats = [made for made in document["rows"] if made.get("allowed_difference") == 1e-5]
    assert len(floats) >= 14
    assert all(map(is_within, floats)), floats
    assert process.stderr == ""
    # Six steps of training leave classes that 8 bits can't tell apart.
    assert process.returncode in (0, 1)
