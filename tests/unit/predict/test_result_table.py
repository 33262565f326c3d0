"""The table and the JSON lines."""

import json
from pathlib import Path

import numpy as np
import pytest

from keras_srt.core.formatting import printable
from keras_srt.predict.backends import Prediction
from keras_srt.predict.classification import Result
from keras_srt.predict.result_table import Table, json_line


def result(name="x.png", scores=(0.25, 0.7, 0.05), classes=("cat", "dog", "owl"), error=""):
    prediction = (
        Prediction(error=error) if error else Prediction(np.float32(scores), tuple(classes))
    )
    return Result(Path(name), prediction)


def table(results, top=3, width=80, encoding="utf-8"):
    names = [str(shown.file) for shown in results]
    made = Table(names, False, results[0].prediction.classes, top, width, encoding)
    return [made.head(), *(line for shown in results for line in made.rows(shown))]


def test_table_is_aligned():
    results = [result("digits/7.png"), result("a.png", error="bad"), result(scores=(0, 0, 1))]
    assert table(results, top=2) == [
        "file          class  score",
        "digits/7.png  dog    0.700  ████████████████▊",
        "              cat    0.250  ██████",
        "a.png         error",
        "x.png         owl    1.000  ████████████████████████",
        "              cat    0.000",
    ]


def test_table_in_ascii():
    assert table([result("ä.png")], encoding="ascii") == [
        "file      class  score",
        r"\xe4.png  dog    0.700  #################",
        "          cat    0.250  ######",
        "          owl    0.050  #",
    ]


@pytest.mark.parametrize("width", [50, 80, 120])
def test_table_fits_the_terminal(width):
    names = ("a class whose name takes more than one column", "犬" * 30, "x")
    results = [result("folder/" * 20 + "last.png", classes=names), result(classes=names)]
    lines = table(results, width=width)
    assert max(len(line) + line.count("犬") for line in lines) <= width
    # Three tenths of the columns; two per character, one for the ellipsis.
    assert lines[1].count("犬") == (int(0.3 * width) - 1) // 2
    assert lines[1].split()[0].startswith("…")
    assert lines[1].split()[0].endswith("r/last.png")


def test_later_and_longer_names_fit():
    made = Table(["1.png"], True, ["cat"], 1, 80, "utf-8")
    (line,) = made.rows(result("a/longer/name/than/the/first.png", classes=("cat", "dog", "owl")))
    assert line.startswith("a/longer/name/than/the/first.png ")
    assert len(line) <= 80


def test_names_are_not_cut_in_a_file():
    name, classes = "folder/" * 20 + "last.png", ["c" * 60, "d" * 60, "e"]
    (line,) = table([result(name, classes=classes)], top=1, width=None)[1:]
    assert line.split()[:3] == [name, "d" * 60, "0.700"]


def test_json_has_the_keys_of_the_device():
    assert json.loads(json_line(result(), 2, "m")) == {
        "file": "x.png",
        "model": "m",
        "class_id": 1,
        "class_name": "dog",
        "score": pytest.approx(0.7),
        "top": [
            {"class_name": "dog", "score": pytest.approx(0.7)},
            {"class_name": "cat", "score": 0.25},
        ],
    }


def test_control_codes_are_escaped():
    evil = "\x1b[2Jevil\n.png"
    assert printable(evil, "utf-8") == r"\x1b[2Jevil\n.png"
    assert not any("\x1b" in line for line in table([result(evil)]))
