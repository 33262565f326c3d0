"""What the web page asks of the server besides predictions."""

import base64
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serving_helpers import ask, floats, publish, running, running_gateway, wait_until

from keras_srt.core.sample_images import SampleImages, read_samples, write_samples

LIMIT = 60
VERSION = "/models/shades/versions/1"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = publish(tmp_path_factory.mktemp("models") / "shades", 1)
    images = np.uint8([0, 255])[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    write_samples(folder / "1", SampleImages(images, ["dark", "light"]))
    with running(folder, attack_queries=LIMIT) as started:
        started.samples = read_samples(folder / "1")
        yield started


def attack(server, image, epsilon, **more):
    document = {"instances": image, "epsilon": epsilon, **more}
    return ask(f"{server.url}{VERSION}/attack", document)


def queries_of(server):
    (line,) = [
        line
        for line in ask(server.url + "/metrics")[1].splitlines()
        if line.startswith('keras_srt_attack_queries_total{model="shades"}')
    ] or [" 0"]
    return float(line.rsplit(" ")[-1])


def test_samples_and_queries_of_a_model(server):
    code, about, _ = ask(f"{server.url}{VERSION}/page")
    assert (code, about["attack_queries"]) == (200, LIMIT)
    samples = [(one["name"], base64.b64decode(one["b64"])) for one in about["samples"]]
    assert samples == server.samples
    assert [name for name, _ in samples] == ["dark", "light"]
    assert ask(f"{server.url}/models/shades/versions/7/page")[0] == 404


@pytest.mark.parametrize("epsilon", [0.06, 0.3])
def test_a_found_change_is_small_and_flips_the_class(server, epsilon):
    image = floats(0.28)  # gray; dark below 0.25
    before = queries_of(server)
    code, found, _ = attack(server, image, epsilon)
    assert (code, found["flipped"]) == (200, True)
    assert 1 <= found["queries"] <= LIMIT
    assert queries_of(server) - before == found["queries"] + 1  # the unchanged image
    changed = np.array(found["image"])
    assert np.abs(changed - np.array(image[0])).max() <= epsilon + 1e-6
    assert 0 <= changed.min() <= changed.max() <= 1
    assert found["prediction"]["class_name"] == "dark"
    document = {"signature_name": "image", "instances": [found["image"]]}
    answer = ask(f"{server.url}/v1/models/shades:predict", document)[1]
    assert answer["predictions"] == [found["prediction"]]
    assert attack(server, image, epsilon)[1] == found


def test_a_search_without_success_ends_after_the_allowed_queries(server):
    assert attack(server, floats(0.0), 0.01)[:2] == (200, {"flipped": False, "queries": LIMIT})


@pytest.mark.parametrize(
    ("image", "epsilon", "text"),
    [
        (floats(0.5), 0, "epsilon: got 0; allowed: above 0, at most 1"),
        (floats(0.5), 1.5, "epsilon: got 1.5; allowed: above 0, at most 1"),
        (floats(0.5), True, "epsilon: got True; allowed: above 0, at most 1"),
        (floats(0.5), np.nan, "epsilon: got nan; allowed: above 0, at most 1"),
        (floats(0.5), None, "epsilon: got None; allowed: above 0, at most 1"),
        (floats(0.5, 0.5), 0.1, "image: allowed: one image with values from 0 to 1"),
        (floats(1.5), 0.1, "image: allowed: one image with values from 0 to 1"),
        (floats(np.nan), 0.1, "image: allowed: one image with values from 0 to 1"),
        ([[0.5]], 0.1, "Shape of tensor image [1,1] is not compatible with expected shape"),
    ],
)
def test_invalid_requests_are_refused(server, image, epsilon, text):
    code, answer, _ = attack(server, image, epsilon)
    assert (code, text in answer["error"]) == (400, True), answer
    assert ask(f"{server.url}{VERSION}/attack")[0] == 405


def test_attacks_are_bounded_in_time_and_one_at_a_time(tmp_path):
    folder = publish(tmp_path / "shades", 1)
    hopeless = floats(0.0), 0.001
    with running(folder, attack_queries=10**5, attack_seconds=1.0) as server:
        assert ask(f"{server.url}{VERSION}/page")[1]["samples"] == []
        with ThreadPoolExecutor(1) as pool:
            started = time.monotonic()
            first = pool.submit(attack, server, *hopeless)
            wait_until(lambda: queries_of(server) > 0)
            code, answer, headers = attack(server, *hopeless)
            document = {"signature_name": "image", "instances": floats(1.0)}
            others = ask(f"{server.url}/v1/models/shades:predict", document)[0]
            assert not first.done()
            code_of_first, found, _ = first.result()
            seconds = time.monotonic() - started
        assert (code, headers["retry-after"], others) == (503, "1", 200)
        assert "all its places for attacks are in use" in answer["error"]
        assert (code_of_first, found["flipped"]) == (200, False)
        assert 10 < found["queries"] < 10**5
        assert seconds < 5
        assert attack(server, floats(0.28), 0.3)[1]["flipped"]
        assert (
            'keras_srt_requests_total{code="503",kind="attack"} 1'
            in ask(server.url + "/metrics")[1]
        )


def test_attacks_can_be_off_and_a_gateway_has_none(tmp_path):
    with running(publish(tmp_path / "shades", 1), attack_queries=0) as server:
        assert ask(f"{server.url}{VERSION}/page")[1]["attack_queries"] == 0
        code, answer, _ = attack(server, floats(0.28), 0.3)
        assert (code, answer["error"]) == (
            403,
            "Attacks are off; serve with --attack-queries to allow them",
        )
        with running_gateway(server.url) as gateway:
            assert ask(f"{gateway.url}{VERSION}/page")[1] == {"samples": [], "attack_queries": 0}
            assert attack(gateway, floats(0.28), 0.3)[0] == 403
