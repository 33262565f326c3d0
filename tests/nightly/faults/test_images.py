"""Bad images: a training leaves them out by name, and `predict` fails for them alone, by name."""

import os
import zlib

import encoded
import numpy as np
import pytest
from helpers import tiny, write_config
from own_images import make_folder, settings
from PIL import Image

from faults.conftest import train

GROUP = "bad images, in training and in predict"

GIF, BMP = (encoded.encode(encoded.RGB, kind) for kind in ("GIF", "BMP"))

BYTES = encoded.UNREADABLE | {
    "gif magic": GIF[:6],
    "gif header": GIF[:13],
    "bmp magic": BMP[:2],
    "bmp header": BMP[:54],
    "bmp of 2^31 x 2^31": BMP[:18] + b"\xff\xff\xff\x7f" * 2 + BMP[26:],
    "bmp of unknown depth": BMP[:28] + b"\x07\x00" + BMP[30:],
    "png with a flipped bit": encoded.PNG[:900] + bytes([encoded.PNG[900] ^ 1]) + encoded.PNG[901:],
    "png without pixels": encoded.png(9, 9, b""),
    "png with too few rows": encoded.png(9, 9, zlib.compress(b"\0" * 50)),
    "png with pixels that are no zlib": encoded.png(9, 9, b"no zlib at all"),
    "png of a depth that isn't": encoded.png(9, 9, zlib.compress(b"\0" * 90), depth=7),
    "png of a color type that isn't": encoded.png(9, 9, zlib.compress(b"\0" * 90), color=5),
    "png of 16384 x 16384 zeros": encoded.bomb(16_384),
    "jpeg of zeros": encoded.JPEG[:2] + b"\0" * 500,
    "html": b"<html><body>404 Not Found</body></html>",
    "zip": b"PK\x03\x04" + b"\0" * 60,
}
SPECIAL = ("a pipe", "a link to nothing", "a link to /dev/zero")
KINDS = (*BYTES, *SPECIAL)


def place(kind, path):
    """Puts a bad image there."""
    if kind in BYTES:
        path.write_bytes(BYTES[kind])
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if "zero" in kind else path.parent / "nothing")


@pytest.fixture(scope="module")
def published(forks, tmp_path_factory):
    """The .tflite file of a run."""
    folder = tmp_path_factory.mktemp("published")
    config = write_config(folder, tiny(training__steps=2))
    forks(*train(config, folder / "run"), finish=True).assert_done()
    return next(folder.rglob("model_float32.tflite"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_image(kind, forks, published, tmp_path):
    make_folder(tmp_path)
    bad = [tmp_path / "labeled/one/bad.png", tmp_path / "unlabeled/bad.png"]
    for path in bad:
        place(kind, path)
    data = settings(tmp_path, size=16, validation=8, max_unreadable=2)
    config = write_config(tmp_path, tiny(data=data, training__steps=2))
    trained = forks.start(*train(config, tmp_path / "run"))
    good = tmp_path / "good.png"
    Image.fromarray(np.uint8(np.eye(16) * 255)).save(good)
    predicted = forks.end(forks.start("predict", good, bad[1], "--tflite", published, "--json"))
    trained = forks.end(trained)
    trained.assert_done()
    for path in bad:
        assert trained.output.count(f"skipped {path}: ") == 1, trained.error
    assert predicted.code == 1, predicted.error
    assert "Traceback" not in predicted.error
    assert f'"{good}"' in predicted.output
    assert str(bad[1]) in predicted.output + predicted.error
