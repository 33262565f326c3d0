"""The way of a run: config -> data -> training -> evaluation -> report -> export."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt import config as configs
from keras_srt import plan as plans
from keras_srt import report as reports
from keras_srt.attacks import ATTACKS, Attack
from keras_srt.checks import InvalidSettings, UserError
from keras_srt.components import settings_of
from keras_srt.config import Components, Config
from keras_srt.data import (
    DATASETS,
    Augmentation,
    DatasetInfo,
    Images,
    Split,
    evaluation_batches,
    make_split,
    training_batches,
)
from keras_srt.deployment import Attacked, measure
from keras_srt.evaluation import Progress, Robustness, evaluate_robustness
from keras_srt.export import Exported, TrainingSettings, export_classifier
from keras_srt.lazy import keras, tf
from keras_srt.models import MODELS
from keras_srt.neighborhoods import NEIGHBORHOODS
from keras_srt.objectives import OBJECTIVES
from keras_srt.plan import Plan
from keras_srt.runs import RunFolder, write_json

COMPONENTS = Components(DATASETS, MODELS, NEIGHBORHOODS, OBJECTIVES, ATTACKS)

_VALIDATION_BATCH = 250
_PICTURES = 8
_EXPORT_SAMPLES = 64
_CALIBRATION_IMAGES = 300


class Interrupted(Exception):
    """Ctrl-C during training; the state is saved, and the text says how to go on."""


def load_config(name: str, variant: str | None = None, overrides: Iterable[str] = ()) -> Config:
    """Finds and reads a config, see `keras_srt.config.load`."""
    return configs.load(configs.find(name), COMPONENTS, variant, overrides)


def load_run_config(run: RunFolder) -> Config:
    """Reads the config of an existing run.

    Raises:
        UserError: the folder is no run.
    """
    if not run.config.is_file():
        raise UserError(f"{run.path}: is not a run (no config.json); give the folder of a run")
    return configs.load(run.config, COMPONENTS)


def build_classifier(config: Config, info: DatasetInfo, precision: str) -> keras.Model:
    """The config's model with fresh weights, drawn from the config's seed.

    Raises:
        InvalidSettings: the model can't take the images of the dataset.
    """
    keras.utils.set_random_seed(config.seed)
    try:
        return config.model.build(info.input_shape, len(info.class_names), precision)
    except InvalidSettings as error:
        raise error.under("model") from None


def build_model(config: Config, info: DatasetInfo, plan: Plan) -> Any:
    """The compiled `RobustModel` of a config."""
    from keras_srt.training import RobustModel, linear_strength

    training = config.training
    model = RobustModel(
        build_classifier(config, info, training.precision),
        config.neighborhood,
        config.objective,
        seed=config.seed,
        strength=linear_strength(plan.strength_steps),
        weight_decay=training.weight_decay,
    )
    rate = plans.learning_rate(config, plan)
    model.compile(optimizer=keras.optimizers.SGD(rate, momentum=training.momentum))
    model.optimizer.build(model.classifier.trainable_variables)
    return model


def train(
    config: Config,
    run: RunFolder,
    data_dir: Path | None,
    resume: bool = False,
    how_to_resume: str = "",
) -> None:
    """Trains, from the start or from the last checkpoint, and leaves the best classifier.

    Args:
        config: of the run.
        run: its folder, claimed.
        data_dir: where prepared datasets lie, or None.
        resume: whether to go on from the last checkpoint, if there is one.
        how_to_resume: the command to print after Ctrl-C.

    Raises:
        UserError: the dataset, the split or a checkpoint can't be used.
        Interrupted: after Ctrl-C, with the state saved.
    """
    from keras_srt import callbacks

    if not tf.config.list_physical_devices("GPU"):
        # Equal seeds give equal results; on CPUs this costs nothing measurable.
        tf.config.experimental.enable_op_determinism()
    info = config.data.dataset.info(data_dir)
    plan = plans.make_plan(config, info)
    model = build_model(config, info, plan)
    checkpoints = callbacks.Checkpoints(run.checkpoints, model)
    checkpoints.set_model(model)
    if resume and checkpoints.restore():
        print(f"resuming at step {int(model.optimizer.iterations.numpy())}", flush=True)
    else:
        _announce(config, plan, plans.time_step(model, plan, info))
    first_step = int(model.optimizer.iterations.numpy())
    unvalidated = _is_unvalidated(first_step, plan, run)
    if first_step >= plan.steps and not unvalidated:
        return
    images, labels = config.data.dataset.load_train(data_dir)
    split = _split(config, run, labels, info)
    validation = Images(images[split.validation], labels[split.validation])
    bar = callbacks.ProgressBar(plan.steps, first_step, plan.labeled_passes)
    watching = _callbacks(run, validation, bar, checkpoints)
    try:
        if unvalidated:
            batches = evaluation_batches(*validation, _VALIDATION_BATCH)
            _validate_late(model, (first_step - 1) // plan.interval, batches, watching)
        _fit(model, config, plan, first_step, images, labels, split, watching)
    except KeyboardInterrupt:
        bar.close()
        checkpoints.save()
        step = int(model.optimizer.iterations.numpy())
        raise Interrupted(
            f"interrupted: the state after step {step} is saved; go on with\n  {how_to_resume}"
        ) from None
    finally:
        bar.close()


def _callbacks(run: RunFolder, validation: Images, bar: Any, checkpoints: Any) -> list[Any]:
    """What watches a training, in the order it is told of each interval."""
    from keras_srt import callbacks

    return [
        callbacks.StopAtNaN(),
        callbacks.StepLogs(),
        bar,
        callbacks.CollapseHint(validation.labels),
        callbacks.PerturbationPictures(
            run.tensorboard / "pictures",
            np.float32(validation.images[:_PICTURES] / 255.0),
            validation.labels[:_PICTURES],
        ),
        checkpoints,
        keras.callbacks.CSVLogger(str(run.history), append=True),
        keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False),
    ]


def _fit(
    model: Any,
    config: Config,
    plan: Plan,
    first_step: int,
    images: np.ndarray,
    labels: np.ndarray,
    split: Split,
    watching: Sequence[Any],
) -> None:
    """Trains from a step to the end, segment by segment."""
    validation = images[split.validation], labels[split.validation]
    for segment in plans.segments(plan, first_step):
        batches = training_batches(
            images[split.labeled],
            labels[split.labeled],
            images[split.unlabeled] if plan.num_unlabeled else images[:0],
            plan.sizes,
            seed=config.seed,
            first_step=segment.first_step,
            augmentation=Augmentation(config.data.augmentation.pad, config.data.augmentation.flip),
        )
        model.fit(
            batches,
            initial_epoch=segment.initial_epoch,
            epochs=segment.epochs,
            steps_per_epoch=segment.steps_per_epoch,
            validation_data=evaluation_batches(*validation, _VALIDATION_BATCH),
            callbacks=watching,
            verbose=0,
        )


def _is_unvalidated(step: int, plan: Plan, run: RunFolder) -> bool:
    """Whether Ctrl-C came between the last step of an interval and its validation's end."""
    history = run.read_history()
    validated = int(history[-1]["step"]) if history else 0
    return step > validated and (step % plan.interval == 0 or step == plan.steps)


