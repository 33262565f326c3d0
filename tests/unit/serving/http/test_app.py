"""The web application, over HTTP."""

import gzip
import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serving_helpers import (
    NAMES,
    HeldModels,
    Running,
    ask,
    floats,
    png,
    probabilities,
    publish,
    rows,
    running,
    wait_until,
)

from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.metrics import Metrics

MODEL = "/v1/models/shades"


COUNTERS = (
    'keras_srt_requests_total{code="200",kind="predict"}',
    'keras_srt_requests_total{code="400",kind="predict"}',
    'keras_srt_images_total{model="shades",valid="true"}',
    'keras_srt_images_total{model="shades",valid="false"}',
    'keras_srt_request_seconds_count{kind="predict"}',
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(publish(tmp_path_factory.mktemp("models") / "shades", 1)) as started:
        yield started


def predict(server, document, path=MODEL, **more):
    return ask(f"{server.url}{path}:predict", document, **more)


def test_status_and_metadata_equal_those_of_tf_serving(server):
    code, answer, headers = ask(server.url + MODEL)
    assert code == 200
    assert headers["content-type"] == "application/json"
    assert answer == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    assert ask(f"{server.url}{MODEL}/versions/1")[1] == answer
    code, answer, _ = ask(f"{server.url}{MODEL}/metadata")
    assert code == 200
    assert answer["model_spec"] == {"name": "shades", "signature_name": "", "version": "1"}
    image = answer["metadata"]["signature_def"]["signature_def"]["image"]
    assert image["method_name"] == "tensorflow/serving/predict"
    assert image["inputs"]["image"]["dtype"] == "DT_FLOAT"
    assert image["inputs"]["image"]["tensor_shape"] == {
        "dim": [{"size": str(size), "name": ""} for size in (-1, 8, 8, 1)],
        "unknown_rank": False,
    }


def test_unreadable_images_do_not_affect_others(server):
    whole = png(255)
    broken = whole[:40] + bytes(4) + whole[44:]  # a valid header over corrupt pixels
    code, answer, _ = predict(server, rows(png(0), broken, whole, b"GIF89a", png(255, (90, 3))))
    assert code == 200
    found = answer["predictions"]
    assert [row["class_name"] for row in found] == ["dark", "", "light", "", "light"]
    assert [row["valid"] for row in found] == [True, False, True, False, True]
    assert found[1] == found[3]
    assert found[1] == {
        "probabilities": [0, 0, 0],
        "class_id": -1,
        "class_name": "",
        "score": 0,
        "valid": False,
        "classes": list(NAMES),
    }
    np.testing.assert_allclose(found[0]["probabilities"], probabilities(0), atol=1e-6)
    assert found[0]["score"] == max(found[0]["probabilities"])


def test_nan_does_not_affect_other_images(server):
    levels = floats(0.5, np.nan, 1.0, 1.5)
    code, answer, _ = predict(server, {"signature_name": "image", "inputs": {"image": levels}})
    assert code == 200
    assert answer["outputs"]["class_name"] == ["gray", "", "light", ""]
    np.testing.assert_allclose(answer["outputs"]["probabilities"][0], probabilities(0.5), atol=1e-6)


def test_logits_have_one_unnamed_output_and_refuse_nan(server):
    answer = predict(server, {"signature_name": "logits", "instances": floats(0.5)})[1]
    np.testing.assert_allclose(answer["predictions"], [[0.5, 1, 1.5]], atol=1e-6)
    code, answer, _ = predict(server, {"signature_name": "logits", "instances": floats(np.nan)})
    assert (code, answer) == (400, {"error": "Input images has NaN or infinite values"})


def test_order_of_more_images_than_a_batch(server):
    levels = [0, 128, 255] * 25
    answer = predict(server, rows(*[png(level) for level in levels]))[1]
    assert [row["class_id"] for row in answer["predictions"]] == [0, 1, 2] * 25


@pytest.mark.parametrize(
    ("method", "path", "code", "text"),
    [
        ("POST", "/v1/models/no:predict", 404, "Servable not found for request: Latest(no)"),
        (
            "POST",
            f"{MODEL}/versions/7:predict",
            404,
            "Servable not found for request: Specific(shades, 7)",
        ),
        ("GET", "/v1/models/no", 404, "Could not find any versions of model no"),
        ("GET", f"{MODEL}/versions/7", 404, "Could not find version 7 of model shades"),
        (
            "GET",
            "/v1/models/no/metadata",
            404,
            "Servable not found for request: Latest(no)",
        ),
        ("PUT", MODEL, 400, f"Malformed request: PUT {MODEL}"),
        ("POST", MODEL, 400, f"Malformed request: POST {MODEL}"),
        ("GET", "/v2/models", 404, "Not Found: GET /v2/models"),
        ("POST", "/models", 405, "Method Not Allowed: POST /models"),
        ("GET", "/static/..%2Fapp.py", 404, "Not Found: GET /static/../app.py"),
        ("GET", "/static/no.js", 404, "Not Found: GET /static/no.js"),
    ],
)
def test_errors_are_json(server, method, path, code, text):
    data = b'{"instances": [1]}' if method in ("POST", "PUT") else None
    got = ask(server.url + path, method=method, data=data)
    assert got[:2] == (code, {"error": text})


def test_page_has_security_headers_and_no_cors(server):
    code, text, headers = ask(server.url + "/", headers={"Origin": "http://elsewhere"})
    assert code == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert text.startswith("<!DOCTYPE html>")
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["access-control-allow-origin"] is None
    assert headers["server"] is None
    assert ask(server.url + "/models")[1] == {"models": ["shades"]}


def test_metrics_count_requests_images_and_versions(server):
    def figures():
        text = ask(server.url + "/metrics")[1]
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
        return {key: float(value) for key, value in lines}

    before = figures()
    predict(server, rows(png(0), b"bad"))
    predict(server, {"nothing": 1})
    after = figures()
    assert {key: after[key] - before.get(key, 0) for key in COUNTERS} == dict(
        zip(COUNTERS, (1, 1, 1, 1, 2), strict=True)
    )
    assert after['keras_srt_model_version{model="shades"}'] == 1
    assert after["keras_srt_queue_length"] == 0
    assert after["keras_srt_connections"] == 1
    assert after["process_resident_memory_bytes"] > 10**7
    assert ask(server.url + "/monitoring/prometheus/metrics")[0] == 200


@pytest.fixture
def held():
    limits, metrics = Limits(max_queue=2, timeout=1.0, max_body=1000), Metrics()
    server = Running(HeldModels(), limits, metrics)
    yield server
    server.stop()


def test_full_queue_is_503_with_retry_after(held):
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(predict, held, {"a": 1}) for _ in range(2)]
        wait_until(lambda: held.models.waiting == 2)
        code, answer, headers = predict(held, {"a": 1})
        held.models.go.set()
        assert [job.result()[0] for job in waiting] == [200, 200]
    assert (code, headers["retry-after"]) == (503, "1")
    assert answer == {
        "error": "The server is busy: all its places in the queue are in use; try again in a second"
    }
    assert predict(held, {"a": 1})[0] == 200


