"""The classifier of a run: its model with fresh weights, and the best one of its checkpoints."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from keras_srt.config.schema import Config
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import DatasetInfo
from keras_srt.pipeline.plan import Plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.training.checkpoint_files import find_best
from keras_srt.training.schedules import learning_rate

if TYPE_CHECKING:
    from keras_srt.training.model import RobustModel

logger = logging.getLogger(__name__)


def build_classifier(config: Config, info: DatasetInfo, precision: str) -> keras.Model:
    """Build the config's model with fresh weights, drawn from the config's seed.

    Raises:
        InvalidSettings: The model doesn't support the size of the images.
    """
    keras.utils.set_random_seed(config.seed)
    try:
        return config.model.build(info.input_shape, len(info.class_names), precision)
    except InvalidSettings as error:
        raise error.with_prefix("model") from None


def build_model(config: Config, info: DatasetInfo, plan: Plan) -> RobustModel:
    """Build and compile the `RobustModel` of a config."""
    from keras_srt.training.model import RobustModel
    from keras_srt.training.optimization import make_optimizer

    training = config.training
    classifier = build_classifier(config, info, training.precision)
    try:
        config.model.initialize(classifier)
    except InvalidSettings as error:
        raise error.with_prefix("model") from None
    in_float16 = training.precision == "mixed_float16"
    if in_float16 and not tf.config.list_physical_devices("GPU"):
        logger.warning("training.precision mixed_float16 is very slow without a GPU")
    model = RobustModel(
        classifier,
        config.neighborhood,
        config.objective,
        seed=config.seed,
        # AdamW applies its weight decay itself.
        weight_decay=training.weight_decay if training.optimizer == "sgd" else 0.0,
        gradient_clip=training.gradient_clip,
        ema=training.ema,
        loss_scale=in_float16,
        strength_warmup=plan.strength_steps,
        weight_warmup=plan.weight_steps,
        search_growth=plan.growth_steps,
        training_search=training.search,
        freeze=plan.freeze_steps,
    )
    rate = learning_rate(training, plan.steps, plan.steps_per_epoch)
    optimizer = make_optimizer(
        training.optimizer, rate, training.momentum, training.weight_decay, training.nesterov
    )
    model.compile(optimizer, jit_compile=training.jit_compile)
    model.optimizer.build(model.classifier.trainable_variables)
    return model


def load_best_classifier(config: Config, folder: RunFolder, info: DatasetInfo) -> keras.Model:
    """Load the classifier with the best validation result, in float32.

    Raises:
        UserError: The run has none yet, or its file is damaged or of another model.
    """
    classifier = build_classifier(config, info, "float32")
    with contextlib.suppress(FileNotFoundError):  # renamed meanwhile by a running training
        _load_best(classifier, folder)
        return classifier
    _load_best(classifier, folder)
    return classifier


def _load_best(classifier: keras.Model, folder: RunFolder) -> None:
    path = find_best(folder.checkpoints)
    if path is None:
        raise UserError(f"{folder.path}: has no trained classifier yet; train it with --resume")
    try:
        classifier.load_weights(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            f"{path}: can't be loaded, it is damaged or of another model ({reason})"
        ) from error
