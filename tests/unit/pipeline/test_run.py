"""A whole run: what `export` and `pages` leave out, and what a later call adds."""

import json

import pytest
from helpers import tiny, write_config

from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.run import run
from keras_srt.pipeline.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("untimed")


def test_a_run_without_export_and_pages_is_exported_later(tmp_path):
    settings = tiny(training__steps=2)
    settings["evaluation"] |= {"limit": 4, "masking": 0, "curves": 0, "deployment": 2}
    config = load_config(str(write_config(tmp_path, settings)))
    folder = RunFolder(tmp_path / "run")
    made = run(config, folder, export=False, pages=False)
    assert json.loads(folder.report.read_text()) == made
    assert not [*folder.path.glob("*.png"), *folder.path.glob("*.html"), *folder.path.glob("*.md")]
    assert not (tmp_path / "exported").exists()
    assert run(config, folder, resume=True, export=False) == made
    later = run(config, folder, resume=True)
    assert {**later, "deployment": None} == {**made, "deployment": None}
    assert later["deployment"]["n"] == 2
    assert (tmp_path / "exported" / config.name / "1" / "saved_model.pb").is_file()