def test_slow_response_is_504(held):
    assert predict(held, {"a": 1})[:2] == (504, {"error": "Timed out after 1 s"})


def test_internal_error_is_json_and_the_server_continues(held, caplog):
    code, answer, _ = ask(held.url + "/models")
    assert (code, answer) == (500, {"error": "Internal error; see the log of the server"})
    assert ask(held.url + "/metrics")[0] == 200
    assert "a fault of ours" in caplog.text


def connect(server, text):
    link = socket.create_connection(server.address, timeout=10)
    link.sendall(text)
    return link


def head(path=f"{MODEL}:predict", **headers):
    lines = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def received(link):
    with link, link.makefile("rb") as file:
        return file.read()


def test_too_large_content_length_is_refused_at_once(held):
    held.models.go.set()
    with connect(held, head(Content_Length=10**9)) as link, link.makefile("rb") as file:
        answer = b"".join(file.readline() for _ in range(8)) + file.read(79)
        # Its body is read and dropped, and the server doesn't mind.
        link.sendall(b"x" * 10**6)
        assert predict(held, {"a": 1})[0] == 200
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"1,000,000,000 bytes or more; allowed: 1,000" in answer


def test_too_long_chunked_body_is_refused(held):
    chunk = b"%x\r\n%s\r\n" % (600, b" " * 600)
    with connect(held, head(Transfer_Encoding="chunked") + chunk + chunk) as link:
        answer = link.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_slow_clients_are_disconnected_without_affecting_others(held):
    held.models.go.set()
    started = time.monotonic()
    slow_head = connect(held, b"POST /v1/models/shades:predict HTTP/1.1\r\nHost:")
    slow_body = connect(held, head(Content_Length=100) + b"{")
    silent = connect(held, b"")
    assert predict(held, {"a": 1})[0] == 200
    assert time.monotonic() - started < 1
    assert b"HTTP/1.1 408 " in received(slow_body)
    assert received(slow_head) == b""
    assert received(silent) == b""
    assert 0.9 < time.monotonic() - started < 8


