"""Models that were not trained here, made ready to be attacked: files, folders, servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import ATTACKS, Attack, Criterion, QueryModel, TargetModel
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.model_safety import check_file_format
from keras_srt.core.tensorflow import tf
from keras_srt.data import DatasetInfo
from keras_srt.evaluation.external.differentiable import (
    Classifier,
    open_keras_file,
    open_savedmodel,
)
from keras_srt.evaluation.external.queried import Predict, open_server, open_tflite

# What stands for a probability of 0 before the logarithm: float32's smallest normal number.
FLOOR = float(np.finfo(np.float32).tiny)


class Foreign(NamedTuple):
    """A model from elsewhere.

    Attributes:
        target_model: as attacks query it.
        kind: "SavedModel", "Keras file", "TFLite file" or "server".
        source: as the user gave it.
        answers: "logits", or "probabilities", whose logarithms are attacked.
        warnings: what makes attacks on it weak, a line each.
    """

    target_model: TargetModel
    kind: str
    source: str
    answers: str
    warnings: tuple[str, ...] = ()

    @property
    def has_gradients(self) -> bool:
        """Whether attacks that need gradients are possible."""
        return not isinstance(self.target_model, QueryModel)

    def describe(self) -> dict[str, Any]:
        """The part `victim` of report.json."""
        return {
            "kind": self.kind,
            "source": self.source,
            "answers": self.answers,
            "gradients": self.has_gradients,
            "attacks": "all" if self.has_gradients else attacks_without_gradients(),
            "warnings": list(self.warnings),
        }

    def check_attacks(self, attacks: Sequence[Attack]) -> None:
        """Refuses attacks that the model doesn't allow, before the work begins.

        Raises:
            UserError: one needs gradients where there are none; names those to use.
        """
        needing = [attack for attack in attacks if attack.needs_gradients]
        if self.has_gradients or not needing:
            return
        names = ", ".join(dict.fromkeys(attack.name for attack in needing))
        raise UserError(
            f"--attacks: {names} need gradients, and a {self.kind} shows none; allowed: "
            f"{', '.join(attacks_without_gradients())}; give --attacks {_suggested(needing)}"
        )


def attacks_without_gradients() -> list[str]:
    """The attacks that use a model's answers alone."""
    return [name for name, attack in ATTACKS.items() if not attack.needs_gradients]


def _suggested(refused: Sequence[Attack]) -> str:
    """Possible attacks as `--attacks` takes them, with the ε of those that were refused."""
    radii = [f"@{attack.radius:g}" for attack in refused if attack.norm == "linf"]
    suggested = []
    for name in attacks_without_gradients():
        for strength in ("", *radii[:1]):
            try:
                attack = ATTACKS.build({"name": f"{name}{strength}"})
            except InvalidSettings:
                continue
            # An ε of pixel values means nothing where pixels are counted.
            if not strength or attack.norm == "linf":
                suggested.append(f"{name}{strength}")
                break
    return ",".join(suggested)


def open_model(source: str, info: DatasetInfo, samples: np.ndarray, batch_size: int) -> Foreign:
    """Opens a model to attack it, and checks that it fits the dataset.

    Its answers may be logits or probabilities p; of probabilities, log(max(p, 1.2e-38)) is
    attacked, which has the same cross-entropy as the logits down to -87.3. Class ids are
    those of the dataset. A model through which no gradient flows is a `QueryModel`.

    Args:
        source: a SavedModel folder, a `.keras` file (loaded in safe mode), a `.tflite` file,
            or `http://host:port/v1/models/NAME` of TF Serving or `keras-srt serve`.
        info: of the dataset it will be attacked on.
        samples: some images of it, float32 [n, height, width, channels] in [0, 1].
        batch_size: images of a query.

    Returns:
        The model.

    Raises:
        UserError: it can't be loaded or reached, or doesn't fit the dataset.
    """
    path, classifier = Path(source), None
    check_file_format(path)
    if source.startswith(("http://", "https://")):
        kind, predict = "server", open_server(source)
    elif path.suffix == ".tflite":
        kind, predict = "TFLite file", open_tflite(path, info.input_shape)
    elif (path / "saved_model.pb").is_file():
        kind, classifier = "SavedModel", open_savedmodel(path)
    elif path.suffix == ".keras" and path.is_file():
        kind, classifier = "Keras file", open_keras_file(path)
    else:
        raise UserError(
            f"--model {source}: is none of a SavedModel folder (with saved_model.pb), a .keras "
            "file, a .tflite file and a server's http://host:port/v1/models/NAME"
        )
    if classifier is not None:
        predict = _asked(classifier)
    probabilities = _gives_probabilities(source, predict, info, samples)
    answers = "probabilities" if probabilities else "logits"
    if classifier is None:
        return Foreign(_queried(predict, probabilities, batch_size), kind, source, answers)
    target_model, warnings = _differentiated(classifier, probabilities, samples, batch_size)
    return Foreign(target_model, kind, source, answers, warnings)


def _asked(classifier: Classifier) -> Predict:
    return lambda images: classifier(tf.constant(images)).numpy()


def _gives_probabilities(
    source: str, predict: Predict, info: DatasetInfo, samples: np.ndarray
) -> bool:
    """Asks about the samples, and whether the answers are distributions over the classes."""
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
            f"--model {source}: answers with shape {rows.shape} to {len(samples)} images; allowed: "
            f"one value for each of the {classes} classes of {info.title}"
        )
    # Probabilities in 8 bits are rounded to 1/256 each.
    rounding = 1e-3 + classes / 512
    in_range = rows.min() >= 0 and rows.max() <= 1.001
    return bool(in_range and np.allclose(rows.sum(axis=1), 1.0, atol=rounding))


def _queried(predict: Predict, probabilities: bool, batch_size: int) -> QueryModel:
    if not probabilities:
        return QueryModel(predict, batch_size)
    return QueryModel(lambda images: np.log(np.maximum(predict(images), FLOOR)), batch_size)


def _differentiated(
    classifier: Classifier, probabilities: bool, samples: np.ndarray, batch_size: int
) -> tuple[TargetModel, tuple[str, ...]]:
    """The model under attack, and a warning if its gradients are missing or all 0."""
    logits = classifier
    if probabilities:
        logits = lambda images: tf.math.log(tf.maximum(classifier(images), FLOOR))  # noqa: E731
    target_model = TargetModel(logits, batch_size)
    labels = np.int32(np.argmax(target_model.logits(samples), axis=1))
    try:
        _, gradient = target_model.gradient(samples, Criterion(labels))
    except (UserError, LookupError):  # the latter: an operation that has none
        text = "no gradient flows through the model; attacks can only ask for its answers"
        return _queried(_asked(classifier), probabilities, batch_size), (text,)
    if gradient.any():
        return target_model, ()
    return target_model, (
        f"the gradient of the model's cross-entropy is 0 at all {len(samples)} images tried: "
        "gradient attacks will find little there, whatever the model is worth; look at square",
    )


__all__ = ["FLOOR", "Foreign", "attacks_without_gradients", "open_model"]
