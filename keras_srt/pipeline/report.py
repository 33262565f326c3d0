"""Write the reports of an evaluation: report.json, figures, pages and per-image outcomes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt import report as reports
from keras_srt.config.schema import Config
from keras_srt.core.errors import UserError
from keras_srt.core.files import write_json
from keras_srt.core.log_levels import RESULT
from keras_srt.core.progress import ProgressBar
from keras_srt.core.registry import settings_of
from keras_srt.evaluation.per_image import ImagePredictions, describe_classes, fingerprint
from keras_srt.evaluation.robustness import Robustness
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.evaluate import Evaluation
from keras_srt.pipeline.source import CachedDataset

logger = logging.getLogger(__name__)

_NUM_EXAMPLES = 8
# The number of skipped files that a report lists.
_NUM_SKIPPED = 100


def report(context: RunContext, evaluation: Evaluation, pages: bool = True) -> dict[str, Any]:
    """Write the reports of a run into its folder.

    Args:
        context: The run.
        evaluation: The results of its evaluation.
        pages: Whether to write figures and pages beside report.json and outcomes.npz.

    Returns:
        The content of report.json.
    """
    config, folder = context.config, context.folder.path
    content = write_report(
        config, context.source, evaluation, config.name, folder, pages=pages, trained=context
    )
    logger.log(RESULT, reports.terminal_table(content))
    return content


def write_report(
    config: Config,
    source: CachedDataset,
    evaluation: Evaluation,
    name: str,
    folder: Path,
    *,
    pages: bool = True,
    trained: RunContext | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write report.json, outcomes.npz, figures, report.html and MODEL_CARD.md into a folder.

    After AutoAttack in its standard settings also robustbench.json.

    Args:
        config: The settings of the evaluation.
        source: The dataset.
        evaluation: The results.
        name: The name of the report.
        folder: An existing folder.
        pages: Whether to write the figures, report.html and MODEL_CARD.md.
        trained: The run that was evaluated; None for an external model.
        about: More parts of report.json.

    Returns:
        The content of report.json, which is written last.
    """
    with ProgressBar("report"):
        content = make_report(config, source, evaluation, name, trained=trained, about=about)
        content["dataset"]["test_sha256"] = fingerprint(*evaluation.test)
        ImagePredictions.of(evaluation.robustness).save(folder / "outcomes.npz")
        if pages:
            examples = choose_examples(evaluation.test.images, evaluation.robustness)
            history = None if trained is None else trained.folder.history
            class_names = source.info.class_names
            figures = reports.write_figures(content, history, examples, class_names, folder)
            reports.write_pages(content, figures, folder)
    _write_robustbench(content, folder / "robustbench.json")
    write_json(folder / "report.json", content)
    return content


def _write_robustbench(content: dict[str, Any], path: Path) -> None:
    entry = reports.robustbench_entry(content)
    if entry is None:
        path.unlink(missing_ok=True)  # of an earlier evaluation
    else:
        write_json(path, entry)


def make_report(
    config: Config,
    source: CachedDataset,
    evaluation: Evaluation,
    name: str,
    *,
    trained: RunContext | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the content of report.json, see `write_report`."""
    info, robustness = source.info, evaluation.robustness
    content: dict[str, Any] = {
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
    content |= robustness.report()
    content |= describe_classes(ImagePredictions.of(robustness), info.class_names)
    content |= evaluation.parts
    if trained is not None:
        _add_training(content, trained)
    return content | dict(about or {})


def _add_training(content: dict[str, Any], context: RunContext) -> None:
    """Add the training of the classifier to a report."""
    config, plan, folder = context.config, context.plan, context.folder
    resolved = settings_of(config)
    history = folder.read_history()
    seconds = round(sum(float(row["seconds"]) for row in history), 1)
    steps = int(history[-1]["step"]) if history else plan.steps
    passes = {
        kind: round(steps * plan.cost_ratio * count)
        for kind, count in plan.passes._asdict().items()
    }
    content["dataset"] |= {
        "labeled": plan.num_labeled,
        "unlabeled": plan.num_unlabeled,
        "validation": plan.num_validation,
    }
    if skipped := context.source.skipped():
        listed = sorted(skipped)[:_NUM_SKIPPED]
        content["dataset"]["skipped"] = {"count": len(skipped), "files": listed}
    content |= {
        "objective": {**resolved["objective"], "labeled_per_step": plan.sizes.labeled},
        "neighborhood": {**config.neighborhood.describe(), "settings": resolved["neighborhood"]},
        "model": resolved["model"],
        "seed": config.seed,
        "steps": steps,
        **({"planned_steps": plan.steps} if steps < plan.steps else {}),
        "train_seconds": seconds,
        "cost": {
            "training": {"image_passes": passes, "seconds": seconds},
            **content.get("cost", {}),
        },
    }
    environment = folder.path / "environment.json"
    for key, path in (("teacher", folder.teacher_summary), ("environment", environment)):
        if path.is_file():
            content[key] = read_json(path)


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder.

    Raises:
        UserError: The file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: can't be read ({error}); allowed: the file that the run wrote"
        ) from error


def choose_examples(images: np.ndarray, robustness: Robustness) -> reports.Examples:
    """Choose adversarial examples of each attack in turn; without any, of surviving images.

    Args:
        images: uint8 [n, height, width, channels], the attacked images.
        robustness: The results of the attacks.
    """
    predictions = ImagePredictions.of(robustness)
    names = predictions.strongest_first()
    fooled = {name: predictions.correct & ~predictions.surviving(name) for name in names}
    if not any(which.any() for which in fooled.values()):
        fooled = {names[0]: predictions.correct}
    chosen = list(_in_turn({name: list(np.flatnonzero(which)) for name, which in fooled.items()}))
    numbers = np.array([number for number, _ in chosen], int)
    by = [name for _, name in chosen]
    outcomes = robustness.outcomes
    before = np.float32(images[numbers] / 255.0)
    found = [outcomes[name].images[number] for number, name in chosen]
    return reports.Examples(
        before,
        np.stack(found) if found else before,
        robustness.labels[numbers],
        robustness.clean_classes[numbers],
        np.int32([outcomes[name].classes[number] for number, name in chosen]),
        by,
    )


def _in_turn(numbers: dict[str, list[int]]) -> Iterator[tuple[int, str]]:
    """Yield numbers of images from each list in turn, each number once, with the list's name."""
    taken: set[int] = set()
    while len(taken) < _NUM_EXAMPLES and any(numbers.values()):
        for name, left in numbers.items():
            while left and left[0] in taken:
                left.pop(0)
            if left and len(taken) < _NUM_EXAMPLES:
                taken.add(left[0])
                yield left.pop(0), name
