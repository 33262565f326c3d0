"""How far 100 SRT steps on a device carry a classifier into a domain it never saw.

    python benchmarks/device_adaptation.py --run runs/digits_pixel --output docs

A finished run on digits is exported with `write_trainable`. Its training images are turned
into another domain (inverted, or rotated by 90 degrees) and written as PNG files, 100 of
them labeled; `python -m keras_srt.device.train` learns from these. Clean and PGD robust
accuracy on the test images of that domain are measured with the Keras classifier, into
which the learned weights are read back. Writes device_adaptation.json and .png.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_srt.attacks import PGD
from keras_srt.device import train
from keras_srt.device.trainer import Trainer
from keras_srt.device.weights import load_weights
from keras_srt.evaluation.runner import evaluate_robustness, proportion
from keras_srt.exporters.trainable_tflite.exporter import write_trainable
from keras_srt.exporters.trainable_tflite.weights import assign_weights
from keras_srt.pipeline import run as pipeline
from keras_srt.pipeline.run_folder import RunFolder, write_json

DOMAINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": lambda images: 255 - images,
    "rotated by 90°": lambda images: np.rot90(images, axes=(1, 2)),
}
INTERPRETERS = ("ai-edge-litert", "tflite-runtime", "tensorflow")
LABELED = 100
TIMED_STEPS = 10
# In the order of the figure: a color and a marker each.
_LINES = {"clean": ("#0b6e99", "o", "-"), "robust": ("#b5431a", "s", "--")}


def main() -> None:
    """Measures, prints the table, writes the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/digits_pixel"))
    parser.add_argument("--output", type=Path, default=Path("docs"))
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--limit", type=int, default=500, help="test images")
    options = parser.parse_args()
    run = RunFolder(options.run)
    config = pipeline.load_run_config(run)
    info = config.data.dataset.info(None)
    classifier = pipeline.best_classifier(config, run, info)
    settings = pipeline.device_training(config)
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model_train.tflite"
        samples = np.float32(config.data.dataset.load_test(None).images[:8] / 255.0)
        write_trainable(classifier, info.class_names, model, settings, samples)
        rows = []
        for domain, change in DOMAINS.items():
            classifier = pipeline.best_classifier(config, run, info)
            folder = Path(scratch) / domain
            rows += _adapt(config, classifier, model, folder, domain, change, options)
        times = {name: _time(model, name) for name in INTERPRETERS}
    result = {"settings": vars(settings), "rows": rows, "step_ms": times}
    print(_table(result))
    write_json(options.output / "device_adaptation.json", result)
    _figure(rows, options.output / "device_adaptation.png")


def _adapt(
    config: Any,
    classifier: Any,
    model: Path,
    folder: Path,
    domain: str,
    change: Callable[[np.ndarray], np.ndarray],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Accuracies in a domain before, and after each number of steps."""
    images, labels = config.data.dataset.load_train(None)
    _write_images(folder, change(images), labels)
    test, answers = config.data.dataset.load_test(None)
    test, answers = np.float32(change(test)[: options.limit] / 255.0), answers[: options.limit]
    rows = [_measure(config, classifier, test, answers, domain, 0)]
    weights = folder / "weights.npz"
    for steps in options.steps:
        _learn(model, folder, weights, steps)
        assign_weights(classifier, load_weights(weights, Trainer(model).checksum).state)
        rows.append(_measure(config, classifier, test, answers, domain, steps))
        print(rows[-1], flush=True)
    return rows


def _write_images(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """`LABELED` images in class folders, all of them without labels."""
    for number, (image, label) in enumerate(zip(images[..., 0], labels, strict=True)):
        targets = [folder / "unlabeled"]
        targets += [folder / "labeled" / str(label)] if number < LABELED else []
        for target in targets:
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(target / f"{number:05}.png")


def _learn(model: Path, folder: Path, weights: Path, steps: int) -> None:
    arguments = ["--model", model, "--output", weights, "--steps", steps, "--resume"]
    arguments += ["--labeled", folder / "labeled", "--unlabeled", folder / "unlabeled"]
    code = train.main(list(map(str, arguments)))
    if code:
        raise SystemExit(code)


def _measure(
    config: Any, classifier: Any, images: np.ndarray, labels: np.ndarray, domain: str, steps: int
) -> dict[str, Any]:
    attack = PGD(epsilon=config.neighborhood.epsilon, num_steps=20)
    found = evaluate_robustness(classifier, images, labels, [attack], batch_size=250)
    return {
        "domain": domain,
        "steps": steps,
        "clean": proportion(found.right),
        "robust": proportion(found.still_right("pgd")),
    }


def _time(model: Path, interpreter: str) -> float:
    """Median CPU time of a step in ms, on one thread; other processes don't count."""
    trainer = Trainer(model, interpreter=interpreter)
    generator = np.random.default_rng(0)
    sizes = trainer.settings["labeled"], trainer.settings["unlabeled"]
    batch = {
        "labeled": generator.random((sizes[0], *trainer.shape), np.float32),
        "labels": np.arange(sizes[0]) % len(trainer.labels),
        "unlabeled": generator.random((sizes[1], *trainer.shape), np.float32),
        "noise": generator.uniform(-1, 1, (sum(sizes), *trainer.shape)),
    }
    seconds = []
    for _ in range(TIMED_STEPS + 1):
        begin = time.process_time()
        trainer.step(**batch)
        seconds.append(time.process_time() - begin)
    return 1000 * float(np.median(seconds[1:]))  # the first one allocates


def _table(result: dict[str, Any]) -> str:
    lines = ["| domain | steps | clean | PGD robust |", "| --- | --- | --- | --- |"]
    for row in result["rows"]:
        cells = [row["domain"], str(row["steps"]), _share(row["clean"]), _share(row["robust"])]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| interpreter | CPU time of a step |", "| --- | --- |"]
    lines += [f"| {name} | {ms:.0f} ms |" for name, ms in result["step_ms"].items()]
    return "\n".join(lines)


def _share(result: dict[str, Any]) -> str:
    low, high = result["ci95"]
    return f"{100 * result['accuracy']:.1f}% [{100 * low:.1f}, {100 * high:.1f}], n={result['n']}"


def _figure(rows: Sequence[dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(DOMAINS), sharey=True)
    for panel, domain in zip(panels, DOMAINS, strict=True):
        chosen = [row for row in rows if row["domain"] == domain]
        steps = [row["steps"] for row in chosen]
        for kind, (color, marker, style) in _LINES.items():
            share = np.array([row[kind]["accuracy"] for row in chosen])
            low, high = np.array([row[kind]["ci95"] for row in chosen]).T
            label = {"clean": "clean", "robust": "under PGD-20"}[kind]
            panel.fill_between(steps, 100 * low, 100 * high, color=color, alpha=0.15, lw=0)
            panel.plot(steps, 100 * share, color=color, marker=marker, ls=style, label=label)
        panel.set(title=f"digits, {domain}", xlabel="SRT steps on the device", ylim=(0, 100))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy in % (band: 95% interval)")
    panels[0].legend(loc="upper left")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
