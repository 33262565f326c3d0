"""The gRPC server, in the event loop of the HTTP server."""

from __future__ import annotations

import logging
import os

# Otherwise, gRPC's C core logs closed connections to stderr.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from keras_srt.core.errors import UserError
from keras_srt.serving.engine.local_models import LocalModels
from keras_srt.serving.http.limits import Admission
from keras_srt.serving.rpc.service import Services

_LOG = logging.getLogger(__name__)
_IDLE_SECONDS = 300
_HANDSHAKE_SECONDS = 10


class GrpcServer:
    """Serves models by gRPC, with the standard health service.

    Args:
        models: The models.
        admission: Limits and metrics of the server, shared with REST.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.

    Attributes:
        host: As given.
        port: The port; as given, until the server has started.
    """

    def __init__(self, models: LocalModels, admission: Admission, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._services, self._limits = Services(models, admission), admission.limits
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Start the server in the running event loop.

        Raises:
            UserError: The address can't be used.
        """
        limits = self._limits
        options = [
            ("grpc.max_receive_message_length", limits.max_body),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", limits.max_queue),
            ("grpc.max_connection_idle_ms", 1000 * _IDLE_SECONDS),
            ("grpc.server_handshake_timeout_ms", 1000 * _HANDSHAKE_SECONDS),
            ("grpc.so_reuseport", 0),  # a port that another process uses is an error
        ]
        server = grpc.aio.server(options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self._services, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self._services, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        host = f"[{self.host}]" if ":" in self.host else self.host
        try:
            self.port = server.add_insecure_port(f"{host}:{self.port}")
        except RuntimeError as error:
            raise UserError(
                f"--grpc-port {self.port}: can't listen on this port; give another one (0 for any "
                "free one)"
            ) from error
        await server.start()
        self._server = server
        _LOG.info("grpc://%s:%d is ready", host, self.port)

    async def stop(self) -> None:
        """Complete the running requests and stop the server."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace=self._limits.timeout)
