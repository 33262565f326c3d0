"""Open external models for attacks: files, folders and servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import ATTACKS, Attack, Criterion, QueryModel, TargetModel
from keras_srt.attacks.target_model import Precision
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import tf
from keras_srt.data import DatasetInfo
from keras_srt.foreign.adapt import adapt
from keras_srt.foreign.adapted_model import AdaptedModel
from keras_srt.foreign.model_options import ModelOptions
from keras_srt.foreign.open_file import open_file
from keras_srt.foreign.opened_model import OpenedModel
from keras_srt.serving.client.float_client import FloatClient

_DEFAULTS = ModelOptions()


class ExternalModel(NamedTuple):
    """An external model.

    Attributes:
        model: The model under attack.
        kind: "SavedModel", "Keras file", "TFLite file" or "server".
        source: Path or address that the user gave.
        outputs: "logits", or "probabilities", whose logarithms are attacked.
        warnings: Reasons why attacks on the model are weak, one line each.
        removed: "softmax" or "sigmoid" if the logits are those before this last activation.
        conversions: What is done to images and outputs, one line each.
        is_range_assumed: Whether [0, 1] is assumed, as the model does not define its range.
    """

    model: QueryModel
    kind: str
    source: str
    outputs: str
    warnings: tuple[str, ...] = ()
    removed: str = ""
    conversions: tuple[str, ...] = ()
    is_range_assumed: bool = False

    def describe(self) -> dict[str, Any]:
        """Section `victim` of report.json."""
        gradients = self.model.has_gradients
        return {
            "kind": self.kind,
            "source": self.source,
            "answers": self.outputs,
            "removed_activation": self.removed,
            "conversions": list(self.conversions),
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
    source: str,
    info: DatasetInfo,
    samples: np.ndarray,
    batch_size: int,
    options: ModelOptions = _DEFAULTS,
    precision: Precision = "float32",
) -> ExternalModel:
    """Open a model to attack it, and check that it fits the dataset.

    See `adapt` for the inputs and outputs of the model. For probabilities p, attacks use
    log(max(p, 1.2e-38)), which has the same cross-entropy as the logits down to -87.3. Class ids
    are those of the dataset. A model without gradients becomes a `QueryModel`.

    Args:
        source: A SavedModel folder, a `.keras` file, a `.tflite` file, or
            `http://host:port/v1/models/NAME` of TF Serving or `keras-srt serve`.
        info: The dataset of the evaluation.
        samples: Some images of the dataset, float32 [n, height, width, channels] in [0, 1].
        batch_size: Images per query.
        options: What the user declares about the model.
        precision: See `TargetModel`.

    Returns:
        The model.

    Raises:
        UserError: The model can't be loaded or reached, or doesn't fit the dataset.
    """
    if source.startswith(("http://", "https://")):
        opened = open_server(source)
    else:
        opened = open_file(Path(source), options.foreign)
    adapted = adapt(opened, options, samples, assume_range=True)
    classes = adapted.output_shape[-1]
    if classes != len(info.class_names):
        raise opened.refused(
            f"outputs {classes} values for each image; allowed: one value for each of the "
            f"{len(info.class_names)} classes of {info.title}"
        )
    model: QueryModel = query_model(adapted, batch_size)
    warnings: tuple[str, ...] = ()
    if opened.in_graph:
        model, warnings = _target_model(adapted, samples, batch_size, precision)
    return ExternalModel(
        model,
        opened.kind,
        source,
        adapted.outputs,
        warnings,
        adapted.opened.activation,
        adapted.conversions,
        adapted.is_range_assumed,
    )


def open_server(address: str) -> OpenedModel:
    """Connect to a model behind TF Serving's REST protocol.

    Args:
        address: `http://host:port/v1/models/NAME[/versions/N]`.

    Returns:
        The model, always the same version.

    Raises:
        UserError: The server can't be reached, or the model takes no images as floats.
    """
    client = FloatClient(address)
    return OpenedModel(
        source=f"--model {address}",
        kind="server",
        function=lambda images: client.predict(images.numpy()),
        outputs=client.output,
        in_graph=False,
    )


def query_model(adapted: AdaptedModel, batch_size: int) -> QueryModel:
    """Return an adapted model that can only be queried."""
    return QueryModel(lambda images: adapted(tf.constant(images)).numpy(), batch_size)


def _target_model(
    adapted: AdaptedModel, samples: np.ndarray, batch_size: int, precision: Precision
) -> tuple[QueryModel, tuple[str, ...]]:
    """Make the model under attack, and a warning if its gradients are missing or all 0."""
    model = TargetModel(adapted, batch_size, precision)
    labels = np.int32(np.argmax(model.logits(samples), axis=1))
    try:
        _, gradient = model.gradient(samples, Criterion(labels))
    except (UserError, LookupError):  # LookupError: an operation without a gradient
        text = "no gradient flows through the model; attacks can only query its predictions"
        return query_model(adapted, batch_size), (text,)
    if gradient.any():
        return model, ()
    return model, (
        f"the gradient of the model's cross-entropy is 0 at all {len(samples)} images tried: "
        "gradient attacks are too weak to judge its robustness; use square",
    )
