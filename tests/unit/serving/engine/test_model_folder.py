"""Versions of a model folder."""

import logging
import shutil

import pytest

from keras_srt.serving.engine.model_folder import ModelFolder
from keras_srt.serving.engine.version_policy import parse_policy
from keras_srt.serving.http.protocol import RequestError, Target


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


def available(model):
    return {version for version, (state, _) in states(model).items() if state == "AVAILABLE"}


@pytest.mark.parametrize(
    ("policy", "labels", "versions"),
    [
        ("latest", [], {5}),
        ("latest:2", [], {4, 5}),
        ("all", [], {1, 2, 4, 5}),
        ("specific:2,9", [], {2}),
        ("latest", ["stable=2"], {2, 5}),
        ("latest", ["other:stable=2"], {5}),
        ("specific:2", ["canary=4"], {2, 4}),
    ],
)
def test_versions_of_a_policy_are_served(tmp_path, policy, labels, versions):
    model = ModelFolder(tmp_path, Loads, parse_policy(policy, labels))
    for version in (1, 2, 4, 5):
        write_version(tmp_path, version)
    model.refresh()
    assert available(model) == versions
    assert model.current.version == max(versions)
    for version in versions:
        assert model.find(Target("m", version)).version == version
    with pytest.raises(RequestError, match=r"Servable not found for request: Specific\(m, 3\)"):
        model.find(Target("m", 3))


def test_latest_two_follow_new_and_broken_versions(tmp_path):
    model = ModelFolder(tmp_path, Loads, parse_policy("latest:2"))
    for version, text in ((1, "fine"), (2, "fine"), (3, "broken")):
        write_version(tmp_path, version, text)
    model.refresh()
    assert available(model) == {1, 2}
    write_version(tmp_path, 4)
    model.refresh()
    assert available(model) == {2, 4}


def test_labels(tmp_path):
    model = ModelFolder(tmp_path, Loads, parse_policy("latest", ["stable=1", "canary=7"]))
    for version in (1, 2):
        write_version(tmp_path, version)
    model.refresh()
    assert model.find(Target("m", label="stable")).version == 1
    assert model.find(Target("m")).version == 2
    for label, code, text in (
        ("canary", 404, r"Specific\(m, 7\)"),
        ("no", 400, "Unrecognized servable version label: no"),
    ):
        with pytest.raises(RequestError, match=text) as caught:
            model.find(Target("m", label=label))
        assert caught.value.code == code
