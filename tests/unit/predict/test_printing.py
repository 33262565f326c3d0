"""Printing of predictions."""

import io
import os
import sys
import tracemalloc
from contextlib import redirect_stdout

from predict_helpers import Fake, touch

from keras_srt.predict import image_files
from keras_srt.predict.classification import BATCH_IMAGES
from keras_srt.predict.printing import print_predictions
from keras_srt.predict.sorting import Sorter


def test_memory_is_constant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_files, "NAMES_AT_A_TIME", 100)
    touch(tmp_path, *(f"many/{i:04}.png" for i in range(1200)))

    def peak(pattern):
        tracemalloc.start()
        assert print_predictions([pattern], Fake(), sorter=Sorter(tmp_path / "sorted")) == 0
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # Other threads of the process, of earlier tests, only add to a peak.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        few, many = (min(peak(pattern) for _ in range(3)) for pattern in ("many/00*.png", "many"))
    assert len(list((tmp_path / "sorted" / "a").iterdir())) == 1200
    assert many - few < 60_000  # 50 bytes for each image more


def test_terminal_shows_progress(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(3 * BATCH_IMAGES):
        touch(tmp_path, f"many/{i}.png")
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    print_predictions(["many"], Fake(pause=lambda _: 0.6))
    assert "/96 [" in screen.getvalue()
    assert "images/s" in screen.getvalue()
