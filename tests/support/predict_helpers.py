"""Image files and a fake classifier, for tests of predictions."""

import time

import numpy as np

from keras_srt.predict.backends import Prediction


class Fake:
    """A classifier whose class is the first byte of the file; it can pause and fail."""

    title = "fake, version 1"

    def __init__(self, concurrency=1, pause=lambda batch: 0.0, classes=("a", "b", "c")):
        self.concurrency, self.pause, self.classes = concurrency, pause, classes

    def classify(self, images):
        time.sleep(self.pause(images))
        return [self.predict(image) for image in images]

    def predict(self, image):
        if image == b"bad":
            return Prediction(error="is bad")
        scores = np.full(len(self.classes), 0.1, np.float32)
        scores[image[0]] = 0.8
        return Prediction(scores, self.classes)


def touch(folder, *names, content=b"\x00"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
