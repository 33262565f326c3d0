"""A fake REST server: TensorFlow Serving's protocol around `brightness_model`.

It runs without TensorFlow, counts what it gets, and fails when a test tells it to.
"""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from brightness_model import CLASSES, SIZE, expected
from quiet_server import QuietServer

from keras_srt.core.images import BadImage, decode_image

SIGNATURES = {
    "serving_default": {"inputs": {"image_bytes": {"dtype": "DT_STRING"}}, "outputs": {}},
}


class RestServer(QuietServer):
    """What the server counts, and what a test sets.

    Attributes:
        models: of `GET /models`; None: there is no such address, as in TensorFlow Serving.
        signatures: of the model, as its metadata say.
        busy: as many requests as this get a 503 first.
        headers: of that 503.
        drop: as many requests as this lose their connection without an answer first.
        refuses: a batch that holds this image is refused as a whole.
        answer: the body of each answer to a predict, instead of the right one.
        hang: whether answers to a predict never come, until `released`.
        connections: that were opened.
        bodies: of the predict requests that came.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = ["bright"]
        self.signatures = SIGNATURES
        self.busy = self.drop = self.connections = 0
        self.headers = {}
        self.refuses = self.answer = None
        self.hang, self.released = False, threading.Event()
        self.bodies = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def reply(self, method, path, body):
        """Return status and body of a response."""
        if method == "GET" and path == "/models" and self.models is not None:
            return 200, {"models": self.models}
        if path not in ("/v1/models/bright/metadata", "/v1/models/bright:predict"):
            return 404, {"error": f"Malformed request: {method} {path}"}
        if method == "GET":
            spec = {"name": "bright", "signature_name": "", "version": "3"}
            metadata = {"signature_def": {"signature_def": self.signatures}}
            return 200, {"model_spec": spec, "metadata": metadata}
        self.bodies.append(body)
        if self.hang:
            self.released.wait(60)
        if self.answer is not None:
            return 200, self.answer
        images = [base64.b64decode(row["image_bytes"]["b64"]) for row in body["instances"]]
        if self.refuses in images:
            return 400, {"error": "corrupt image data"}
        return 200, {"predictions": [_row(image) for image in images]}


def _row(image):
    try:
        brightness = decode_image(image, (SIZE, SIZE, 1)).mean()
    except BadImage:
        empty = [0.0] * len(CLASSES)
        return {"probabilities": empty, "valid": False, "classes": CLASSES, "class_id": -1}
    return {
        "probabilities": expected(brightness).tolist(),
        "valid": True,
        "classes": CLASSES,
        "class_id": int(expected(brightness).argmax()),
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True

    def setup(self):
        self.server.connections += 1
        super().setup()

    def do_GET(self):
        self._respond(None)

    def do_POST(self):
        self._respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, *_):
        pass

    def _respond(self, body):
        server = self.server
        if server.drop > 0:
            server.drop -= 1
            self.close_connection = True
            return
        extra = {}
        status, content = 503, {"error": "busy"}
        if server.busy > 0:
            server.busy -= 1
            extra = server.headers
        else:
            status, content = server.reply(self.command, self.path, body)
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": len(text), **extra}.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def rest_server():
    """Runs a `RestServer` while the block runs."""
    with RestServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