def _validate_late(
    model: keras.Model, interval: int, batches: tf.data.Dataset, watching: Sequence[Any]
) -> None:
    """Makes up for the validation of an interval; its training losses are lost (NaN)."""
    results = model.evaluate(batches, verbose=0, return_dict=True)
    logs = dict.fromkeys(("loss", *model.objective.term_names), math.nan)
    logs |= {f"val_{name}": value for name, value in results.items()}
    callbacks = keras.callbacks.CallbackList(watching, model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(interval)
    callbacks.on_epoch_end(interval, logs)
    callbacks.on_train_end()


def _announce(config: Config, plan: Plan, step: plans.StepTime) -> None:
    print(plans.estimate(plan, step), flush=True)
    if plan.steps * step.seconds > 3600:
        print(
            "This takes over an hour here (the reference runs are for GPUs): --variant quick takes "
            "minutes on 2 idle cores, --variant smoke seconds.",
            flush=True,
        )


def _split(config: Config, run: RunFolder, labels: np.ndarray, info: DatasetInfo) -> Split:
    """The run's split: read if it was saved, else drawn and saved."""
    if run.split.is_file():
        split = Split.load(run.split)
        split.check(info.num_train)
        return split
    split = _draw_split(config, labels, info)
    split.save(run.split)
    return split


def _draw_split(config: Config, labels: np.ndarray, info: DatasetInfo) -> Split:
    data = config.data
    return make_split(
        labels,
        len(info.class_names),
        data.labeled,
        data.validation,
        data.unlabeled,
        data.selection,
        config.seed,
    )


def best_classifier(config: Config, run: RunFolder, info: DatasetInfo) -> keras.Model:
    """The classifier with the best validation result, in float32, as it is shipped.

    Raises:
        UserError: the run has none yet, or the file is damaged or of another model.
    """
    classifier = build_classifier(config, info, "float32")
    if not run.best_weights.is_file():
        raise UserError(f"{run.path}: has no trained classifier yet; train it with --resume")
    try:
        classifier.load_weights(run.best_weights)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{run.best_weights}: can't be loaded, it is damaged or of another model "
            f"({reason[0][:120]})"
        ) from error
    return classifier


