"""Axes of the parallel-coordinates figure."""

from keras_srt.tuning.parallel_coordinates import setting_axis


def test_an_axis_of_a_list_has_its_values_at_equal_distances():
    axis = setting_axis("x", ("a", None, 3))
    assert [axis.place(value) for value in ("a", None, 3)] == [0, 0.5, 1]
    assert [text for _, text in axis.ticks] == ["a", "null", "3"]
