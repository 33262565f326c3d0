"""A `deployment` section of a report, with two lost accuracies."""

import numpy as np

from keras_srt.evaluation.deployed_files import warnings_of
from keras_srt.evaluation.intervals import proportion


def result_of(share, n=100):
    """An accuracy with its interval."""
    return proportion(np.arange(n) < share * n)


def entry(name, clean, fgsm, pgd, **more):
    """The report's entry of a model."""
    return {
        "name": name,
        "clean": result_of(clean),
        "attacks": [{"name": "fgsm", **result_of(fgsm)}, {"name": "pgd", **result_of(pgd)}],
        "worst_case": result_of(min(fgsm, pgd)),
        **more,
    }


FILE = {
    "bytes": 123456,
    "latency_ms": {"median": 0.4211, "p99": 1.26, "rounds": 300},
    "agreement": {"same_class": 0.995, "largest_difference": 0.0333},
}
MODELS = [
    entry("keras", 0.95, 0.8, 0.75),
    entry("savedmodel", 0.95, 0.8, 0.75, **FILE),
    entry("float32", 0.95, 0.8, 0.75, **FILE),
    entry("int8", 0.94, 0.78, 0.4, **FILE),
]
DEPLOYMENT = {
    "version": 3,
    "interpreter": "tflite-runtime",
    "batch": 1,
    "threads": 1,
    "n": 100,
    "models": MODELS,
    "warnings": warnings_of(MODELS),
}
