"""Serving of local models while versions change."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from serving_helpers import SHARPNESS, ask, png, probabilities, publish, rows, running, wait_until

MODEL = "/v1/models/shades"


def predict(server, document, path=MODEL, **more):
    return ask(f"{server.url}{path}:predict", document, **more)


def test_new_version_is_loaded_without_failed_requests(tmp_path):
    folder = publish(tmp_path / "shades", 1)
    allowed = [probabilities(0, sharpness) for sharpness in SHARPNESS.values()]
    stop, answers = threading.Event(), []

    def client(server):
        while not stop.wait(0.01):
            code, answer, _ = predict(server, rows(png(0)))
            answers.append((code, answer["predictions"][0]["probabilities"]))

    with running(folder) as server, ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, server) for _ in range(4)]
        try:
            (folder / ".draft-9").mkdir()
            (folder / "tflite").mkdir()
            publish(folder, 2, of=2)
            wait_until(lambda: _versions(server).get("2") == "AVAILABLE")
            assert _versions(server) == {"2": "AVAILABLE", "1": "END"}
            assert ask(f"{server.url}{MODEL}/versions/1:predict", rows(png(0)))[0] == 404
        finally:
            stop.set()
        for finished in clients:
            finished.result()
        last = predict(server, rows(png(0)))[1]["predictions"][0]["probabilities"]
    assert {code for code, _ in answers} == {200}
    for _, got in answers:
        assert min(np.abs(got - expected).max() for expected in allowed) < 1e-6
    np.testing.assert_allclose(last, allowed[1], atol=1e-6)


def _versions(server):
    states = ask(server.url + MODEL)[1]["model_version_status"]
    return {state["version"]: state["state"] for state in states}
