"""An SRT step against the bare forward and backward passes that it consists of.

    python benchmarks/step_cost.py [--precision mixed_bfloat16] [--output FILE.json]

SmallCNN on 128 images of 28×28 pixels, 21 of them labeled, k = 10. All programs of a neighborhood
run interleaved in one process. The bare passes are those of `Objective.passes`: pseudo-labels,
search, and one training pass. Transforms are timed separately and added. With another precision
than float32, the float32 step is timed as well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from harness import finish, interleave, machine, parser, ratio, spread, table
from steps import bare_step, compiled, random_batch, whole_step

from keras_srt import SRT, Composite, LInf, RobustModel, SmallCNN, Spatial
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import BatchSizes
from keras_srt.neighborhoods import Neighborhood
from keras_srt.neighborhoods.draws import fold

_SIZES = BatchSizes(21, 107)
_SHAPE = (28, 28, 1)
_K = 10
_PIXEL, _SPATIAL = LInf(epsilon=0.3, num_steps=_K), Spatial(num_samples=_K)
NEIGHBORHOODS: dict[str, Neighborhood] = {
    "pixel": _PIXEL,
    "spatial": _SPATIAL,
    "composite": Composite(stages=(_PIXEL, _SPATIAL)),
}
_FLOAT32 = "float32"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints a table."""
    options = _options().parse_args(arguments)
    rounds = 2 if options.quick else options.rounds
    described = machine()
    rows = [measure(name, options.precision, rounds) for name in options.neighborhoods]
    document = {
        "machine": described,
        "model": "SmallCNN",
        "images": sum(_SIZES),
        "labeled": _SIZES.labeled,
        "k": _K,
        "precision": options.precision,
        "rows": rows,
    }
    return finish(document, to_markdown(document), options.output)


def measure(name: str, precision: str, rounds: int) -> dict[str, Any]:
    """Seconds of the step, its bare passes and its transforms."""
    print(f"{name}, {precision}", file=sys.stderr)
    programs = make_programs(NEIGHBORHOODS[name], precision)
    if precision != _FLOAT32:
        programs["float32"] = make_programs(NEIGHBORHOODS[name], _FLOAT32)["step"]
    return {"neighborhood": name, "seconds": interleave(programs, rounds)}


def make_programs(neighborhood: Neighborhood, precision: str) -> dict[str, Callable[[], Any]]:
    """The step, its bare passes and, for spatial stages, the transforms."""
    objective = SRT()
    classifier = SmallCNN().build(_SHAPE, 10, precision)
    batch = random_batch(*_SIZES, _SHAPE)
    images = tf.concat([batch["labeled"][0], batch["unlabeled"]], 0)
    labels = tf.zeros([len(images)], tf.int32)
    passes = objective.passes(neighborhood, *_SIZES)
    twin = keras.models.clone_model(classifier)
    twin.set_weights(classifier.get_weights())
    programs: dict[str, Callable[[], Any]] = {
        "bare": bare_step(twin, passes, images, labels),
        "step": whole_step(compiled(RobustModel(classifier, neighborhood, objective)), batch),
    }
    stages = [one for one in neighborhood.stages_in_order if isinstance(one, Spatial)]
    if stages:
        programs["transforms"] = _transforms(stages, images)
    return programs


def _transforms(stages: Sequence[Spatial], images: tf.Tensor) -> Callable[[], Any]:
    """The transforms of a search: one per candidate, and one of the result."""

    @tf.function(autograph=False)
    def run() -> tf.Tensor:
        total = tf.constant(0.0)
        for stage in stages:
            for index in range(stage.solver.passes().forward + 1):
                draws = stage.sample(images, fold(tf.constant([0, 0]), index))
                total += stage.apply(images, draws)[0, 0, 0, 0]
        return total

    return lambda: run().numpy()


def relative(row: dict[str, Any]) -> Any:
    """Step time divided by the time of the bare passes and transforms."""
    seconds = row["seconds"]
    extra = seconds.get("transforms", [0.0] * len(seconds["bare"]))
    return ratio(
        seconds["step"], [bare + more for bare, more in zip(seconds["bare"], extra, strict=True)]
    )


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as a table."""
    columns = {"step": "step", "bare": "bare passes", "transforms": "transforms"}
    if document["precision"] != _FLOAT32:
        columns["float32"] = "step in float32"
    rows = []
    for row in document["rows"]:
        seconds = row["seconds"]
        cells = [spread(seconds[name]).format(1000) if name in seconds else "–" for name in columns]
        rows.append([f"SRT {row['neighborhood']}", *cells, relative(row).format()])
    header = ["objective", *(f"{title}, ms" for title in columns.values()), "step / bare cost"]
    return (
        f"{document['model']}, {document['precision']}, m = {document['images']}, "
        f"m_L = {document['labeled']}, k = {document['k']}\n\n{table(header, rows)}"
    )


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--rounds", type=int, default=15, help="timed runs of each program")
    made.add_argument(
        "--neighborhoods", nargs="+", choices=list(NEIGHBORHOODS), default=list(NEIGHBORHOODS)
    )
    made.add_argument(
        "--precision", choices=[_FLOAT32, "mixed_bfloat16", "mixed_float16"], default=_FLOAT32
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
