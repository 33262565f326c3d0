"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What a server counts; each has its own, so that two in a process don't mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "keras_srt_requests", "Requests answered", ["kind", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "keras_srt_request_seconds",
            "Time from a request's head to its answer",
            ["kind"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._images = Counter(
            "keras_srt_images", "Images answered", ["model", "valid"], registry=self.registry
        )
        self._batches = Histogram(
            "keras_srt_batch_images",
            "Images that went through the model together",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self._version = Gauge(
            "keras_srt_model_version", "Version that is served", ["model"], registry=self.registry
        )

    def count_request(self, kind: str, code: int, seconds: float) -> None:
        """Counts an answer.

        Args:
            kind: predict, status, metadata, page or other.
            code: of HTTP.
            seconds: that it took.
        """
        self._requests.labels(kind, str(code)).inc()
        self._seconds.labels(kind).observe(seconds)

    def count_images(self, model: str, outputs: Mapping[str, np.ndarray]) -> None:
        """Counts the images of a batch, the invalid ones apart."""
        total = len(next(iter(outputs.values())))
        valid = int(np.count_nonzero(outputs["valid"])) if "valid" in outputs else total
        self._images.labels(model, "true").inc(valid)
        self._images.labels(model, "false").inc(total - valid)
        self._batches.observe(total)

    def watch(self, length: Callable[[], float], name: str, text: str) -> None:
        """Adds a figure that is asked for when Prometheus comes.

        Args:
            length: gives it.
            name: after `keras_srt_`.
            text: says what it is.
        """
        Gauge(f"keras_srt_{name}", text, registry=self.registry).set_function(length)

    def watch_version(self, model: str, version: Callable[[], float]) -> None:
        """Adds the version that a model is served in."""
        self._version.labels(model).set_function(version)

    def page(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
