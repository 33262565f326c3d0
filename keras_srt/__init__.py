"""Semi-supervised robust training (SRT) of image classifiers in TensorFlow/Keras.

Names are imported when they are first used, so that `import keras_srt` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "ATTACKS": "attacks",
    "FGSM": "attacks",
    "ColorAttack": "attacks",
    "PGD": "attacks",
    "GridAdv": "attacks",
    "GridAdvPlus": "attacks",
    "GridAdvR": "attacks",
    "GridAdvT": "attacks",
    "PGDPlus": "attacks",
    "QueryModel": "attacks",
    "RandAdv": "attacks",
    "RandAdvR": "attacks",
    "RandAdvT": "attacks",
    "Square": "attacks",
    "TargetModel": "attacks",
    "DATASETS": "data",
    "Arrays": "data",
    "batch_sizes": "data",
    "make_split": "data",
    "training_batches": "data",
    "evaluate_robustness": "evaluation.runner",
    "export_classifier": "exporters.export",
    "MODELS": "models",
    "ResNet": "models",
    "SmallCNN": "models",
    "WideResNet": "models",
    "NEIGHBORHOODS": "neighborhoods",
    "Color": "neighborhoods",
    "Composite": "neighborhoods",
    "L0": "neighborhoods",
    "L2": "neighborhoods",
    "LInf": "neighborhoods",
    "Noise": "neighborhoods",
    "Spatial": "neighborhoods",
    "KLR": "objectives",
    "OBJECTIVES": "objectives",
    "RST": "objectives",
    "RT": "objectives",
    "SRT": "objectives",
    "UAT": "objectives",
    "Adversarial": "objectives",
    "Standard": "objectives",
    "Trades": "objectives",
    "WorstOfK": "objectives",
    "InvalidSettings": "core.errors",
    "UserError": "core.errors",
    "RobustModel": "training.model",
    "linear_strength": "training.model",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'keras_srt' has no attribute {name!r}")
    return getattr(importlib.import_module(f"keras_srt.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
