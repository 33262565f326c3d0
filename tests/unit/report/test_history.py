"""Reading history.csv."""

import numpy as np

from keras_srt.report.history import read_history


def test_repeated_steps_of_a_resumed_run_count_once(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("step,loss\n1,5\n2,4\n2,3\n3,2\n")
    read = read_history(path)
    np.testing.assert_array_equal(read["step"], [1, 2, 3])
    np.testing.assert_array_equal(read["loss"], [5, 3, 2])
