"""Invalid requests: each gets its error response, and other requests are not affected."""

import contextlib
import io
import json
import socket
import struct
import sys
import threading
import time
import zlib
from typing import NamedTuple

import pytest
from PIL import Image
from serving_helpers import Process, ask, floats, png, publish, rows, running

MODEL = "/v1/models/shades"
PREDICT = f"{MODEL}:predict"
MEGABYTES = 2**20
# Python 3.13 reads as deep as the objects of this request, and sees where they end.
NESTED_OBJECTS = (
    "Invalid value. at offset: 20000"
    if sys.version_info >= (3, 13)
    else "Terminate parsing due to Handler error."
)


class Case(NamedTuple):
    """A request and what it must be answered with.

    `body` is JSON, bytes, or a function that makes either; `wanted` is `valid` for each image
    of an answer 200, or an HTTP code and part of its error.
    """

    name: str
    body: object
    wanted: object
    path: str = PREDICT
    method: str = "POST"
    headers: dict = {}  # noqa: RUF012


def encoded(mode="L", kind="PNG", size=(8, 8), **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_of(width, height, pixels, *between):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    parts = (header, *between, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def squeezed(size):
    """Very little data that becomes very much."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(MEGABYTES)) for _ in range(size // MEGABYTES)]
    return b"".join([*parts, packer.flush()])


def image_case(name, data, valid=False):
    return Case(name, rows(png(0), data, png(255)), [True, valid, True])


def float_case(name, instances, wanted):
    return Case(name, {"signature_name": "image", "instances": instances}, wanted)


def nested(depth):
    value = 0.5
    for _ in range(depth):
        value = [value]
    return value


def json_case(name, body, text, code=400):
    return Case(name, body, (code, text))


WHOLE = png(255, (40, 40))
JPEG = encoded("RGB", "JPEG", (40, 40))
PIXELS = zlib.compress(bytes(9 * 8))

IMAGES = [
    image_case("empty", b""),
    image_case("one byte", b"\x89"),
    image_case("text", b"hello"),
    image_case("PNG's magic alone", WHOLE[:8]),
    image_case("JPEG's magic alone", b"\xff\xd8\xff"),
    image_case("truncated PNG", WHOLE[:-30]),
    image_case("truncated PNG header", WHOLE[:20]),
    image_case("truncated JPEG", JPEG[: len(JPEG) // 2]),
    image_case("wrong magic", b"\x88" + WHOLE[1:]),
    image_case("corrupt pixels", WHOLE[:45] + b"\0\0\0" + WHOLE[48:]),
    image_case("wrong checksum of the header", WHOLE[:29] + b"\0\0\0\0" + WHOLE[33:]),
    image_case("no pixels", png_of(8, 8, b"")),
    image_case("fewer pixels than promised", png_of(8, 8, zlib.compress(bytes(9)))),
    image_case("0 x 0", png_of(0, 0, PIXELS)),
    image_case("60000 x 60000 in the header", png_of(60_000, 60_000, PIXELS)),
    image_case("2^31 x 2^31 in the header", png_of(2**31 - 1, 2**31 - 1, PIXELS)),
    image_case("WebP", encoded("RGB", "WEBP"), valid=True),
    image_case("GIF", encoded("P", "GIF"), valid=True),
    image_case("BMP", encoded("RGB", "BMP"), valid=True),
    image_case("TIFF", encoded("RGB", "TIFF"), valid=True),
    image_case("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    image_case("CMYK JPEG", encoded("CMYK", "JPEG"), valid=True),
    image_case("16-bit PNG", encoded("I;16"), valid=True),
    image_case("1 x 1", encoded(size=(1, 1)), valid=True),
    image_case("1 x 5000", encoded(size=(1, 5000)), valid=True),
    image_case("RGBA", encoded("RGBA"), valid=True),
    image_case("palette", encoded("P"), valid=True),
    image_case("1 bit", encoded("1"), valid=True),
    image_case("bytes after the end", WHOLE + bytes(1000), valid=True),
]

FLOATS = json.dumps({"signature_name": "image", "instances": floats(0.5)}).encode()

NUMBERS = [
    float_case("NaN", floats(float("nan"), 0.5), [False, True]),
    float_case("infinite", floats(0.5, float("-inf")), [True, False]),
    Case("beyond a double", FLOATS.replace(b"0.5", b"1e400"), [False]),
    float_case("out of range", floats(1.01, -0.01, 1.0), [False, False, True]),
    float_case("rank 0", [1.0], (400, "Shape of tensor image [1] is not compatible")),
    float_case("rank 2", [[1.0]], (400, "Shape of tensor image [1,1] is not compatible")),
    float_case("rank 5", [floats(0.5)], (400, "Shape of tensor image [1,1,8,8,1] is not")),
    float_case("wrong size", [[[[0.5]]]], (400, "expected shape [?,8,8,1]")),
    float_case("two sizes", [*floats(0.5), [[[0.5]]]], (400, "element: 1 of 'instances' list")),
    float_case("ragged", [[[[0.5], [0.5, 0.5]]]], (400, "Encountered list at unexpected size: 2")),
    float_case(
        "text as a number", [[[["0.5"]]]], (400, "Type: String is not of expected type: float")
    ),
    float_case("null", [[[[None]]]], (400, "Type: Null is not of expected type: float")),
    float_case("true", [[[[True]]]], (400, "Type: True is not of expected type: float")),
    float_case("an object", [[[[{}]]]], (400, "Type: Object is not of expected type: float")),
    float_case("too large a number", [[[[10**400]]]], (400, "without loss of precision")),
    float_case("empty lists", [[], []], (400, "Shape of tensor image [2,0] is not compatible")),
    float_case("rank 100", [nested(100)], (400, "at unexpected level: 32 expected < 32")),
    float_case("deep beside flat", [nested(300), 0.5], (400, "unexpected level: 32 expected < 32")),
    float_case("10,000 images", [[[[0]]]] * 10_000, (400, "expected shape [?,8,8,1]")),
]

REQUESTS = [
    json_case("no body", b"", "JSON Parse error: The document is empty"),
    json_case("no JSON", b"images=1", "JSON Parse error: Invalid value. at offset: 0"),
    json_case("cut off", b'{"instances": [', "JSON Parse error: Invalid value. at offset: 15"),
    json_case("not UTF-8", b'{"\xff": 1}', "Invalid encoding in string."),
    json_case("UTF-16", '{"instances": [1]}'.encode("utf-16"), "Invalid encoding in string."),
    json_case("a list", b"[1]", "Is not object"),
    json_case("nested deeply", b"[" * 100_000, "Terminate parsing due to Handler error."),
    json_case("nested objects", b'{"a":' * 4000, NESTED_OBJECTS),
    json_case("digits without end", b"[" + b"1" * 10**6 + b"]", "Terminate parsing"),
    json_case("a million lists", b"[],".join([b"["] * 10**6), "Too many values", 413),
    json_case("many objects", b'{"a":1},' * 10_000, "Too many values", 413),
    json_case("nothing in it", {}, "Missing 'inputs' or 'instances' key"),
    json_case("no instances", {"instances": []}, "No values in 'instances' array"),
    json_case("no base64", {"instances": [{"b64": "%%%%"}]}, "Unable to base64 decode"),
    json_case("half base64", {"instances": [{"b64": "abcde"}]}, "Unable to base64 decode"),
    json_case("base64 of another script", {"instances": [{"b64": "日本"}]}, "Unable to base64"),
    json_case("a number as base64", {"inputs": {"image_bytes": [{"b64": 1}]}}, "for base64 data"),
    json_case("another input", {"instances": [{"x": "y"}]}, "does not have named input: x"),
    json_case("another signature", {"signature_name": "x", "inputs": 1}, "not found in signature"),
    json_case("1,025 images", rows(*[b"x"] * 1025), "1,025 images in a request", 413),
    json_case("10,000 encoded images", rows(*[b"x"] * 10_000), "Too many values", 413),
    Case("another model", rows(b""), (404, "Latest(x)"), "/v1/models/x:predict"),
    Case("another version", rows(b""), (404, "(shades, 9)"), f"{MODEL}/versions/9:predict"),
    Case("a long version", rows(b""), (400, "to numeric"), f"{MODEL}/versions/{'9' * 99}:predict"),
    Case("GET of predict", None, (400, "Malformed request: GET"), PREDICT, "GET"),
    Case("DELETE of a model", None, (400, "Malformed request: DELETE"), MODEL, "DELETE"),
    Case("out of the folder", None, (404, "Not Found"), "/static/..%2f..%2fcli.py", "GET"),
    Case("a null byte", None, (404, "Not Found"), "/static/%00", "GET"),
    Case("gzip", b"\x1f\x8b", (415, "uncompressed"), headers={"Content-Encoding": "gzip"}),
]

CASES = IMAGES + NUMBERS + REQUESTS


def large_image(name, make, valid=False):
    return Case(name, lambda: rows(png(0), make(), png(255)), [True, valid, True])


def text_bomb():
    return png_of(8, 8, PIXELS, chunk(b"zTXt", b"a\0\0" + squeezed(256 * MEGABYTES)))


def largest(mode="RGB", rows=4096):
    return encoded(mode, size=(4096, rows), compress_level=1)


# Take seconds, or much memory while they last; so does making them.
LARGE = [
    Case(
        "3,000,000 numbers",
        lambda: b'{"inputs": [' + b"1," * 3_000_000 + b"1]}",
        (413, "Too many values"),
    ),
    Case("33 MB", lambda: b" " * 33 * MEGABYTES, (413, "bytes or more; allowed: 33,554,432")),
    large_image("an image of 17 MB", lambda: WHOLE + bytes(17 * MEGABYTES)),
    large_image("a bomb of 8,192 x 8,192", lambda: png_of(8192, 8192, squeezed(8193 * 8192))),
    large_image("a bomb in a text", text_bomb),
    large_image(
        "more pixels than promised", lambda: png_of(8, 8, squeezed(64 * MEGABYTES)), valid=True
    ),
    large_image("the largest allowed, in color", largest, valid=True),
    large_image("the largest allowed, with alpha", lambda: largest("RGBA"), valid=True),
    large_image("one row too many", lambda: largest("L", 4097)),
    Case("the largest twice", lambda: rows(*[largest()] * 2), [True] * 2),
    Case("1,024 images", lambda: rows(*[png(0)] * 1024), [True] * 1024),
]


def check(url, case):
    body = case.body() if callable(case.body) else case.body
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    code, answer, _ = ask(
        url + case.path, data=body, method=case.method, headers=case.headers, timeout=120
    )
    if isinstance(case.wanted, tuple):
        wanted, text = case.wanted
        assert (code, text in answer["error"]) == (wanted, True), (code, answer)
        assert len(answer["error"]) < 1000
    else:
        assert code == 200, answer
        assert [row["valid"] for row in answer["predictions"]] == case.wanted


def test_there_are_enough_cases():
    names = [case.name for case in CASES + LARGE]
    assert len(names) == len(set(names))
    assert len(names) >= 40


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(publish(tmp_path_factory.mktemp("models") / "shades", 1)) as started:
        yield started


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input(server, case):
    check(server.url, case)


# --- a server of its own process, so that a crash would show ----------------------------------


@contextlib.contextmanager
def innocent(url):
    """Somebody else, who asks all the time; gives the list of what went wrong for them."""
    stop, answers, failed = threading.Event(), [], []

    def go_on():
        while not stop.is_set():
            code, answer, _ = ask(url + PREDICT, rows(png(255)))
            answers.append(code)
            if code != 200 or answer["predictions"][0]["class_name"] != "light":
                failed.append((code, answer))
            time.sleep(0.02)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield failed
    finally:
        stop.set()
        thread.join()
    assert answers


def connect(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def send_a_gigabyte(url, announced):
    """Sends 1 GB, reading on the side, as a patient client does; gives the answer's beginning."""
    block = bytes(MEGABYTES)
    how = f"Content-Length: {1024 * MEGABYTES}" if announced else "Transfer-Encoding: chunked"
    with connect(url) as link:
        link.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{how}\r\n\r\n".encode())
        for _ in range(1024):
            link.sendall(block if announced else b"%x\r\n%s\r\n" % (len(block), block))
        return link.recv(1000)


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = publish(tmp_path_factory.mktemp("models") / "shades", 1)
    started = Process("--model", folder, "--timeout", "20")
    started.idle, _ = started.memory()
    ask(started.url + PREDICT, rows(png(255)))
    yield started
    code, _, errors = started.end()
    assert (code, errors) == (0, "")


def check_memory(process):
    _, peak = process.memory()
    assert process.alive()
    assert peak - process.idle < 300, f"{peak - process.idle:.0f} MB above idle"
    return peak - process.idle


@pytest.mark.parametrize("case", CASES + LARGE, ids=[case.name for case in CASES + LARGE])
def test_bad_input_harms_nobody_else(process, case):
    with innocent(process.url) as failed:
        check(process.url, case)
    assert failed == []
    check_memory(process)


@pytest.mark.parametrize("announced", [True, False])
def test_a_gigabyte_is_refused_and_dropped(process, announced):
    with innocent(process.url) as failed:
        answer = send_a_gigabyte(process.url, announced)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert failed == []
    check_memory(process)


def test_slow_and_silent_clients_are_let_go(process):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n"
    started = time.monotonic()
    with innocent(process.url) as failed, contextlib.ExitStack() as stack:
        links = [stack.enter_context(connect(process.url)) for _ in range(100)]
        for link in links[:50]:
            link.sendall(head.encode())
        body = stack.enter_context(connect(process.url))
        body.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())
        for _ in range(8):
            body.sendall(b" ")
            time.sleep(1)
        assert body.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert [link.recv(1000) for link in links] == [b""] * 100
    assert 19 < time.monotonic() - started < 50
    assert failed == []
    check_memory(process)


def test_many_large_images_hold_up_only_themselves(process):
    body = json.dumps(rows(*[largest()] * 8)).encode()
    codes = []
    threads = [
        threading.Thread(target=lambda: codes.append(ask(process.url + PREDICT, data=body)[0]))
        for _ in range(6)
    ]
    with innocent(process.url) as failed:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # Decoding 48 of them in turn may take longer than the 20 s that a request has.
    assert set(codes) <= {200, 504}
    assert len(codes) == 6
    assert failed == []
    print(f"{check_memory(process):.0f} MB above idle")
