"""The notebook runs from top to bottom, and is kept without outputs."""

import json

import pytest
from helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path, kind):
    """The sources of a notebook's cells of a kind, in order."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


def test_the_notebook_of_digits_runs(tmp_path, monkeypatch, capsys):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    plt.switch_backend("Agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    names = {"__name__": "notebook"}
    for number, source in enumerate(cells(ROOT / "notebooks" / "digits.ipynb", "code")):
        exec(compile(source, f"digits.ipynb, code cell {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "100 labeled, 1000 unlabeled, 500 test" in printed
    assert set(names["outcomes"]) == {"SRT", "RT"}
    for outcome in names["outcomes"].values():
        report = outcome.report()
        assert report["clean"]["n"] == names["TESTED"]
        assert report["attacks"][0]["epsilon"] == names["EPSILON"]
        # The attack never makes a wrong answer right.
        assert report["worst_case"]["accuracy"] <= report["clean"]["accuracy"]
    titles = [axes.get_title() for axes in names["figure"].axes]
    assert len(titles) == 12
    assert all(title.startswith("answer ") for title in titles)
    assert list(tmp_path.iterdir()) == []
    plt.close(names["figure"])
