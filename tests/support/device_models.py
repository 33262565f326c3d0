"""Labels and expected probabilities of the device tests' classifier."""

import numpy as np

from keras_srt.core.images import decode_image

NAMES = ("cat", "Wörter mit Ü", "two\nlines")


LABELS = ["cat", "Wörter mit Ü", "two lines"]


def expected_of(classifier, path):
    image = decode_image(path.read_bytes(), (8, 8, 3))
    logits = np.float64(classifier(image[None], training=False)[0])
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()
