"""The figures of a report."""

import numpy as np
import pytest
from report_samples import MASKING, NOTE, REPORT, changed, make_examples

from keras_srt import report as reports
from keras_srt.report.accuracy_figures import accuracy_figure, masking_figure, smoothing_figure
from keras_srt.report.corruption_figures import corrupted_image_figure, corruptions_figure
from keras_srt.report.example_figure import examples_figure
from keras_srt.report.history import read_history
from keras_srt.report.training_figure import training_figure

HISTORY = (
    "step,loss,labeled,robust,val_accuracy,val_robust_accuracy,learning_rate\n"
    "50,3.0,1.0,2.0,,,0.01\n100,1.0,0.4,0.6,0.9,0.5,0.01\n150,0.8,0.3,0.5,0.95,0.6,0.001\n"
)


def draw(report, history, examples, folder, names=("a", "b", "c")):
    return reports.write_figures(report, history, examples, names, folder)


@pytest.fixture
def history(tmp_path):
    path = tmp_path / "history.csv"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_all_are_written(tmp_path, history):
    written = draw(REPORT, history(HISTORY), make_examples(2, 1), tmp_path)
    assert [path.name for path in written] == ["accuracy.png", "examples.png", "training.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


@pytest.mark.parametrize("text", [None, "", "step,loss,learning_rate\n"])
def test_absent_inputs_are_skipped(tmp_path, history, text):
    path = tmp_path / "none.csv" if text is None else history(text)
    written = draw(REPORT, path, make_examples(0, 1), tmp_path)
    assert [path.name for path in written] == ["accuracy.png"]


@pytest.mark.parametrize(
    ("text", "panels"),
    [
        ("step,loss,learning_rate\n1,2.0,0.1\n2,1.0,0.1\n", 1),
        ("learning_rate,step,loss,val_accuracy\n.1,1,nan,0.5\n", 1),
        (
            "learning_rate,step,loss,val_accuracy\n.1,1,1000,.1\n.1,2,nan,\n.1,3,.001,.2\n.1,4",
            2,
        ),
    ],
)
def test_history_with_missing_values(history, tmp_path, text, panels):
    read = read_history(history(text))
    assert len(training_figure(REPORT, read).axes) == panels
    assert len(draw(REPORT, history(text), make_examples(0, 1), tmp_path)) == 2


@pytest.mark.parametrize(("channels", "count"), [(1, 1), (3, 5), (4, 5)])
def test_examples_of_any_kind(channels, count, tmp_path):
    written = draw(REPORT, tmp_path / "none.csv", make_examples(count, channels), tmp_path)
    names = ["accuracy.png", "examples.png", "examples_more.png"]
    assert [path.name for path in written] == names[: 2 if count == 1 else 3]


def test_titles_and_differences_of_examples():
    images = np.full((2, 2, 2, 1), 0.5, np.float32)
    moved = images.copy()
    moved[1, 0, 0, 0] = 0.75
    moved[1, 1, 1, 0] = 0.25
    examples = reports.Examples(images, moved, [0, 1], [0, 0], [1, -1], ["pgd", "shift"])
    figure = examples_figure(REPORT, examples, ["cat", "dog"])
    cells = np.array(figure.axes).reshape(2, 3)
    assert [cell.get_title() for cell in cells[0]] == ["cat ✓", "→ dog ✗", "pgd: ±0"]
    assert [cell.get_title() for cell in cells[1]] == [
        "cat ✗",
        "→ -1 ✗",
        "shift: ±0.25\ntrue: dog",
    ]
    assert cells[0, 0].title.get_color() != cells[0, 1].title.get_color()
    difference = [cell.images[0].get_array() for cell in cells[:, 2]]
    np.testing.assert_allclose(difference[0], 0.5)
    np.testing.assert_allclose(difference[1], [[1, 0.5], [0.5, 0]])


def test_bars_and_intervals():
    axes = accuracy_figure(REPORT).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose(widths, [97.12, 90.12, 82.34, 80.11])
    texts = [text.get_text() for text in axes.texts]
    assert {"97.12", "[96.77, 97.43]", "80.11", "worst case"} <= set(texts)


def test_accuracy_against_epsilon(tmp_path):
    figure = masking_figure(changed(masking=MASKING))
    assert len(figure.axes) == 2
    axes = figure.axes[0]
    curve, guess = axes.lines[0], axes.lines[-1]
    np.testing.assert_allclose(curve.get_ydata(orig=False), [90, 60, 30, 0])
    np.testing.assert_allclose(guess.get_ydata(), [10, 10])
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0", "0.3", "8/255", "1"]
    report, none = changed(masking=MASKING), tmp_path / "none.csv"
    written = draw(report, none, make_examples(1, 1), tmp_path)
    names = [path.name for path in written]
    assert names == ["accuracy.png", "examples.png", "masking.png"]
    assert reports.written_figures(tmp_path) == written


CORRUPTIONS = {
    "n": 4,
    "accuracy": 0.55,
    "ci95": [0.5, 0.6],
    "corruptions": [
        {
            "name": name,
            "accuracy": accuracy,
            "severities": [{"severity": s, "accuracy": accuracy - s / 100} for s in range(1, 6)],
        }
        for name, accuracy in (("lost_pixels", 0.9), ("contrast", 0.2))
    ],
}


def test_heat_map_of_corruptions():
    axes = corruptions_figure(changed(corruptions=CORRUPTIONS)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lost_pixels", "contrast"]
    assert [text.get_text() for text in axes.texts][:5] == ["89", "88", "87", "86", "85"]
    assert corruptions_figure(REPORT) is None


def test_an_image_under_each_corruption():
    examples = make_examples(1, 3, size=10)
    figure = corrupted_image_figure(changed(corruptions=CORRUPTIONS), examples)
    assert len(figure.axes) == 2 * 6
    shown = figure.axes[5].images[0].get_array()
    assert (shown == 0).all(axis=-1).sum() >= 50  # half of the pixels are lost at severity 5
    assert corrupted_image_figure(REPORT, examples) is None


def test_certified_accuracy_beside_the_attack():
    points = [{"radius": r, "accuracy": a, "ci95": [0, 1]} for r, a in ((0.0, 0.9), (0.1, 0.5))]
    upper = [{**point, "accuracy": point["accuracy"] + 0.05} for point in points]
    part = {"sigma": 0.2, "n": 50, "samples": 100, "certified": points, "attacked": upper}
    axes = smoothing_figure(changed(smoothing=part)).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [90, 50])
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["certified (lower bound)", "under PGD (upper bound)"]
    alone = smoothing_figure(changed(smoothing={**part, "attacked": None})).axes[0]
    assert len(alone.get_legend().get_texts()) == 1
    assert smoothing_figure(REPORT) is None


def test_reduced_run_says_so(history):
    report = changed(reduced=NOTE)
    read = read_history(history(HISTORY))
    for figure in (
        accuracy_figure(report),
        training_figure(report, read),
        examples_figure(report, make_examples(1, 1), []),
    ):
        assert NOTE in figure.get_suptitle().replace("\n", " ")


def test_names_are_no_formulas_and_settings_stay(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    report = changed(name="a$_b$ \\frac{ $x^")
    none, examples = tmp_path / "none.csv", make_examples(1, 1)
    written = draw(report, none, examples, tmp_path, ["$\\bad{$"] * 3)
    assert len(written) == 2
    assert dict(matplotlib.rcParams) == before
