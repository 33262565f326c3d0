"""Warm-up requests: what TF Serving asks of a model before it lets anybody else ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.tensorflow import tf

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")


class Request(NamedTuple):
    """A question to a signature.

    Attributes:
        signature: its name.
        inputs: arrays by the names of the inputs; strings as objects of bytes.
    """

    signature: str
    inputs: Mapping[str, np.ndarray]


def write_warmup(folder: Path, requests: list[Request]) -> None:
    """Writes a SavedModel's warm-up file: a TFRecord of `PredictionLog`.

    TF Serving silently ignores a damaged file, and never serves a version with a request
    that fails: have them answered with `replay_warmup` before publishing.

    Args:
        folder: of the SavedModel.
        requests: at most 1,000.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    path = folder / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            predict = log.predict_log.request
            predict.model_spec.signature_name = request.signature
            for name, value in request.inputs.items():
                predict.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def read_warmup(folder: Path) -> Iterator[Request]:
    """Yields the requests in a SavedModel's warm-up file.

    Raises:
        tf.errors.OpError: the file is absent or no TFRecord.
        google.protobuf.message.DecodeError: a record is no `PredictionLog`.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(folder / WARMUP_FILE)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        yield Request(request.model_spec.signature_name, inputs)


def replay_warmup(folder: Path, signatures: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Asks a loaded SavedModel what its warm-up file will ask of it on the server.

    Args:
        folder: of the SavedModel.
        signatures: those of the loaded model.

    Returns:
        The answers, by the names of the outputs, one for each request.
    """
    answers = []
    for request in read_warmup(folder):
        inputs = {name: tf.constant(value) for name, value in request.inputs.items()}
        outputs = signatures[request.signature](**inputs)
        answers.append({name: value.numpy() for name, value in outputs.items()})
    return answers
