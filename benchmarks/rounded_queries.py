"""GridAdv and RandAdv in bfloat16 first, against float32 alone: time and verdicts.

    python benchmarks/rounded_queries.py MODEL --dataset mnist [--data-dir DIR] [--images 100]

MODEL is the folder of a finished run or a SavedModel. Both precisions alternate in one process.
Processor seconds are those of all threads: they depend less on what else the machine does than the
time on the clock. Exit code 1 if a verdict differs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish, machine, parser, ratio, spread, table

from keras_srt.attacks import Attack, Criterion, GridAdv, RandAdv, TargetModel
from keras_srt.attacks.target_model import classes_of
from keras_srt.core.tensorflow import tf
from keras_srt.data.registry import DATASETS
from keras_srt.evaluation.external.open_model import open_model
from keras_srt.pipeline.configs import load_run_config
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.source import CachedDataset

ATTACKS: dict[str, Attack] = {"gridadv": GridAdv(), "randadv": RandAdv()}
PRECISIONS = ("float32", "auto")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints the table; 1 if a verdict differs."""
    options = _options().parse_args(arguments)
    described = machine()
    source = CachedDataset(DATASETS.build({"name": options.dataset}), options.data_dir)
    count, rounds = (
        (min(options.images, 20), 1) if options.quick else (options.images, options.rounds)
    )
    images = np.float32(source.test(count).images / 255.0)
    models = {key: _open(options, source, images, key) for key in PRECISIONS}
    rows = [
        {"attack": name, **measure(ATTACKS[name], models, images, rounds)}
        for name in options.attacks
    ]
    document = {"machine": described, "model": options.model.name, "rows": rows}
    finish(document, to_markdown(document), options.output)
    return 0 if all(row["same_verdicts"] == row["images"] for row in rows) else 1


def measure(
    attack: Attack, models: dict[str, TargetModel], images: np.ndarray, rounds: int
) -> dict[str, Any]:
    """Attacks the models in turn, once to warm up and then `rounds` times."""
    labels = classes_of(models["float32"].logits(images))
    found, clock = {}, {key: [] for key in models}
    processor, queries = {key: [] for key in models}, {}
    for _ in range(rounds + 1):
        for key, model in models.items():
            before, began = model.queries, (time.perf_counter(), time.process_time())
            found[key] = attack.run(model, images, Criterion(labels), tf.constant([0, 0]))
            clock[key].append(time.perf_counter() - began[0])
            processor[key].append(time.process_time() - began[1])
            queries[key] = model.queries - before
    alone, first = (found[key] for key in PRECISIONS)
    return {
        "images": len(images),
        "robust": float(1 - alone.success.mean()),
        "same_verdicts": int((alone.success == first.success).sum()),
        "same_transforms": int((alone.parameters == first.parameters).all(axis=1).sum()),
        "queries": queries,
        "seconds": {key: values[1:] for key, values in clock.items()},
        "processor_seconds": {key: values[1:] for key, values in processor.items()},
    }


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as a table."""
    rows = []
    for row in document["rows"]:
        pairs = [row[key] for key in ("seconds", "processor_seconds")]
        rows.append(
            [
                f"`{row['attack']}`",
                f"{row['robust']:.1%}",
                *(spread(pairs[0][key]).format(1e3 / row["images"]) for key in PRECISIONS),
                *(ratio(pair["auto"], pair["float32"]).format() for pair in pairs),
                f"{row['queries']['auto'] / row['queries']['float32'] - 1:.1%}",
                f"{row['same_verdicts']} of {row['images']}",
                f"{row['same_transforms']} of {row['images']}",
            ]
        )
    header = ["attack", "not fooled", "float32, ms/image", "auto, ms/image", "ratio"]
    header += ["ratio of processor time", "asked again", "same verdicts", "same transforms"]
    return f"{document['model']}\n\n{table(header, rows)}"


def _open(options: Any, source: CachedDataset, images: np.ndarray, precision: Any) -> TargetModel:
    model = options.model
    if not (model / "config.json").is_file():
        opened = open_model(str(model), source.info, images[:16], 500, precision=precision).model
        if not isinstance(opened, TargetModel):
            raise TypeError(f"{model}: got a model without gradients; allowed: one with gradients")
        return opened
    folder = RunFolder(model)
    context = RunContext.open(load_run_config(folder), folder, options.data_dir)
    return TargetModel(context.best_classifier, 500, precision)


def _options() -> Any:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("model", type=Path, help="folder of a finished run, or a SavedModel")
    made.add_argument("--dataset", default="mnist", choices=list(DATASETS))
    made.add_argument("--data-dir", type=Path)
    made.add_argument("--images", type=int, default=100, help="number of test images")
    made.add_argument("--rounds", type=int, default=3, help="timed runs of each attack")
    made.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    return made


if __name__ == "__main__":
    sys.exit(main())
