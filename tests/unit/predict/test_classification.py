"""Classification of files in batches."""

import os
import threading
import tracemalloc

import pytest
from predict_helpers import Fake, touch

from keras_srt.core.images import MAX_BYTES
from keras_srt.predict.classification import BATCH_IMAGES, classify_files
from keras_srt.predict.image_files import find_images


def classify(files, classifier):
    return [result for batch in classify_files(files, classifier) for result in batch]


def test_results_are_in_order_whichever_batch_is_faster(tmp_path):
    touch(tmp_path, *(f"{i:03}.png" for i in range(5 * BATCH_IMAGES)))
    for i, path in enumerate(sorted(tmp_path.iterdir())):
        path.write_bytes(bytes([i // BATCH_IMAGES]))
    # The first batches take longest.
    fake = Fake(4, pause=lambda images: 0.05 * (4 - images[0][0]), classes=tuple("abcde"))
    results = classify(find_images([str(tmp_path)]), fake)
    assert [result.file.name for result in results] == sorted(os.listdir(tmp_path))
    assert [r.prediction.top(1)[0] for r in results] == sorted(list(range(5)) * BATCH_IMAGES)


def test_batches_run_concurrently(tmp_path):
    touch(tmp_path, "x.png")
    together = threading.Barrier(3)
    fake = Fake(3, pause=lambda _: together.wait(10) * 0)
    files = [tmp_path / "x.png"] * (3 * BATCH_IMAGES)
    assert len(classify(files, fake)) == len(files)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_files_are_read_lazily(tmp_path, concurrency):
    touch(tmp_path, "x.png")
    taken = []
    files = (taken.append(i) or tmp_path / "x.png" for i in range(10_000))
    next(classify_files(files, Fake(concurrency)))
    assert len(taken) <= (concurrency + 2) * BATCH_IMAGES


def test_memory_is_constant(tmp_path):
    touch(tmp_path, "x.png", content=b"\x01" * 1000)

    def peak(count):
        files = (tmp_path / "x.png" for _ in range(count))
        tracemalloc.start()
        assert sum(map(len, classify_files(files, Fake()))) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(100)
    small = peak(500)
    assert peak(4000) < small + 50_000  # 3,500 contents alone would be 3.5 MB


def test_large_images_make_small_batches(tmp_path):
    touch(tmp_path, "x.png", content=b"\x00" * 3 * 2**20)
    sizes = []
    fake = Fake(pause=lambda images: sizes.append(len(images)) or 0)
    classify([tmp_path / "x.png"] * 5, fake)
    assert sizes == [2, 2, 1]


def test_unreadable_files_do_not_affect_others(tmp_path):
    touch(tmp_path, "good.png", "closed/x.png")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    os.mkfifo(tmp_path / "fifo.png")
    names = ["missing.png", "good.png", "huge.png", "fifo.png", "closed", "good.png"]
    results = classify((tmp_path / name for name in names), Fake())
    assert [result.prediction.error for result in results] == [
        "can't be read (No such file or directory)",
        "",
        "has 16,777,217 bytes; allowed: at most 16,777,216",
        "is not a regular file",
        "is a folder that can't be listed",
        "",
    ]
