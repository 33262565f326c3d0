"""Serving of local models while versions change."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from serving_helpers import SHARPNESS, ask, png, probabilities, publish, rows, running, wait_until

from keras_srt.serving.engine.version_policy import parse_policy

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


def test_new_models_are_found_and_broken_ones_do_not_stop_the_others(tmp_path):
    with running(publish(tmp_path / "shades", 1), root=tmp_path) as server:
        (tmp_path / "broken" / "1").mkdir(parents=True)
        (tmp_path / "no_model").mkdir()
        publish(tmp_path / "more", 4)
        wait_until(lambda: ask(server.url + "/models")[1] == {"models": ["more", "shades"]})
        assert predict(server, rows(png(0)), "/v1/models/more")[0] == 200
        (state,) = ask(f"{server.url}/v1/models/broken")[1]["model_version_status"]
        assert (state["state"], state["status"]["error_code"]) == ("END", "UNKNOWN")
        assert predict(server, rows(png(0)), "/v1/models/broken")[0] == 404
        page = server.metrics.page().decode()
        assert 'keras_srt_model_version{model="more"} 4.0' in page


def test_canary_and_rollback_by_labels(tmp_path):
    folder = publish(tmp_path / "shades", 1)
    publish(folder, 2, of=2)
    policy = parse_policy("latest", ["stable=1"])
    with running(folder, policy=policy) as server:
        for path, version in (("", 2), ("/labels/stable", 1), ("/versions/1", 1)):
            answer = predict(server, rows(png(0)), MODEL + path)[1]["predictions"][0]
            expected = probabilities(0, SHARPNESS[version])
            np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
        (state,) = ask(f"{server.url}{MODEL}/labels/stable")[1]["model_version_status"]
        assert (state["version"], state["state"]) == ("1", "AVAILABLE")
        spec = ask(f"{server.url}{MODEL}/labels/stable/metadata")[1]["model_spec"]
        assert spec["version"] == "1"
        text = "Unrecognized servable version label: no"
        assert ask(f"{server.url}{MODEL}/labels/no")[:2] == (400, {"error": text})
