"""Trainings on one machine register, name each other and wait."""

from __future__ import annotations

import logging
import threading

import pytest

from keras_srt.pipeline import processor_turn as module
from keras_srt.pipeline.processor_turn import processor_turn


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)


def test_a_second_training_is_told_which_run_is_first(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with processor_turn(tmp_path / "first", wait=False):
        assert not caplog.records
        with processor_turn(tmp_path / "second", wait=False):
            assert f"{tmp_path / 'first'} (process " in caplog.text
        with processor_turn(tmp_path / "third", wait=False):
            assert str(tmp_path / "second") not in caplog.text


def test_waiting_starts_when_the_first_training_ends(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    order, entered = [], threading.Event()

    def second():
        entered.set()
        with processor_turn(tmp_path / "second", wait=True):
            order.append("second")

    thread = threading.Thread(target=second)
    with processor_turn(tmp_path / "first", wait=False):
        thread.start()
        assert entered.wait(10)
        thread.join(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert f"waiting for the training in {tmp_path / 'first'}" in caplog.text


def test_without_a_cache_folder_a_training_starts(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, module.logger.name)
    started = False
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "_cache_folder", lambda: tmp_path / "file")
    with processor_turn(tmp_path, wait=True):
        started = True
    assert started
    assert "don't take turns" in caplog.text
