"""Warm-up requests, which TF Serving sends to a model before it serves others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.tensorflow import tf

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")


class WarmupRequest(NamedTuple):
    """A predict request.

    Attributes:
        signature: Name of the signature.
        inputs: Arrays by input name; strings are object arrays of bytes.
    """

    signature: str
    inputs: Mapping[str, np.ndarray]


def write_warmup(folder: Path, requests: list[WarmupRequest]) -> None:
    """Write the warm-up file of a SavedModel: a TFRecord of `PredictionLog`.

    TF Serving silently ignores a damaged file, and never serves a version on which a request
    fails. Call `replay_warmup` before publishing.

    Args:
        folder: Folder of the SavedModel.
        requests: At most 1,000 requests.
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


def read_warmup(folder: Path) -> Iterator[WarmupRequest]:
    """Read the requests in the warm-up file of a SavedModel.

    Raises:
        tf.errors.OpError: The file is absent or not a TFRecord.
        google.protobuf.message.DecodeError: A record is not a `PredictionLog`.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(folder / WARMUP_FILE)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        yield WarmupRequest(request.model_spec.signature_name, inputs)


def replay_warmup(folder: Path, signatures: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Send the warm-up requests of a SavedModel to its loaded signatures.

    Args:
        folder: Folder of the SavedModel.
        signatures: Signatures of the loaded model.

    Returns:
        The outputs by name, one mapping per request.
    """
    results = []
    for request in read_warmup(folder):
        inputs = {name: tf.constant(value) for name, value in request.inputs.items()}
        outputs = signatures[request.signature](**inputs)
        results.append({name: value.numpy() for name, value in outputs.items()})
    return results