def test_disconnected_client_releases_its_budget(held):
    held.models.go.set()
    for _ in range(4):
        connect(held, head(Content_Length=900) + b"x" * 800).close()
    wait_until(lambda: 'code="499"' in held.metrics.page().decode())
    wait_until(lambda: predict(held, None, data=b"x" * 900)[0] == 200)
    assert predict(held, None, data=b"x" * 900)[0] == 200


def test_other_encodings_are_refused(held):
    code, answer, _ = predict(held, {"a": 1}, headers={"Content-Encoding": "br"})
    assert (code, answer) == (415, {"error": "Content-Encoding: got br; allowed: gzip or none"})


GZIP = {"Content-Encoding": "gzip"}


def test_gzip_bodies_are_inflated(server):
    body = gzip.compress(json.dumps(rows(png(0), png(255))).encode())
    code, answer, _ = predict(server, None, data=body, headers=GZIP)
    assert (code, [row["class_id"] for row in answer["predictions"]]) == (200, [0, 2])


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (gzip.compress(b" " * 5 * 10**5), 413, "has 65,536 bytes or more; allowed: 1,000"),
        (gzip.compress(b" " * 1001), 413, "has 1,001 bytes or more; allowed: 1,000"),
        (gzip.compress(b"{}" * 40)[:-9], 400, "The gzip body is truncated"),
        (gzip.compress(b"{}") + b"x", 400, "The gzip body has data after its end"),
        (b"{}", 400, "The gzip body is damaged"),
    ],
    ids=["compressed size", "inflated size", "truncated", "trailing data", "no gzip"],
)
def test_invalid_gzip_bodies(held, body, code, text):
    held.models.go.set()
    got, answer, _ = predict(held, None, data=body, headers=GZIP)
    assert (got, text in answer["error"]) == (code, True)
    assert predict(held, None, data=gzip.compress(b" " * 1000), headers=GZIP)[0] == 200


def test_uri_in_absolute_form(server):
    text = f"GET http://elsewhere:80{MODEL}?a=/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = received(connect(server, text.encode()))
    assert b'"state": "AVAILABLE"' in answer
    root = b"GET http://elsewhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert b"<!DOCTYPE html>" in received(connect(server, root))


def test_infinite_outputs_are_written_as_by_tf_serving(server):
    body = json.dumps({"signature_name": "logits", "instances": floats(3e38)}).encode()
    answer = received(connect(server, head(Content_Length=len(body), Connection="close") + body))
    assert answer.endswith(b'{"predictions": [[Infinity, Infinity, Infinity]]}')


def test_options_and_cors_on_request():
    origin = {"Origin": "https://example.org"}
    asked = {**origin, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "content-type"
    for origins, allowed in (((), None), (("https://example.org",), "https://example.org")):
        server = Running(HeldModels(), Limits(), Metrics(), origins=origins)
        server.models.go.set()
        try:
            code, _, headers = ask(f"{server.url}{MODEL}:predict", method="OPTIONS", headers=asked)
            assert code == (204 if allowed is None else 200)
            assert headers["access-control-allow-origin"] == allowed
            code, _, headers = predict(server, {"a": 1}, headers=origin)
            assert (code, headers["access-control-allow-origin"]) == (200, allowed)
            code, _, headers = ask(f"{server.url}{MODEL}", method="OPTIONS")
            assert (code, headers["allow"]) == (204, "GET, POST, OPTIONS")
        finally:
            server.stop()


def test_keep_alive_clients_see_no_reset_at_the_end(held):
    """Each client uses one connection, until a response announces that it is closed."""
    held.models.go.set()
    started = threading.Barrier(3)

    def client():
        link = http.client.HTTPConnection(*held.address, timeout=10)
        codes, closing = [], False
        while not closing:
            link.request("POST", f"{MODEL}:predict", b"{}")
            response = link.getresponse()
            response.read()
            codes.append(response.status)
            closing = response.getheader("connection") == "close"
            if len(codes) == 1:
                started.wait(10)
        return codes

    with ThreadPoolExecutor(2) as pool:  # as many as the queue holds
        clients = [pool.submit(client) for _ in range(2)]
        started.wait(10)
        held.stop()
        codes = [code for job in clients for code in job.result()]
    assert set(codes) == {200}
    assert len(codes) >= 4
