"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "atrous_requests",
            "Requests answered; status 499: the client went away.",
            ("method", "route", "model", "status"),
            registry=registry,
        )
        self._latency = Histogram(
            "atrous_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._steps = Histogram(
            "atrous_step_seconds",
            "What an image spent in each step; queue is the time between them.",
            ("model", "step"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "atrous_batch_images",
            "Images in one call of the network.",
            ("model",),
            buckets=_BATCHES,
            registry=registry,
        )
        self._under_way = Gauge(
            "atrous_under_way", "Images that wait or are worked on.", ("model",), registry=registry
        )
        self._places = Gauge(
            "atrous_places", "Images that may be under way.", ("model",), registry=registry
        )
        self._info = Gauge(
            "atrous_model_info",
            "1 for every model.",
            ("model", "precision", "engine", "identity"),
            registry=registry,
        )

    def model(
        self,
        name: str,
        places: int,
        under_way: Callable[[], float],
        *,
        precision: str,
        engine: str,
        identity: str,
    ) -> None:
        """Describe a model; `under_way` is asked whenever somebody looks."""
        self._places.labels(name).set(places)
        self._under_way.labels(name).set_function(under_way)
        self._info.labels(name, precision, engine, identity).set(1)

    def request(self, method: str, route: str, model: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(method, route, model, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def steps(self, model: str, seconds: Mapping[str, float]) -> None:
        """Count what an image took."""
        for step, value in seconds.items():
            self._steps.labels(model, step).observe(value)

    def batch(self, model: str, images: int) -> None:
        """Count a call of the network."""
        self._batches.labels(model).observe(images)

    def text(self) -> bytes:
        """All of it in the text format of Prometheus, version 0.0.4."""
        return generate_latest(self._registry)
