"""A gRPC server on TensorFlow Serving's official stubs, around SavedModels.

It replaces TensorFlow Serving in tests, with the same protocol and messages.
"""

from concurrent import futures
from contextlib import contextmanager

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers `Predict` and `GetModelMetadata` for SavedModels in folders `<name>/<version>`.

    Args:
        models: name -> folder of a SavedModel, whose own name is the version.

    Attributes:
        busy: as many requests as this are answered with UNAVAILABLE first.
        batches: the sizes of the batches that were answered.
    """

    def __init__(self, models):
        self.busy = 0
        self.batches = []
        self._models = {name: tf.saved_model.load(str(path)) for name, path in models.items()}
        self._versions = {name: int(path.name) for name, path in models.items()}

    def Predict(self, request, context):
        """See prediction_service.proto."""
        signatures = self._model(request.model_spec, context).signatures
        name = request.model_spec.signature_name or "serving_default"
        if name not in signatures:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"no signature {name!r}")
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        try:
            outputs = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:500])
        self.batches.append(len(next(iter(inputs.values()))))
        response = predict_pb2.PredictResponse()
        self._describe(response.model_spec, request.model_spec)
        for key in request.output_filter or outputs:
            # As TensorFlow Serving does, compactly, and not as one field a value.
            response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key].numpy()))
        return response

    def GetModelMetadata(self, request, context):
        """See prediction_service.proto."""
        model = self._model(request.model_spec, context)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in model.signatures.items():
            definition = signatures.signature_def[name]
            for key, spec in signature.structured_input_signature[1].items():
                definition.inputs[key].dtype = spec.dtype.as_datatype_enum
                definition.inputs[key].tensor_shape.CopyFrom(spec.shape.as_proto())
            for key, spec in signature.structured_outputs.items():
                definition.outputs[key].dtype = spec.dtype.as_datatype_enum
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        self._describe(response.model_spec, request.model_spec)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def _model(self, spec, context):
        if self.busy > 0:
            self.busy -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        asked = spec.version.value if spec.HasField("version") else None
        if spec.name not in self._models or asked not in (None, self._versions[spec.name]):
            kind = f"Latest({spec.name})" if asked is None else f"Specific({spec.name}, {asked})"
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {kind}")
        return self._models[spec.name]

    def _describe(self, answer, spec):
        answer.name = spec.name
        answer.version.value = self._versions[spec.name]


@contextmanager
def grpc_server(models):
    """Serves SavedModels while the block runs.

    Args:
        models: name -> `Path` of a SavedModel's folder, such as `saved_models/digits/3`.

    Yields:
        The address `127.0.0.1:port`, and the `Service`.
    """
    # As in TensorFlow Serving, a message may have any size.
    unlimited = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=unlimited)
    service = Service(models)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", service
    finally:
        server.stop(grace=None)
