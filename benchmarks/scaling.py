"""Time and price of two trainings on GPUs, as the cost model has them; the model checked here.

    python benchmarks/scaling.py [--check] [--efficiency 0.2] [--prices 2 4] [--output FILE.json]

Without `--check` nothing is measured: the tables come from `keras_srt.pipeline.cost`. With it, the
throughput is fitted to the step time of one size, and the step times of others are predicted
from it and measured.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

from measuring import bound, finish, interleave, machine, parser, spread, table
from passes import compiled, random_batch, whole_step

from keras_srt import SRT, LInf, RobustModel, SmallCNN, batch_sizes
from keras_srt.core.tensorflow import keras
from keras_srt.data import DatasetInfo
from keras_srt.pipeline import plan as plans
from keras_srt.pipeline.classifiers import load_config
from keras_srt.pipeline.cost import MACHINES, Machine, Work, fit_throughput, measure_model, predict

ASKED_ERROR = 0.15
_DEVICES = (1, 8, 64)
_K = 10
# Images of a batch and pixels across; the throughput is fitted to the first.
_SIZES = ((64, 28), (128, 28), (64, 40))
_CIFAR = DatasetInfo("CIFAR-10", (32, 32, 3), tuple("0123456789"), 50_000, 10_000)
# ImageNet's training part with a tenth of the labels; passes over all of it.
_IMAGENET, _LABELED, _PASSES = 1_281_167, 128_116, 90
_PER_DEVICE = 128


def cifar(devices: int) -> Work:
    """The reference settings; the batch stays as it is, however many devices share it."""
    del devices
    config = load_config("cifar_pixel")
    plan = plans.make_plan(config, _CIFAR)
    size = measure_model(config.model.build(_CIFAR.input_shape, 10))
    return Work("CIFAR-10, WRN-34-10", *size, sum(plan.sizes), plan.passes, plan.steps)


def imagenet(devices: int) -> Work:
    """ResNet-50 at 224×224 pixels, PGD-10; the batch grows with the devices."""
    images = _PER_DEVICE * devices
    sizes = batch_sizes(images, _LABELED, _IMAGENET - _LABELED)
    size = measure_model(keras.applications.ResNet50(weights=None))
    passes = SRT().passes(LInf(epsilon="4/255", num_steps=_K), *sizes)
    steps = math.ceil(_PASSES * _IMAGENET / images)
    return Work("ImageNet, ResNet-50", *size, images, passes, steps, decoded=True)


def predictions(machines: Sequence[Machine]) -> list[dict[str, Any]]:
    """Both trainings on every number of devices of every machine."""
    rows = []
    for work_on in (cifar, imagenet):
        works = {devices: work_on(devices) for devices in _DEVICES}
        for chosen in machines:
            for devices, work in works.items():
                made = predict(work, chosen, devices)._asdict()
                what = {"training": work.name, "machine": chosen.name, "devices": devices}
                rows.append(what | {"images": work.images, "steps": work.steps} | made)
    return rows


def check(rounds: int) -> dict[str, Any]:
    """Step times of several sizes, in turn; what the first predicts of the others."""
    works, programs = {}, {}
    for images, pixels in _SIZES:
        name = f"{images} images of {pixels}×{pixels}"
        labeled, unlabeled = batch_sizes(images, 10_000, 50_000)
        classifier = SmallCNN().build((pixels, pixels, 1), 10)
        objective, ball = SRT(), LInf(epsilon=0.3, num_steps=_K)
        passes = objective.passes(ball, labeled, unlabeled)
        works[name] = Work(name, *measure_model(classifier), images, passes, 1)
        model = compiled(RobustModel(classifier, ball, objective))
        programs[name] = whole_step(model, random_batch(labeled, unlabeled, (pixels, pixels, 1)))
    seconds = interleave(programs, rounds)
    medians = {name: spread(values).median for name, values in seconds.items()}
    fitted, *others = works
    here = fit_throughput(works[fitted], medians[fitted])
    rows = []
    for name in others:
        foretold = predict(works[name], here).step
        error = foretold / medians[name] - 1
        rows.append(
            {"size": name, "predicted": foretold, "measured": medians[name], "error": error}
        )
    return {"fitted": fitted, "tflops": here.tflops, "rows": rows, "seconds": seconds}


def predictions_table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each training, machine and number of devices."""
    body = [
        [
            row["training"],
            row["machine"],
            str(row["devices"]),
            f"{row['images']:,}",
            f"{1000 * row['step']:.0f}",
            *(f"{100 * row[part] / row['step']:.0f}" for part in ("compute", "launch", "reduce")),
            f"{row['hours']:.1f}",
            f"{row['price']:,.0f}",
        ]
        for row in rows
    ]
    header = ["training", "device", "devices", "batch", "step, ms", "compute, %", "launch, %"]
    return table([*header, "reduce, %", "hours", "price"], body)


def check_table(part: dict[str, Any]) -> str:
    """What was predicted and what was measured."""
    body = [
        [
            row["size"],
            f"{1000 * row['predicted']:.0f}",
            f"{1000 * row['measured']:.0f}",
            f"{row['error']:+.1%}",
            bound(abs(row["error"]), ASKED_ERROR),
        ]
        for row in part["rows"]
    ]
    fitted = f"{1000 * part['tflops']:.1f} GFLOP/s, fitted to {part['fitted']}"
    header = [f"SRT step, SmallCNN, PGD-{_K}", "predicted, ms", "measured, ms", "error", "asked"]
    return f"{fitted}\n\n{table(header, body)}"


def _options() -> argparse.Namespace:
    made = parser(__doc__, "scaling")
    made.add_argument("--check", action="store_true", help="measure, too (idle machine)")
    made.add_argument("--efficiency", type=float, help="share of the peak that is reached")
    made.add_argument(
        "--prices", type=float, nargs=len(MACHINES), help=f"an hour of {', '.join(MACHINES)}"
    )
    return made.parse_args()


def main() -> int:
    """Predicts, measures if asked, prints and writes."""
    options = _options()
    machines = list(MACHINES.values())
    if options.efficiency is not None:
        machines = [each._replace(efficiency=options.efficiency) for each in machines]
    if options.prices is not None:
        priced = zip(machines, options.prices, strict=True)
        machines = [each._replace(price=price) for each, price in priced]
    document: dict[str, Any] = {
        "machine": machine(),
        "assumed": [each._asdict() for each in machines],
        "predictions": predictions(machines),
    }
    text = predictions_table(document["predictions"])
    if options.check:
        document["check"] = check(rounds=2 if options.quick else 15)
        text += "\n\n" + check_table(document["check"])
    return finish(document, text, options.output)


if __name__ == "__main__":
    sys.exit(main())
