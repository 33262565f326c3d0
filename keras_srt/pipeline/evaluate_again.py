"""`keras-srt evaluate`: the evaluation of a finished run, or of a model from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.attacks import QueryModel, TargetModel
from keras_srt.config.schema import Config
from keras_srt.evaluation.external.open_model import open_model
from keras_srt.pipeline.classifiers import best_classifier
from keras_srt.pipeline.evaluate import load_test, measure
from keras_srt.pipeline.report_files import make_report, write_report
from keras_srt.pipeline.run_folder import RunFolder

# On so many test images a model from elsewhere is tried first.
_SAMPLES = 16


def evaluate_again(
    config: Config,
    run: RunFolder | None,
    model: str | None,
    data_dir: Path | None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Evaluates one of the two, as the config says.

    Args:
        config: the dataset and the settings of the evaluation.
        run: a finished run, or None.
        model: a model from elsewhere, see `keras_srt.foreign.open_model`.
        data_dir: where prepared datasets lie, or None.
        folder: an empty one for all reports, or None for none.

    Returns:
        The report.

    Raises:
        UserError: the run or the model can't be used, or not with these attacks.
    """
    info, evaluation = config.data.dataset.info(data_dir), config.evaluation
    name, about = config.name, {}
    if run is not None:
        target_model: QueryModel = TargetModel(
            best_classifier(config, run, info), evaluation.batch_size
        )
        test = load_test(config, data_dir, evaluation.limit)
    else:
        test = load_test(config, data_dir, evaluation.limit)
        samples = np.float32(test.images[:_SAMPLES] / 255.0)
        name, foreign = str(model), open_model(str(model), info, samples, evaluation.batch_size)
        foreign.check_attacks(evaluation.attacks)
        for warning in foreign.warnings:
            print(f"warning: {warning}", flush=True)
        target_model, about = foreign.model, {"victim": foreign.describe()}
    measured = measure(config, target_model, test)
    if folder is not None:
        return write_report(config, info, measured, run, folder, name, about)
    return make_report(config, info, measured.robustness, run, name, measured.parts) | about
