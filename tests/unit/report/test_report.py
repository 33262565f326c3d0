"""Tables, figures and the page of a report."""

import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_samples import DISTANCE, MASKING, NOTE, REPORT, TRAINING, VICTIM, changed

from keras_srt import report as reports
from keras_srt.report import rows as content
from keras_srt.report.accuracy_figures import accuracy_figure, masking_figure
from keras_srt.report.example_figure import examples_figure
from keras_srt.report.training_figure import training_figure


def attack(**values):
    return changed(attacks=[{**REPORT["attacks"][0], **values}])


def make_examples(count, channels, size=6):
    draws = np.random.default_rng(0)
    images = draws.random((count, size, size, channels), np.float32)
    moved = np.clip(images + draws.uniform(-0.1, 0.1, images.shape), 0, 1).astype(np.float32)
    labels = np.arange(count) % 3
    return reports.Examples(images, moved, labels, labels, (labels + 1) % 3, ["pgd"] * count)


def draw(report, history, examples, folder, names=("a", "b", "c")):
    return reports.write_figures(report, history, examples, names, folder)


def row_of(table, name):
    return next(line for line in table.splitlines() if line.startswith(name))


class Page(HTMLParser):
    """What a page holds: its tags, where they point, texts, and whether tags are closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, tag):
        return [data for where, data in self.texts if where == tag]

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(report, figures, folder):
    path = reports.write_html(report, figures, folder / "report.html")
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    return page, text


@pytest.fixture
def history(tmp_path):
    path = tmp_path / "history.csv"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return path

    return write


class TestTable:
    def test_rows_hold_the_numbers(self):
        table = reports.terminal_table(REPORT)
        assert row_of(table, "clean").split()[-6:] == [
            "images", "97.12", "[96.77,", "97.43]", "10,000", "-",
        ]  # fmt: skip
        assert "eps 0.3, 40 steps, 2 restarts" in row_of(table, "pgd")
        assert row_of(table, "pgd").split()[-5:] == ["90.12", "[89.52,", "90.69]", "9,000", "184"]
        assert "5x5x31 grid, 3 px, 30 deg" in row_of(table, "gridadv")
        assert row_of(table, "gridadv").split()[-1] == "95.5"
        assert "80.11  [77.52, 82.47]   1,000" in row_of(table, "worst case")
        assert "R_stand 0.0288, R_rob 0.1832, R_adv 0.1989" in table

    def test_worst_case_comes_after_the_attacks_and_a_rule(self):
        lines = reports.terminal_table(REPORT).splitlines()
        worst = next(i for i, line in enumerate(lines) if line.startswith("worst case"))
        assert set(lines[worst - 1]) == {"-"}
        assert any(line.startswith("gridadv") for line in lines[: worst - 1])

    @pytest.mark.parametrize(
        "report",
        [
            REPORT,
            changed(name="long " * 60, reduced="why " * 80),
            changed(name="unbroken" * 40),
            attack(name="pgd_plus@" + "1" * 60, settings={"grid": [12345] * 40}),
            attack(n=10**9, seconds=1e8, accuracy=1.0, ci95=[1.0, 1.0]),
            changed(worst_case={**REPORT["worst_case"], "attacks": ["attack"] * 40}),
            changed(name="λ ≤ 8/255 → 猫 \x1b[31m\nnext", reduced="naïve"),
        ],
    )
    def test_is_ascii_of_at_most_100_columns(self, report):
        table = reports.terminal_table(report)
        assert max(map(len, table.splitlines())) <= 100
        assert table.isascii()
        assert all(line.isprintable() for line in table.splitlines())

    def test_columns_are_aligned(self):
        lines = reports.terminal_table(REPORT).splitlines()
        ends = {line.index("]") for line in lines if re.search(r"\[\d", line)}
        assert len(ends) == 1

    def test_reduced_run_says_so(self):
        assert "Reduced" not in reports.terminal_table(REPORT)
        assert f"Reduced run: {NOTE}" in reports.terminal_table(changed(reduced=NOTE))

    @pytest.mark.parametrize("key", ["reduced", "train_seconds", "steps"])
    def test_optional_keys_may_be_missing_or_null(self, key):
        without = {k: v for k, v in REPORT.items() if k != key}
        assert reports.terminal_table(without) == reports.terminal_table(changed(**{key: None}))
        assert "97.12" in reports.terminal_table(without)

    def test_training(self):
        table = reports.terminal_table(REPORT)
        assert "Objective srt (robust_weight 1), model small_cnn, 2,000 steps" in table
        assert "trained for 90 min" in table
        assert "54,700 unlabeled" in table
        without = {k: v for k, v in REPORT.items() if k not in TRAINING}
        without["dataset"] = {"title": "MNIST", "num_train": 60000, "num_test": 10000}
        lines = reports.terminal_table(without).splitlines()
        assert lines[1:3] == ["MNIST: 10,000 test, from a training split of 60,000", ""]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"epsilon": 8 / 255, "settings": {"num_steps": 1}}, "linf eps 8/255, 1 step"),
            ({"epsilon": float(np.float32(8 / 255)), "settings": {}}, "linf eps 8/255"),
            ({"epsilon": float(np.float32(0.2)), "settings": {}}, "linf eps 0.2"),
            ({"epsilon": 0.031, "settings": {"num_steps": 10}}, "linf eps 0.031, 10 steps"),
            ({"epsilon": 0.2, "settings": {"restarts": 1, "step_size": None}},
             "linf eps 0.2, 1 restart"),
            ({"norm": "spatial", "epsilon": None, "settings": {"points": 31, "max_rotation": 30.0}},
             "31 points, 30 deg"),
            ({"norm": "spatial", "epsilon": None, "settings": {"num_samples": 10}}, "10 draws"),
            ({"norm": "linf+spatial", "settings": {"num_steps": 40, "grid": [5, 5, 1]}},
             "linf+spatial eps 0.3, 5x5x1 grid, 40 steps"),
        ],
    )  # fmt: skip
    def test_settings_in_short(self, values, expected):
        row = content.rows_of(attack(**values))[1]
        assert row.settings == expected

    def test_what_targeted_and_minimal_norm_attacks_found(self):
        settings = {"num_steps": 40, "target": "next"}
        row = content.rows_of(attack(settings=settings, target_reached=0.125))[1]
        assert row.settings == "linf eps 0.3, 40 steps; target next reached by 12.50%"
        row = content.rows_of(attack(settings={}, distance=DISTANCE))[1]
        assert row.settings == "linf eps 0.3; median distance 1.235; 25.00% at eps 1.5"
        unbounded = {**DISTANCE, "median": None, "accuracy_at": DISTANCE["accuracy_at"][:1]}
        row = content.rows_of(attack(settings={}, distance=unbounded))[1]
        assert row.settings == "linf eps 0.3; median distance infinite"

    @pytest.mark.parametrize(
        ("count", "expected"), [(5, "a0, a1, a2, a3, a4"), (6, "all 6 attacks")]
    )
    def test_many_attacks_are_counted_in_the_last_row(self, count, expected):
        worst = {**REPORT["worst_case"], "attacks": [f"a{i}" for i in range(count)]}
        assert content.rows_of(changed(worst_case=worst))[-1].settings.endswith(f"of {expected}")

    @pytest.mark.parametrize(("width", "widest"), [(40, 80), (80, 80), (90, 90), (300, 100)])
    def test_fits_the_terminal(self, width, widest):
        report = attack(settings={"num_steps": 40, "target": "next"}, distance=DISTANCE)
        report |= {"masking": MASKING, "victim": VICTIM, "worst_case": REPORT["worst_case"]}
        table = reports.terminal_table(report, width)
        assert widest - 3 <= max(map(len, table.splitlines())) <= widest
        ends = {line.index("]") for line in table.splitlines() if re.search(r"\[\d", line)}
        assert len(ends) == 1

    def test_a_model_from_elsewhere(self):
        table = " ".join(reports.terminal_table(changed(victim=VICTIM)).split())
        assert (
            "A TFLite file from elsewhere that answers with probabilities, whose logarithms are "
            "attacked; without gradients: possible attacks are gridadv, square it is slow"
        ) in table
        own = {**VICTIM, "answers": "logits", "gradients": True, "attacks": "all", "warnings": []}
        table = " ".join(reports.terminal_table(changed(victim=own)).split())
        assert "answers with logits; with gradients: all attacks are possible" in table

    def test_gradient_masking(self):
        lines = reports.terminal_table(changed(masking=MASKING)).splitlines()
        assert lines[-3:] == [
            "WARNING: gradient masking, linf eps 0.3: Square of 100 queries takes it <to> 3%",
            "Gradient masking, linf eps 0.3: 1 of 2 checks passed (100 images, 4 s)",
            "Gradient masking, l2 eps 2: 1 of 1 checks passed (100 images, 4 s)",
        ]


class TestFigures:
    HISTORY = (
        "step,loss,labeled,robust,val_accuracy,val_robust_accuracy,learning_rate\n"
        "50,3.0,1.0,2.0,,,0.01\n100,1.0,0.4,0.6,0.9,0.5,0.01\n150,0.8,0.3,0.5,0.95,0.6,0.001\n"
    )

    def test_all_are_written(self, tmp_path, history):
        written = draw(REPORT, history(self.HISTORY), make_examples(2, 1), tmp_path)
        assert [path.name for path in written] == ["accuracy.png", "examples.png", "training.png"]
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)

    @pytest.mark.parametrize("text", [None, "", "step,loss,learning_rate\n"])
    def test_absent_inputs_are_skipped(self, tmp_path, history, text):
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
    def test_history_with_missing_values(self, history, tmp_path, text, panels):
        read = content.read_history(history(text))
        assert len(training_figure(REPORT, read).axes) == panels
        assert len(draw(REPORT, history(text), make_examples(0, 1), tmp_path)) == 2

    def test_repeated_steps_of_a_resumed_run_count_once(self, history):
        read = content.read_history(history("step,loss\n1,5\n2,4\n2,3\n3,2\n"))
        np.testing.assert_array_equal(read["step"], [1, 2, 3])
        np.testing.assert_array_equal(read["loss"], [5, 3, 2])

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("count", [1, 5])
    def test_examples_of_any_kind(self, channels, count, tmp_path):
        written = draw(REPORT, tmp_path / "none.csv", make_examples(count, channels), tmp_path)
        names = ["accuracy.png", "examples.png", "examples_more.png"]
        assert [path.name for path in written] == names[: 2 if count == 1 else 3]

    def test_titles_and_differences_of_examples(self):
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
            "shift: ±0.25\nis dog",
        ]
        assert cells[0, 0].title.get_color() != cells[0, 1].title.get_color()
        difference = [cell.images[0].get_array() for cell in cells[:, 2]]
        np.testing.assert_allclose(difference[0], 0.5)
        np.testing.assert_allclose(difference[1], [[1, 0.5], [0.5, 0]])

    def test_bars_and_intervals(self):
        axes = accuracy_figure(REPORT).axes[0]
        widths = [bar.get_width() for bar in axes.patches]
        np.testing.assert_allclose(widths, [97.12, 90.12, 82.34, 80.11])
        texts = [text.get_text() for text in axes.texts]
        assert {"97.12", "[96.77, 97.43]", "80.11", "worst case"} <= set(texts)

    def test_accuracy_against_epsilon(self, tmp_path):
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

    def test_reduced_run_says_so(self, history):
        report = changed(reduced=NOTE)
        read = content.read_history(history(self.HISTORY))
        for figure in (
            accuracy_figure(report),
            training_figure(report, read),
            examples_figure(report, make_examples(1, 1), []),
        ):
            assert NOTE in figure.get_suptitle().replace("\n", " ")

    def test_names_are_no_formulas_and_settings_stay(self, tmp_path):
        import matplotlib

        before = dict(matplotlib.rcParams)
        report = changed(name="a$_b$ \\frac{ $x^")
        none, examples = tmp_path / "none.csv", make_examples(1, 1)
        written = draw(report, none, examples, tmp_path, ["$\\bad{$"] * 3)
        assert len(written) == 2
        assert dict(matplotlib.rcParams) == before


class TestPage:
    def test_holds_title_numbers_and_settings(self, tmp_path):
        page, text = page_of(REPORT, [], tmp_path)
        assert page.all("html") == [{"lang": "en"}]
        assert page.text("title") == page.text("h1") == ["mnist_srt"]
        headings = ["What it was trained on", "Results", "Risks", "Settings"]
        assert page.text("h2") == headings
        cells = page.text("td")
        assert cells[:4] == ["97.12", "[96.77, 97.43]", "10,000", "-"]
        assert "80.11" in cells
        assert "0.1832" in page.text("dd")
        assert json.loads("".join(page.text("pre"))) == REPORT
        assert len(page.all("details")) == 1
        assert "eq. 6" in text
        assert "Reduced" not in text

    def test_gradient_masking_and_what_was_attacked(self, tmp_path):
        page, _ = page_of(changed(masking=MASKING, target_model=VICTIM), [], tmp_path)
        headings = ["What it was trained on", "Results", "Risks", "Gradient masking", "Settings"]
        assert page.text("h2")[:5] == headings
        assert page.text("dt")[-3:] == [
            "Falls to 0 at large eps", "Square is weaker than APGD", "Falls to 0 at large eps",
        ]  # fmt: skip
        assert page.text("strong")[-1] == "\N{BALLOT X} failed"
        assert "Square of 100 queries takes it <to> 3%" in page.text("dd")
        assert {"it is slow", "linf eps 0.3, 100 images"} <= set(page.text("p"))

    def test_figures_are_inside_with_alt_texts(self, tmp_path):
        written = draw(REPORT, tmp_path / "none.csv", make_examples(1, 3), tmp_path)
        page, _ = page_of(REPORT, written, tmp_path)
        images = page.all("img")
        assert len(images) == 2
        assert all(image["src"].startswith("data:image/png;base64,") for image in images)
        assert all(image["alt"] for image in images)
        assert "pgd 90.12%" in images[0]["alt"]

    def test_needs_nothing_from_outside(self, tmp_path):
        written = draw(REPORT, tmp_path / "none.csv", make_examples(1, 1), tmp_path)
        page, text = page_of(REPORT, written, tmp_path)
        assert not re.search(r"https?://|url\(|@import", text)
        assert not {"script", "iframe", "object"} & {tag for tag, _ in page.tags}
        for _, attrs in page.tags:
            for key in ("src", "href"):
                assert attrs.get(key, "data:").startswith("data:")

    def test_every_string_is_escaped(self, tmp_path):
        evil = '<script>alert("1")</script>\'"&'

        def poison(value):
            if isinstance(value, dict):
                return {key: poison(item) for key, item in value.items()} | {evil: evil}
            if isinstance(value, list):
                return [poison(item) for item in value]
            return evil if isinstance(value, str) else value

        poisoned = {**poison(REPORT), "reduced": evil}
        poisoned |= {"masking": poison(MASKING), "victim": poison(VICTIM)}
        page, text = page_of(poisoned, [], tmp_path)
        assert "<script" not in text.lower()
        assert page.text("h1") == [evil]
        more = {"masking": MASKING, "victim": VICTIM}
        clean_page, _ = page_of(changed(reduced=NOTE, **more), [], tmp_path)
        assert {tag for tag, _ in page.tags} == {tag for tag, _ in clean_page.tags}
        assert {key for _, attrs in page.tags for key in attrs} == {
            key for _, attrs in clean_page.tags for key in attrs
        }

    @pytest.mark.parametrize("name", ["$body $title ${style}", "{body}", "100%s", "\udcff"])
    def test_odd_names(self, name, tmp_path):
        page, _ = page_of(changed(name=name), [], tmp_path)
        assert page.text("h1") == [name.replace("\udcff", "?")]

    def test_reduced_run_says_so_beside_all_numbers(self, tmp_path):
        page, _ = page_of(changed(reduced=NOTE), [], tmp_path)
        assert NOTE in "".join(page.text("p"))
        assert NOTE in "".join(page.text("caption"))


@pytest.mark.parametrize("path", sorted(Path(reports.__file__).parent.glob("*.py")), ids=str)
def test_imports_neither_tensorflow_nor_pyplot_and_matplotlib_only_when_drawing(path):
    tree = ast.parse(path.read_text("utf-8"))
    imports = (ast.Import, ast.ImportFrom)
    at_top = [ast.unparse(node) for node in tree.body if isinstance(node, imports)]
    everywhere = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, imports)]
    assert "matplotlib" not in " ".join(at_top)
    assert not re.search("tensorflow|pyplot|lazy", " ".join(everywhere))
