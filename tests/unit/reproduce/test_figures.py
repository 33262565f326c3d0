"""Figures of the results."""

import matplotlib.colors
import numpy as np
import pytest
from reproduce_results import make_results

from keras_srt.reproduce import tables
from keras_srt.reproduce.figures import make_figure


@pytest.fixture
def results():
    return make_results()


def test_a_full_run_is_not_called_reduced(results):
    page = tables.markdown(results | {"reduced": False, "scale": "full"})
    assert "educed" not in page
    figure = make_figure(results | {"reduced": False, "scale": "full"})
    assert "educed" not in figure.get_suptitle()


def test_bars_show_the_numbers(results):
    figure = make_figure(results)
    (axes,) = figure.axes
    assert "Reduced run: scale quick" in figure.get_suptitle()
    heights = {bars.get_label(): bars.datavalues.tolist() for bars in axes.containers[::2]}
    assert heights == {"RT": [98.0, 90.0], "SRT": [99.0, 96.0]}
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["RT", "SRT", "patent"]
    marks = np.concatenate([points.get_offsets()[:, 1] for points in axes.collections[-2:]])
    np.testing.assert_allclose(sorted(marks), [50.0, 96.6, 99.3])


def test_sweeps_are_lines_with_a_panel_each(results):
    panel = results["panels"][0] | {"axis": "labels"}
    figure = make_figure(results | {"panels": [panel, panel | {"title": "Second"}]})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Panel", "Second"]
    for axes in figure.axes:
        assert axes.get_xlabel() == "labels"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "PGD"]
        lines = {c.get_label(): c.lines[0].get_ydata().tolist() for c in axes.containers}
        assert lines == {"RT": [98.0, 90.0], "SRT": [99.0, 96.0]}


def test_a_defense_has_its_color_in_every_figure(results):
    panel = results["panels"][0]
    (bars,) = make_figure(results).axes
    keys = {"rt": "rt_pgd", "srt": "srt_pgd", "uat": "uat_pgd"}
    rows = [row | {"key": keys[row["key"]]} for row in reversed(panel["rows"])]
    lines = panel | {"axis": "labels", "rows": rows}
    (sweep,) = make_figure(results | {"panels": [lines]}).axes
    of_bars = {c.get_label(): c.patches[0].get_facecolor() for c in bars.containers[::2]}
    of_lines = {c.get_label(): c.lines[0].get_color() for c in sweep.containers}
    assert set(of_bars) == set(of_lines) == {"RT", "SRT"}
    for title, color in of_bars.items():
        assert matplotlib.colors.same_color(color, of_lines[title])


def test_every_weight_of_a_defense_has_its_own_shade(results):
    panel = results["panels"][0]
    row, weights = panel["rows"][0], (0.2, 0.4, 0.6, 0.8)
    keys = ["standard", *(f"{name}_{weight}" for weight in weights for name in ("rt", "srt"))]
    rows = [row | {"key": key, "title": key} for key in keys]
    (axes,) = make_figure(results | {"panels": [panel | {"rows": rows}]}).axes
    colors = {c.get_label(): c.patches[0].get_facecolor() for c in axes.containers[::2]}
    assert len(set(colors.values())) == len(keys)
    for name in ("rt", "srt"):
        darkness = [-sum(colors[f"{name}_{weight}"][:3]) for weight in weights]
        assert darkness == sorted(darkness)
