"""Configs and classifiers: from a config's file to its model, from a run to its best one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keras_srt.attacks import ATTACKS
from keras_srt.config import loader as configs
from keras_srt.config.schema import Components, Config
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import DATASETS, DatasetInfo
from keras_srt.models import MODELS
from keras_srt.neighborhoods import NEIGHBORHOODS
from keras_srt.objectives import OBJECTIVES
from keras_srt.pipeline import plan as plans
from keras_srt.pipeline.plan import Plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.training.checkpoint_files import check_best

COMPONENTS = Components(DATASETS, MODELS, NEIGHBORHOODS, OBJECTIVES, ATTACKS)


def load_config(name: str, variant: str | None = None, overrides: Iterable[str] = ()) -> Config:
    """Finds and reads a config, see `keras_srt.config.loader.load`."""
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
        raise error.with_prefix("model") from None


def build_model(config: Config, info: DatasetInfo, plan: Plan) -> Any:
    """The compiled `RobustModel` of a config."""
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
        print("warning: training.precision mixed_float16 is very slow without a GPU", flush=True)
    model = RobustModel(
        classifier,
        config.neighborhood,
        config.objective,
        seed=config.seed,
        # AdamW decays the weights itself.
        weight_decay=training.weight_decay if training.optimizer == "sgd" else 0.0,
        gradient_clip=training.gradient_clip,
        ema=training.ema,
        loss_scale=in_float16,
        strength_warmup=plan.strength_steps,
        weight_warmup=plan.weight_steps,
        search_growth=plan.growth_steps,
    )
    rate = plans.learning_rate(config, plan)
    optimizer = make_optimizer(training.optimizer, rate, training.momentum, training.weight_decay)
    model.compile(optimizer, jit_compile=training.jit_compile)
    model.optimizer.build(model.classifier.trainable_variables)
    return model


def best_classifier(config: Config, run: RunFolder, info: DatasetInfo) -> keras.Model:
    """The classifier with the best validation result, in float32, as it is shipped.

    Raises:
        UserError: the run has none yet, or the file is damaged or of another model.
    """
    classifier = build_classifier(config, info, "float32")
    check_best(run.checkpoints)
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
