"""What Prometheus is told at `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily

if TYPE_CHECKING:
    from typing import Iterator

    from prometheus_client.core import Metric

    from .pool import Pool
    from .prediction import Predictor

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: a prediction takes from half a millisecond to as long as it may."""


class Metrics:
    """The measurements of one front."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "envbuilder_requests", "Requests by route and status.", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "envbuilder_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._phases = Histogram(
            "envbuilder_phase_seconds",
            "Parts of a prediction: reading the body, waiting for a worker, the worker's answer.",
            ("phase",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._in_flight = Gauge("envbuilder_requests_in_flight", "Requests being answered.", registry=self._registry)

    def watch(self, pool: Pool, predictor: Predictor) -> None:
        """Tell of the workers and of what waits for them, as it is when somebody asks."""
        gauge = self._gauge
        gauge("envbuilder_workers", "Workers that are to be there.", lambda: pool.size)
        gauge("envbuilder_workers_ready", "Workers that have the model loaded.", lambda: pool.ready)
        gauge("envbuilder_queue_requests", "Requests that wait for a worker.", lambda: pool.waiting)
        gauge("envbuilder_held_bytes", "Bytes of the bodies that are not answered yet.", lambda: predictor.held)
        gauge("envbuilder_model_load_seconds", "What loading the model took last.", lambda: pool.load_seconds)
        self._registry.register(_Restarts(pool))

    def began(self) -> None:
        """Count a request that begins."""
        self._in_flight.inc()

    def ended(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._in_flight.dec()
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def phase(self, name: str, seconds: float) -> None:
        """Count a part of a prediction."""
        self._phases.labels(name).observe(seconds)

    def to_text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, told: str, value: object) -> None:
        Gauge(name, told, registry=self._registry).set_function(value)  # type: ignore[arg-type]


class _Restarts:
    """A counter that the pool keeps itself."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """Give the counter as it is now."""
        yield CounterMetricFamily("envbuilder_worker_restarts", "Workers that were replaced.", self._pool.restarts)
