"""A stand-in for `keras-srt serve`, whose answers are known and which can fail on request.

Its models tell in which direction from the middle an image is bright.
"""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler

import numpy as np
from helpers import ROOT
from quiet_server import QuietServer

from keras_srt.core.images import BadImage, decode_image

PAGE = ROOT / "keras_srt" / "serving" / "page"
POLICY = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:"
KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
# Name -> (shape, classes); the classes go around counterclockwise, from the right.
MODELS = {
    "compass": ((16, 16, 1), ["right", "up", "left", "down"]),
    "wheel": ((12, 18, 3), [f"{degrees} degrees" for degrees in range(0, 360, 15)]),
}


def directions(image, count):
    """Probabilities of `count` directions for a float image: where its center of mass lies."""
    height, width, _ = image.shape
    mass = image.sum(axis=-1) + 1e-9
    right = (mass * np.linspace(-1, 1, width)).sum() / mass.sum()
    up = (mass * np.linspace(1, -1, height)[:, None]).sum() / mass.sum()
    angles = 2 * np.pi * np.arange(count) / count
    scores = np.exp(8 * (right * np.cos(angles) + up * np.sin(angles)))
    return scores / scores.sum()


class PageServer:
    """Serves the page and MODELS, and remembers what it was asked. Its attack turns the image over.

    Attributes: `version` (any other is 404), `busy` (answers 503), `delay` (seconds before an
    answer), `says_size` (in the metadata), `unreadable` (a file that it refuses), `samples` (PNG by
    class name), `attack_queries`, `flips` (whether an attack succeeds), `attacked` (each request as
    (model, array, epsilon)), `asked` (each predict request as (signature, array or bytes)),
    `most_at_once`.
    """

    def __init__(self):
        self._server = None
        self.port = 0
        self.reset()
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def reset(self):
        self.version, self.busy, self.delay, self.says_size = 1, False, 0.0, True
        self.unreadable = None
        self.samples, self.attack_queries, self.flips, self.attacked = {}, 0, True, []
        self.asked, self.most_at_once, self._at_once = [], 0, 0

    def start(self):
        if self._server is None:
            handler = type("Handler", (_Handler,), {"stand_in": self})
            self._server = QuietServer(("127.0.0.1", self.port), handler)
            self.port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def predict(self, model, request):
        """TF Serving's answer to a request's JSON."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.delay)
        answers = [self._answer(model, request, row) for row in request["instances"]]
        self._at_once -= 1
        return {"predictions": answers}

    def about(self):
        encoded = [
            {"name": name, "b64": base64.b64encode(png).decode()}
            for name, png in self.samples.items()
        ]
        return {"samples": encoded, "attack_queries": self.attack_queries}

    def attack(self, model, request):
        time.sleep(self.delay)
        image, epsilon = np.array(request["instances"][0]), request["epsilon"]
        self.attacked.append((model, image, epsilon))
        if not self.flips:
            return {"flipped": False, "queries": self.attack_queries}
        # Not a small change, but one whose pictures and answer are known.
        changed = np.clip(image[::-1, ::-1], image - epsilon, image + epsilon)
        classes = MODELS[model][1]
        prediction = _answer_of(directions(image[::-1, ::-1], len(classes)), classes)
        return {"flipped": True, "queries": 7, "image": changed.tolist(), "prediction": prediction}

    def _answer(self, model, request, row):
        signature = request["signature_name"]
        shape, classes = MODELS[model]
        data = np.array(row) if signature == "image" else base64.b64decode(row["b64"])
        self.asked.append((signature, data))
        if signature != "image" and data == self.unreadable:
            return _answer_of(np.zeros(len(classes)), classes)
        try:
            image = data if signature == "image" else decode_image(data, shape)
        except BadImage:
            return _answer_of(np.zeros(len(classes)), classes)
        if image.shape != shape:
            raise ValueError(f"shape {image.shape}")
        return _answer_of(directions(image, len(classes)), classes)


def _answer_of(probabilities, classes):
    valid = bool(probabilities.sum())
    top = int(probabilities.argmax()) if valid else -1
    return {
        "probabilities": probabilities.tolist(),
        "class_id": top,
        "class_name": classes[top] if valid else "",
        "score": float(probabilities.max()),
        "valid": valid,
        "classes": classes,
    }


def metadata_of(model, version, says_size):
    shape = MODELS[model][0] if says_size else (-1, -1, -1)
    sizes = [{"size": str(size), "name": ""} for size in (-1, *shape)]
    image = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": sizes, "unknown_rank": False}}
    signatures = {"image": {"inputs": {"image": image}}}
    return {
        "model_spec": {"name": model, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


class _Handler(BaseHTTPRequestHandler):
    stand_in = None

    def do_GET(self):
        path = self.path
        if path == "/":
            self._send_file("index.html")
        elif path.startswith("/static/"):
            self._send_file(path.removeprefix("/static/"))
        elif path == "/models":
            self._send_json({"models": list(MODELS)})
        elif path.endswith("/page"):
            self._send_json(self.stand_in.about())
        else:
            model = path.removeprefix("/v1/models/").removesuffix("/metadata")
            self._send_json(metadata_of(model, self.stand_in.version, self.stand_in.says_size))

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, wanted = self.path.removeprefix("/v1").removeprefix("/models/").split("/versions/")
        if self.stand_in.busy:
            self._send_json({"error": "the queue is full."}, 503, {"Retry-After": "1"})
        elif wanted == f"{self.stand_in.version}/attack":
            self._send_json(self.stand_in.attack(model, request))
        elif wanted != f"{self.stand_in.version}:predict":
            self._send_json({"error": "Servable not found for request"}, 404)
        else:
            self._send_json(self.stand_in.predict(model, request))

    def _send_file(self, name):
        file = PAGE / name
        self._send(file.read_bytes(), 200, {"Content-Type": KINDS[file.suffix]})

    def _send_json(self, content, code=200, headers=()):
        kind = {"Content-Type": "application/json"}
        self._send(json.dumps(content).encode(), code, {**kind, **dict(headers)})

    def _send(self, body, code, headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Security-Policy": POLICY}.items():
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""