def evaluate(
    config: Config,
    classifier: Callable[[tf.Tensor], tf.Tensor],
    test: Images,
    attacks: Sequence[Attack],
) -> Robustness:
    """Attacks a classifier on test images and shows progress."""
    with _progress_bars() as progress:
        return evaluate_robustness(
            classifier,
            *test,
            attacks,
            batch_size=config.evaluation.batch_size,
            seed=config.seed,
            progress=progress,
        )


def load_test(config: Config, data_dir: Path | None, limit: int | None) -> Images:
    """Reads the test part, or its first `limit` images."""
    images, labels = config.data.dataset.load_test(data_dir)
    return Images(images[:limit], labels[:limit])


@contextmanager
def _progress_bars() -> Iterator[Progress]:
    """One bar for each attack, with ETA; gone when the attack is done."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def progress(name: str, done: int, total: int) -> None:
        if name not in bars:
            for bar in bars.values():
                bar.close()
            bars[name] = tqdm(
                total=total, desc=name, unit="image", leave=False, file=sys.stderr, disable=None
            )
        bars[name].update(done - bars[name].n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()


def make_report(
    config: Config, info: DatasetInfo, robustness: Robustness, run: RunFolder | None, name: str
) -> dict[str, Any]:
    """The content of report.json; without a run it says nothing about the training."""
    report: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "reduced": f"variant {config.variant}" if config.variant else None,
        "dataset": {
            "name": config.data.dataset.name,
            "title": info.title,
            "num_train": info.num_train,
            "num_test": info.num_test,
        },
    }
    if run is not None:
        _add_training(report, config, info, run)
    return report | robustness.report()


def _add_training(
    report: dict[str, Any], config: Config, info: DatasetInfo, run: RunFolder
) -> None:
    """Adds how the classifier was trained to a report."""
    plan = plans.make_plan(config, info)
    resolved = settings_of(config)
    report["dataset"] |= {
        "labeled": plan.num_labeled,
        "unlabeled": plan.num_unlabeled,
        "validation": config.data.validation,
    }
    report |= {
        "objective": {**resolved["objective"], "labeled_per_step": plan.sizes.labeled},
        "neighborhood": {**config.neighborhood.describe(), "settings": resolved["neighborhood"]},
        "model": resolved["model"],
        "seed": config.seed,
        "steps": plan.steps,
        "train_seconds": round(sum(float(row["seconds"]) for row in run.read_history()), 1),
    }


def write_report(
    config: Config, info: DatasetInfo, robustness: Robustness, run: RunFolder, images: np.ndarray
) -> dict[str, Any]:
    """Writes report.json, the figures and report.html into the run folder."""
    report = make_report(config, info, robustness, run, config.name)
    name, verdict = list(robustness.verdicts.items())[-1]
    # Images that were right before, those that were fooled first.
    right = np.flatnonzero(robustness.right)
    fooled_first = np.argsort(robustness.still_right(name)[right], kind="stable")
    shown = right[fooled_first][:_PICTURES]
    examples = reports.Examples(
        np.float32(images[shown] / 255.0),
        verdict.images[shown],
        robustness.labels[shown],
        robustness.clean_classes[shown],
        verdict.classes[shown],
        name,
    )
    figures = reports.write_figures(report, run.history, examples, info.class_names, run.path)
    reports.write_html(report, figures, run.path / "report.html")
    write_json(run.report, report)
    return report


def export_run(
    config: Config,
    run: RunFolder,
    data_dir: Path | None,
    version: int | None = None,
    keep: int | None = None,
    trainable: TrainingSettings | None = None,
) -> Exported:
    """Publishes the best classifier of a run; compares on its validation images."""
    info = config.data.dataset.info(data_dir)
    classifier = best_classifier(config, run, info)
    images, _ = config.data.dataset.load_train(data_dir)
    split = Split.load(run.split)
    split.check(info.num_train)
    samples = np.float32(images[split.validation[:_EXPORT_SAMPLES]] / 255.0)
    calibration = np.float32(images[_calibration(split, config.seed)] / 255.0)
    folder = Path(config.export) / config.name
    return export_classifier(
        classifier, info.class_names, folder, samples, version, calibration, keep, trainable
    )


def device_training(config: Config, labeled: int = 8, unlabeled: int = 24) -> TrainingSettings:
    """How a classifier goes on learning on a device: as it was trained, in smaller batches.

    Args:
        config: of the run.
        labeled: images in a labeled batch on the device.
        unlabeled: images in an unlabeled batch.

    Raises:
        UserError: its neighborhood or its loss has no step for devices.
    """
    ball, training = config.neighborhood, config.training
    if getattr(ball, "name", None) != "linf":
        raise UserError(
            f"--trainable: got the neighborhood {getattr(ball, 'name', None)!r}; allowed: linf"
        )
    for key in ("clean_loss", "robust_loss"):
        loss = getattr(config.objective, key, "cross_entropy")
        if loss != "cross_entropy":
            raise UserError(f"--trainable: got the {key} {loss!r}; allowed: cross_entropy")
    return TrainingSettings(
        num_steps=ball.num_steps,
        epsilon=ball.epsilon,
        step_size=ball.step_length,
        labeled=labeled,
        unlabeled=unlabeled,
        random_start=ball.random_start,
        robust_weight=getattr(config.objective, "robust_weight", 1.0),
        # In proportion to the batch, as in Goyal et al. 2017, section 2.1.
        learning_rate=training.learning_rate * (labeled + unlabeled) / training.batch_size,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )


def _calibration(split: Split, seed: int) -> np.ndarray:
    """Indices of some training images, the same ones at each export."""
    trained_on = np.concatenate([split.labeled, split.unlabeled])
    size = min(_CALIBRATION_IMAGES, len(trained_on))
    return np.random.default_rng(seed).choice(trained_on, size, replace=False)


def run_all(
    config: Config,
    run: RunFolder,
    data_dir: Path | None,
    resume: bool = False,
    how_to_resume: str = "",
) -> dict[str, Any]:
    """Trains, evaluates on the test part, reports and exports; returns the report."""
    info = config.data.dataset.info(data_dir)
    # What can't work is found before the folder is made.
    plans.make_plan(config, info)
    build_classifier(config, info, config.training.precision)
    if config.data.selection == "first" and not run.split.is_file():
        # Whether the first images have every class, their labels alone tell.
        _draw_split(config, config.data.dataset.load_train(data_dir)[1], info)
    run.claim(config.to_json(), resume)
    if run.report.is_file():
        print(f"this run is finished; its results are in {run.report}")
        return json.loads(run.report.read_text())
    train(config, run, data_dir, resume, how_to_resume)
    classifier = best_classifier(config, run, info)
    test = load_test(config, data_dir, config.evaluation.limit)
    robustness = evaluate(config, classifier, test, config.evaluation.attacks)
    if config.evaluation.deployment:
        Attacked.of(test.images, robustness, config.evaluation.deployment).save(run.attacked)
    report = write_report(config, info, robustness, run, test.images)
    print(reports.terminal_table(report), flush=True)
    exported = export_run(config, run, data_dir)
    print(describe_export(exported), flush=True)
    report |= add_deployment(config, run, exported, data_dir)
    print(f"report      {run.path / 'report.html'}")
    return report


def add_deployment(
    config: Config, run: RunFolder, exported: Exported, data_dir: Path | None
) -> dict[str, Any]:
    """Measures what was published; prints it and adds it to report.json and report.html.

    Args:
        config: of the run.
        run: a run with an evaluation; Ctrl-C leaves its report as it was.
        exported: what was published.
        data_dir: where prepared datasets lie, or None.

    Returns:
        `{"deployment": …}`, or nothing where the config or the run has none.
    """
    if not config.evaluation.deployment or not run.report.is_file():
        return {}
    info = config.data.dataset.info(data_dir)
    classifier = best_classifier(config, run, info)
    attacked = _attacked(config, classifier, run, data_dir)
    part = {"deployment": measure(classifier, exported.savedmodel, exported.tflite, attacked)}
    report = json.loads(run.report.read_text()) | part
    reports.write_html(report, reports.written_figures(run.path), run.path / "report.html")
    write_json(run.report, report)
    print("\n" + reports.deployment_table(part["deployment"]), flush=True)
    return part


def _attacked(
    config: Config, classifier: keras.Model, run: RunFolder, data_dir: Path | None
) -> Attacked:
    """The attacked test images of a run; made now if they were not kept."""
    if not run.attacked.is_file():
        count = min(config.evaluation.deployment, config.evaluation.limit or sys.maxsize)
        test = load_test(config, data_dir, count)
        robustness = evaluate(config, classifier, test, config.evaluation.attacks)
        Attacked.of(test.images, robustness, count).save(run.attacked)
    return Attacked.load(run.attacked)


def describe_export(exported: Exported) -> str:
    """Where the files lie and how closely they agree with the Keras model."""
    files = ", ".join(f"{f.name} {f.difference:.1e}" for f in exported.tflite_files if f.published)
    lines = [
        f"SavedModel  {exported.savedmodel} (probabilities within "
        f"{exported.savedmodel_difference:.1e} of Keras)",
        f"TFLite      {exported.tflite} (within {files})",
    ]
    if exported.pruned:
        lines.append(f"removed     versions {', '.join(map(str, exported.pruned))}")
    lines += [
        f"warning: no {file.name} file: it gives the class of Keras for only {file.share:.0%} of "
        "the images"
        for file in exported.tflite_files
        if not file.published
    ]
    return "\n".join(lines)
