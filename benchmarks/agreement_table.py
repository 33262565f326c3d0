"""The table of agreement: its rows, what they may be, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Tolerance(NamedTuple):
    """How closely a route has to answer.

    Attributes:
        difference: largest one in a probability.
        same_class: least share of images with the class of the Keras model.
    """

    difference: float
    same_class: float


# By the precision of the weights.
TOLERANCES = {
    # Nothing but the order of float32 additions may differ.
    "float32": Tolerance(1e-5, 1.0),
    # Weights keep 11 bits, a relative 5e-4: with logits around 20, 0.01 in a logit.
    "float16": Tolerance(1e-2, 0.99),
    # Weights keep 8 bits, and in int8 the activations too: where two classes are equally
    # probable, a logit that is off by 1 moves a probability by 0.23.
    "dynamic": Tolerance(0.25, 0.95),
    "int8": Tolerance(0.25, 0.95),
}

_HEAD = """\
# Agreement

The same {images} test images by every route that leads to a published model, compared with the
Keras model that it was exported from. Written, with [agreement.json](agreement.json), by

    {command}

- Model: {model}.
- Machine: {machine}.

`tests/integration/test_agreement.py` holds this table to its tolerances, and compares a small
model by the same routes: all but `saved_model_cli` at each run of the tests, that one and servers
in processes of their own with `pytest -m slow`.

| route | input | software | images | largest difference | allowed | same class | at least |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |
"""

_FOOT = """
- *Floats* are float32 in [0, 1] for the signature `image`, or for the interpreter. *PNG files*
  hold the same images, which are of 8 bits, for the signature `serving_default`; the Keras model
  gets them as `keras_srt.core.images` decodes them, which a device does, too.
- *Largest difference* is that of a probability from the Keras model's for the floats, over all
  images and classes; *same class* counts the images for which the route names the same class. The
  first row is that model itself.
- What float32 allows leaves room for another order of additions alone. The other files round the
  weights (float16 to 11 bits, dynamic and int8 to 8) and, in int8, the activations; what rounding
  does to accuracy under attack is in the `deployment` part of each run's report.
- TF Serving itself can't be installed where this was measured. Its parts stand in for it: the C
  API is the loader and the session of its server, and the gRPC server speaks by its own stubs.
"""


def row(
    route: str, way: str, software: str, precision: str, expected: Any, got: Any
) -> dict[str, Any]:
    """Compares what a route answered with the reference.

    Args:
        route: its name.
        way: title of the way in.
        software: names and versions.
        precision: a key of `TOLERANCES`.
        expected: probabilities [n, classes] and class ids [n] of the Keras model.
        got: the same of the route.

    Returns:
        A row of the table.

    Raises:
        ValueError: the route didn't answer each image.
    """
    probabilities, classes = map(np.asarray, got)
    if probabilities.shape != expected[0].shape or classes.shape != expected[1].shape:
        raise ValueError(
            f"{route}, {way}: answers of shapes {probabilities.shape} and {classes.shape}; "
            f"allowed: {expected[0].shape} and {expected[1].shape}"
        )
    allowed = TOLERANCES[precision]
    return {
        **head(route, way, software),
        "images": len(classes),
        "largest_difference": float(np.abs(probabilities - expected[0]).max()),
        "allowed_difference": allowed.difference,
        "same_class": int((classes == expected[1]).sum()),
        "least_share": allowed.same_class,
    }


def row_not_run(route: str, way: str, software: str, reason: str) -> dict[str, Any]:
    """The row of a route that this machine lacks."""
    return {**head(route, way, software), "not_run": reason}


def head(route: str, way: str, software: str) -> dict[str, Any]:
    """What every row has."""
    return {"route": route, "input": way, "software": software}


def is_within(row: Mapping[str, Any]) -> bool:
    """Whether a row keeps its tolerances; one that was not run does not break them.

    Example:
        >>> is_within({"largest_difference": 0.2, "allowed_difference": 0.1})
        False
    """
    if "not_run" in row:
        return True
    # Written so that NaN fails.
    return (
        row["largest_difference"] <= row["allowed_difference"]
        and row["same_class"] >= row["least_share"] * row["images"]
    )


def to_markdown(document: Mapping[str, Any]) -> str:
    """Renders the table.

    Args:
        document: `images`, `model`, `command`, `machine` and `rows`.

    Returns:
        The text of docs/agreement.md.
    """
    return _HEAD.format(**document) + "".join(map(_line, document["rows"])) + _FOOT


def _line(row: Mapping[str, Any]) -> str:
    cells = [row["route"], row["input"], row["software"]]
    if "not_run" in row:
        cells += [f"not run: {row['not_run']}", "", "", "", ""]
    else:
        cells += [
            str(row["images"]),
            _number(row["largest_difference"]) + ("" if is_within(row) else " (too much)"),
            _number(row["allowed_difference"]),
            str(row["same_class"]),
            f"{row['least_share']:.0%}",
        ]
    return f"| {' | '.join(cells)} |\n"


def _number(value: float) -> str:
    """Two digits, which are enough for a difference: 0.25, 6.0e-07."""
    return f"{value:.2g}" if value == 0 or value >= 0.01 else f"{value:.1e}"
