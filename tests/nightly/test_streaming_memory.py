"""Memory while streaming a dataset that is larger than any memory."""

from pathlib import Path

import pytest
from helpers import python

MEMORY = """
import os
import numpy as np
from keras_srt import SRT, LInf, RobustModel, SmallCNN
from keras_srt.data import BatchSizes, Images, IndexRanges, Streaming, Synthetic, streamed_batches


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

source = Synthetic(num_train=1_000_000_000, size=16, num_classes=4)
records = source.open().records()
labeled = Images(*(part[:40] for part in source.open().load_test()))
batches = streamed_batches(
    labeled, records, IndexRanges([[100, source.num_train]]), BatchSizes(4, 12),
    Streaming(500, readers=2), seed=0, first_step=10**6,
)
model = RobustModel(
    SmallCNN(width=2, hidden=8).build((16, 16, 3), 4), LInf(epsilon=0.1, num_steps=1), SRT()
)
model.compile()
step, feed = model.make_train_function(), iter(batches)
for number in range(1, 901):
    step(feed)
    if number % 300 == 0:
        print(resident(), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_memory_is_constant_while_streaming_768_gb():
    """768 GB in name: resident memory after 300 steps and after 900."""
    process = python("-c", MEMORY, timeout=1200, TF_CPP_MIN_LOG_LEVEL="3")
    assert process.returncode == 0, process.stderr
    after_300, _, after_900 = map(float, process.stdout.split())
    assert after_900 < 1.02 * after_300
