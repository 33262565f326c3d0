"""Settings of training on a device, from the configuration of a run."""

import pytest
from helpers import tiny, write_config

from keras_srt.core.errors import UserError
from keras_srt.exporters.trainable_tflite.exporter import DeviceTrainingSettings
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.publish import device_training_settings


def config_of(tmp_path, **changes):
    return load_config(str(write_config(tmp_path, tiny(**changes))))


def test_settings_follow_the_training(tmp_path):
    config = config_of(tmp_path, neighborhood__step_size=0.07)
    assert device_training_settings(config, (2, 6)) == DeviceTrainingSettings(
        num_steps=2,
        epsilon=0.1,
        step_size=0.07,
        labeled=2,
        unlabeled=6,
        robust_weight=1.0,
        learning_rate=0.05 * 8 / 16,
        momentum=config.training.momentum,
        weight_decay=config.training.weight_decay,
    )
    with pytest.raises(UserError, match="labeled: got 0"):
        device_training_settings(config, (0, 2))


def test_composites_and_rt_are_supported(tmp_path):
    stages = [
        {"name": "spatial", "max_rotation": 20, "max_translation": 1, "num_samples": 4},
        {"name": "l2", "epsilon": 1.0, "num_steps": 3, "step_size": 0.5, "random_start": False},
    ]
    config = config_of(
        tmp_path,
        neighborhood={"name": "composite", "stages": stages},
        objective={"name": "rt", "robust_weight": 0.5},
        training__labeled_per_batch=None,
    )
    assert device_training_settings(config) == DeviceTrainingSettings(
        stages=("spatial", "l2"),
        num_steps=3,
        epsilon=1.0,
        step_size=0.5,
        random_start=False,
        num_samples=4,
        max_rotation=20.0,
        max_translation=1.0,
        labeled=32,
        unlabeled=0,
        robust_weight=0.5,
        learning_rate=0.05 * 32 / 16,
        momentum=config.training.momentum,
        weight_decay=config.training.weight_decay,
    )
    with pytest.raises(UserError, match="got 3 unlabeled images; allowed: 0"):
        device_training_settings(config, (2, 3))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"neighborhood": {"name": "color"}}, "got color; allowed on a device: linf, l2, spatial"),
        (
            {"neighborhood": {"name": "spatial", "search": "grid"}},
            "search 'grid'; allowed: random",
        ),
        (
            {
                "neighborhood": {
                    "name": "composite",
                    "stages": [{"name": "linf", "epsilon": 0.1}, {"name": "spatial"}],
                    "mode": "joint",
                }
            },
            "mode 'joint'; allowed: sequential",
        ),
        ({"objective": {"name": "srt", "robust_images": "unlabeled"}}, "allowed: all"),
        (
            {"neighborhood": {"name": "linf", "epsilon": 0.1, "random_start": 0.001}},
            "random_start 0.001; allowed: true or false",
        ),
        ({"objective": {"name": "srt", "robust_loss": "kl"}}, "'kl'; allowed: cross_entropy"),
        ({"objective": {"name": "uat"}}, "'uat'; allowed: srt, rt"),
    ],
)
def test_unsupported_settings_are_refused(tmp_path, changes, reason):
    with pytest.raises(UserError, match=reason):
        device_training_settings(config_of(tmp_path, **changes))
