"""Open external models for attacks: files, folders and servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import ATTACKS, Attack, Criterion, QueryModel, TargetModel
from keras_srt.attacks.classifier_outputs import FLOOR, are_probabilities, log_probabilities
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.model_safety import check_file_format
from keras_srt.core.tensorflow import tf
from keras_srt.data import DatasetInfo
from keras_srt.evaluation.external.differentiable import (
    Classifier,
    SavedModelClassifier,
    open_keras_file,
    open_savedmodel,
    savedmodel_logits,
)
from keras_srt.evaluation.external.query_only import Predict, open_server, open_tflite


class ExternalModel(NamedTuple):
    """An external model.

    Attributes:
        model: The model under attack.
        kind: "SavedModel", "Keras file", "TFLite file" or "server".
        source: Path or address that the user gave.
        outputs: "logits", or "probabilities", whose logarithms are attacked.
        warnings: Reasons why attacks on the model are weak, one line each.
        removed: "softmax" or "sigmoid" if the logits are those before this last activation.
    """

    model: QueryModel
    kind: str
    source: str
    outputs: str
    warnings: tuple[str, ...] = ()
    removed: str = ""

    def describe(self) -> dict[str, Any]:
        """Section `victim` of report.json."""
        gradients = self.model.has_gradients
        return {
            "kind": self.kind,
            "source": self.source,
            "answers": self.outputs,
            "removed_activation": self.removed,
            "gradients": gradients,
            "attacks": "all" if gradients else attacks_without_gradients(),
            "warnings": list(self.warnings),
        }

    def check_attacks(self, attacks: Sequence[Attack]) -> None:
        """Check before the evaluation that the model supports the attacks.

        Raises:
            UserError: An attack needs gradients and the model has none; names possible attacks.
        """
        needing = [attack for attack in attacks if attack.needs_gradients]
        if self.model.has_gradients or not needing:
            return
        names = ", ".join(dict.fromkeys(attack.name for attack in needing))
        raise UserError(
            f"--attacks: {names} need gradients, and a {self.kind} shows none; allowed: "
            f"{', '.join(attacks_without_gradients())}; give --attacks {_suggested(needing)}"
        )


def attacks_without_gradients() -> list[str]:
    """Names of the attacks that need no gradients."""
    return [name for name, attack in ATTACKS.items() if not attack.needs_gradients]


def _suggested(refused: Sequence[Attack]) -> str:
    """Value of `--attacks` with the possible attacks and the ε of the refused ones."""
    radii = [f"@{attack.radius:g}" for attack in refused if attack.norm == "linf"]
    suggested = []
    for name in attacks_without_gradients():
        for strength in ("", *radii[:1]):
            try:
                attack = ATTACKS.build({"name": f"{name}{strength}"})
            except InvalidSettings:
                continue
            # An L∞ ε has no meaning for attacks that count pixels.
            if not strength or attack.norm == "linf":
                suggested.append(f"{name}{strength}")
                break
    return ",".join(suggested)


def open_model(
    source: str, info: DatasetInfo, samples: np.ndarray, batch_size: int, foreign: bool = False
) -> ExternalModel:
    """Open a model to attack it, and check that it fits the dataset.

    The outputs may be logits or probabilities p. Of a Keras file or a SavedModel whose last
    operation is a softmax or sigmoids, the logits before it are attacked. For other
    probabilities, attacks use log(max(p, 1.2e-38)), which has the same cross-entropy as the
    logits down to -87.3. Class ids are those of the dataset. A model without gradients becomes a
    `QueryModel`.

    Args:
        source: A SavedModel folder, a `.keras` file, a `.tflite` file, or
            `http://host:port/v1/models/NAME` of TF Serving or `keras-srt serve`.
        info: The dataset of the evaluation.
        samples: Some images of the dataset, float32 [n, height, width, channels] in [0, 1].
        batch_size: Images per query.
        foreign: Whether to run a SavedModel with any operations, see `load_savedmodel`.

    Returns:
        The model.

    Raises:
        UserError: The model can't be loaded or reached, or doesn't fit the dataset.
    """
    path, removed = Path(source), ""
    classifier: Classifier | None = None
    check_file_format(path)
    if source.startswith(("http://", "https://")):
        kind, predict = "server", open_server(source)
    elif path.suffix == ".tflite":
        kind, predict = "TFLite file", open_tflite(path, info.input_shape)
    elif (path / "saved_model.pb").is_file():
        kind, classifier = "SavedModel", open_savedmodel(path, foreign)
    elif path.suffix == ".keras" and path.is_file():
        kind, (classifier, removed) = "Keras file", open_keras_file(path)
    else:
        raise UserError(
            f"--model {source}: is none of a SavedModel folder (with saved_model.pb), a .keras "
            "file, a .tflite file and a server's http://host:port/v1/models/NAME"
        )
    if classifier is not None:
        predict = _in_numpy(classifier)
    probabilities = _gives_probabilities(source, predict, info, samples)
    if isinstance(classifier, SavedModelClassifier):
        before = savedmodel_logits(path, classifier, samples, foreign)
        if before is not None:
            classifier, removed = before
            predict, probabilities = _in_numpy(classifier), False
    model: QueryModel = _query_model(predict, probabilities, batch_size)
    warnings: tuple[str, ...] = ()
    if classifier is not None:
        model, warnings = _target_model(classifier, probabilities, samples, batch_size)
    outputs = "probabilities" if probabilities else "logits"
    return ExternalModel(model, kind, source, outputs, warnings, removed)


def _in_numpy(classifier: Classifier) -> Predict:
    return lambda images: classifier(tf.constant(images)).numpy()


def _gives_probabilities(
    source: str, predict: Predict, info: DatasetInfo, samples: np.ndarray
) -> bool:
    """Predict the samples; return whether the outputs are distributions over the classes."""
    classes = len(info.class_names)
    try:
        rows = np.asarray(predict(samples))
    except (ValueError, TypeError, tf.errors.OpError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--model {source}: doesn't take images of {info.input_shape} ({reason[:120]})"
        ) from error
    if rows.shape != (len(samples), classes):
        raise UserError(
            f"--model {source}: outputs shape {rows.shape} for {len(samples)} images; allowed: "
            f"one value for each of the {classes} classes of {info.title}"
        )
    # Probabilities of 8 bits are rounded to 1/256 each.
    return are_probabilities(rows, 1e-3 + classes / 512)


def _query_model(predict: Predict, probabilities: bool, batch_size: int) -> QueryModel:
    if not probabilities:
        return QueryModel(predict, batch_size)
    return QueryModel(lambda images: np.log(np.maximum(predict(images), FLOOR)), batch_size)


def _target_model(
    classifier: Classifier, probabilities: bool, samples: np.ndarray, batch_size: int
) -> tuple[QueryModel, tuple[str, ...]]:
    """Make the model under attack, and a warning if its gradients are missing or all 0."""
    model = TargetModel(log_probabilities(classifier) if probabilities else classifier, batch_size)
    labels = np.int32(np.argmax(model.logits(samples), axis=1))
    try:
        _, gradient = model.gradient(samples, Criterion(labels))
    except (UserError, LookupError):  # LookupError: an operation without a gradient
        text = "no gradient flows through the model; attacks can only query its predictions"
        return _query_model(_in_numpy(classifier), probabilities, batch_size), (text,)
    if gradient.any():
        return model, ()
    return model, (
        f"the gradient of the model's cross-entropy is 0 at all {len(samples)} images tried: "
        "gradient attacks are too weak to judge its robustness; use square",
    )
