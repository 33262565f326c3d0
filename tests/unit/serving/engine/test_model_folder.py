"""Versions of a model folder."""

import logging
import shutil

from keras_srt.serving.engine.model_folder import ModelFolder


class Loads:
    """A fake loader, which fails if `saved_model.pb` contains "broken"."""

    def __init__(self, folder, name, version):
        if (folder / "saved_model.pb").read_text() == "broken":
            raise RuntimeError("no\nmodel")
        self.version = version


def write_version(folder, version, text="fine"):
    (folder / str(version)).mkdir(parents=True, exist_ok=True)
    (folder / str(version) / "saved_model.pb").write_text(text)


def states(model):
    return {state.version: (state.state, state.error) for state in model.states()}


def test_broken_version_is_skipped_and_retried_after_a_change(tmp_path, caplog):
    caplog.set_level(logging.INFO, "keras_srt.serving")
    model = ModelFolder(tmp_path, Loads)
    write_version(tmp_path, 1)
    model.refresh()
    write_version(tmp_path, 2, "broken")
    for _ in range(3):
        model.refresh()
    assert model.current.version == 1
    assert states(model) == {1: ("AVAILABLE", ""), 2: ("END", "no model")}
    name = tmp_path.name
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert caplog.messages[1] == f"{name}: version 2 can't be loaded: no model"
    write_version(tmp_path, 2, "mended")
    model.refresh()
    assert model.current.version == 2
    assert states(model) == {1: ("END", ""), 2: ("AVAILABLE", "")}


def test_removing_the_newest_version_rolls_back(tmp_path):
    model = ModelFolder(tmp_path, Loads)
    for version in (2, 10, 9):
        write_version(tmp_path, version)
    model.refresh()
    assert model.current.version == 10
    shutil.rmtree(tmp_path / "10")
    model.refresh()
    assert model.current.version == 9
    for version in (2, 9):
        shutil.rmtree(tmp_path / str(version))
    model.refresh()
    assert model.current.version == 9


def test_a_version_with_zeros_is_served(tmp_path):
    write_version(tmp_path, "002")
    model = ModelFolder(tmp_path, Loads)
    model.refresh()
    assert model.current.version == 2
