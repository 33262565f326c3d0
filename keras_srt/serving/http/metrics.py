"""Metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Metrics of one server, with a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time and open files
        self._requests = Counter(
            "keras_srt_requests", "Requests completed", ["kind", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "keras_srt_request_seconds",
            "Time from the head of a request to its response",
            ["kind"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._images = Counter(
            "keras_srt_images", "Images classified", ["model", "valid"], registry=self.registry
        )
        self._batches = Histogram(
            "keras_srt_batch_images",
            "Images per call of the model",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self._attack_queries = Counter(
            "keras_srt_attack_queries",
            "Images classified for attacks of the page",
            ["model"],
            registry=self.registry,
        )
        self._evicted = Counter(
            "keras_srt_connections_evicted",
            "Connections closed for others",
            ["state"],
            registry=self.registry,
        )
        self._version = Gauge(
            "keras_srt_model_version", "Served version", ["model"], registry=self.registry
        )

    def count_request(self, kind: str, code: int | str, seconds: float) -> None:
        """Count a request.

        Args:
            kind: predict, status, metadata, health, page, attack or other.
            code: HTTP status code, or the name of a gRPC status.
            seconds: Duration.
        """
        self._requests.labels(kind, str(code)).inc()
        self._seconds.labels(kind).observe(seconds)

    def count_evicted(self, state: str) -> None:
        """Count a connection that was closed for another one.

        Args:
            state: `waiting` (for a request) or `reading` (a request's body).
        """
        self._evicted.labels(state).inc()

    def count_images(self, model: str, outputs: Mapping[str, np.ndarray]) -> None:
        """Count the valid and invalid images of a batch."""
        total = len(next(iter(outputs.values())))
        valid = int(np.count_nonzero(outputs["valid"])) if "valid" in outputs else total
        self._images.labels(model, "true").inc(valid)
        self._images.labels(model, "false").inc(total - valid)
        self._batches.observe(total)

    def count_attack_queries(self, model: str, count: int) -> None:
        """Count images that were classified for an attack."""
        self._attack_queries.labels(model).inc(count)

    def watch(self, length: Callable[[], float], name: str, text: str) -> None:
        """Add a gauge that is evaluated at each scrape.

        Args:
            length: Returns the value.
            name: Name of the metric, after `keras_srt_`.
            text: Description of the metric.
        """
        Gauge(f"keras_srt_{name}", text, registry=self.registry).set_function(length)

    def watch_version(self, model: str, version: Callable[[], float]) -> None:
        """Add a gauge with the served version of a model."""
        self._version.labels(model).set_function(version)

    def page(self) -> bytes:
        """Format all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
