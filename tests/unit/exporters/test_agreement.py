"""Comparison of an exported model with the Keras model."""

import numpy as np
import pytest

from keras_srt.exporters.agreement import check_agreement


def test_agreement_within_the_tolerance():
    expected = np.float32([[0.25, 0.75], [0.5, 0.5]])
    assert check_agreement("x", expected, expected, 0.0) == 0.0
    off = expected + np.float32([[0, 0], [0, 0.125]])
    assert check_agreement("x", expected, off, 0.125) == 0.125
    with pytest.raises(RuntimeError, match=r"x: .* 0\.12, allowed is 0\.1"):
        check_agreement("x", expected, off, 0.1)
    with pytest.raises(RuntimeError, match="nan"):
        check_agreement("x", expected, expected * np.nan, 0.1)
