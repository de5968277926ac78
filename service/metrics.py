"""What Prometheus gets to see, on a registry that is handed in.

Label children are resolved when a model loads: ``labels()`` costs more than the observation.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

OUTCOMES: Final = (
    "ok",
    "invalid",
    "rejected",
    "expired",
    "client_gone",
    "failed",
    "unavailable",
)
REASONS: Final = ("full", "idle", "delay", "drain")

# the client library's own buckets start at 5 ms and hide everything a cheap model does
SECONDS_BUCKETS: Final = tuple(
    factor * 10.0**power for power in range(-5, 2) for factor in (1, 2.5, 5)
)[2:-1]
ROWS_BUCKETS: Final = tuple(float(1 << power) for power in range(11))
RATIO_BUCKETS: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    *(1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0),
)

_PENDING_MAX: Final = 256

_MODEL: Final = ("model", "version")
_OPERATION: Final = (*_MODEL, "operation")


class _Ratios:
    """One series: arrays are kept as they come and sorted into buckets many at a time."""

    def __init__(self, edges: npt.NDArray[Any]) -> None:
        self._edges = edges
        self._counts = np.zeros(len(edges) + 1, np.int64)
        self._total = 0.0
        self._pending: list[npt.NDArray[Any]] = []
        self._lock = threading.Lock()  # a scrape reads in a thread of its own

    def observe(self, values: npt.NDArray[Any]) -> None:
        self._pending.append(values)
        if len(self._pending) >= _PENDING_MAX:
            self.totals()

    def totals(self) -> tuple[npt.NDArray[np.int64], float]:
        """Give the values in each bucket, and their sum."""
        with self._lock:
            if arrays := self._pending[:]:
                del self._pending[: len(arrays)]
                values = np.concatenate(arrays)
                places = np.searchsorted(self._edges, values, side="left")
                self._counts += np.bincount(places, minlength=len(self._counts))
                self._total += float(values.sum(dtype=np.float64))
            return self._counts.copy(), self._total


class RatioHistogram(Collector):
    """A histogram that takes a whole batch of values at once, at the price of one.

    The client library's ``observe`` costs a microsecond a value; a row has no more to spend.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._edges = np.array(RATIO_BUCKETS)
        self._series: dict[tuple[str, ...], _Ratios] = {}

    def add(self, *labels: str) -> Callable[[npt.NDArray[Any]], None]:
        """Start a series and give the function that feeds it."""
        series = self._series[labels] = _Ratios(self._edges)
        return series.observe

    def remove(self, *labels: str) -> None:
        self._series.pop(labels, None)

    def describe(self) -> Iterable[Metric]:
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        names = [*map(str, RATIO_BUCKETS), "+Inf"]
        for labels, series in list(self._series.items()):
            counts, total = series.totals()
            buckets = list(zip(names, np.cumsum(counts).astype(float).tolist(), strict=True))
            family.add_metric(labels, buckets, sum_value=total)
        yield family


@dataclass(frozen=True, slots=True)
class OperationMetrics:
    """The series of one operation of one version, resolved."""

    requests: Mapping[str, Counter]
    batches: Mapping[str, Counter]
    rows: Counter
    batch_rows: Histogram
    queue_rows: Gauge
    queue_limit_rows: Gauge
    request_s: Histogram
    parse_s: Histogram
    queue_s: Histogram
    infer_s: Histogram
    render_s: Histogram


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """The series of one version that no operation splits."""

    score_ratio: Callable[[npt.NDArray[Any]], None]
    anomalies: Counter
    ready: Gauge


class Metrics:
    """Every metric of the service.

    Args:
        registry: Where they are registered; one for each app, so that tests share nothing.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.http_responses = Counter(
            "hourglass_http_responses", "HTTP answers", ["route", "status"], registry=registry
        )
        self._requests = self._counter("requests", "Requests by how they ended", "outcome")
        self._rows = self._counter("rows", "Rows answered")
        self._batches = self._counter("batches", "Runs by why they went when they did", "reason")
        self._batch_rows = self._histogram("batch_rows", "Rows in a run", ROWS_BUCKETS)
        self._queue_rows = Gauge(
            "hourglass_queue_rows", "Rows waiting for a run", _OPERATION, registry=registry
        )
        self._queue_limit_rows = Gauge(
            "hourglass_queue_limit_rows", "Rows that may wait", _OPERATION, registry=registry
        )
        self._request_s = self._histogram("request_seconds", "Whole request")
        self._parse_s = self._histogram("parse_seconds", "Body read and parsed")
        self._queue_s = self._histogram("queue_seconds", "Waiting for a run")
        self._infer_s = self._histogram("infer_seconds", "From the first run's start to its end")
        self._render_s = self._histogram("render_seconds", "Answer rendered")
        self._score_ratio = RatioHistogram(
            "hourglass_anomaly_score_ratio", "Score divided by the default threshold", _MODEL
        )
        registry.register(self._score_ratio)
        self._anomalies = Counter(
            "hourglass_anomalies", "Rows over the default threshold", _MODEL, registry=registry
        )
        self._ready = Gauge(
            "hourglass_model_ready", "1 when the version serves", _MODEL, registry=registry
        )
        self._info = Gauge(
            "hourglass_model_info",
            "What is loaded, and where it really runs",
            [*_MODEL, "provider", "device", "precision"],
            registry=registry,
        )
        self._configured_device = Gauge(
            "hourglass_configured_device_info",
            "What the setting asks for: auto, cpu or cuda",
            ["device"],
            registry=registry,
        )
        self._nodes = Gauge(
            "hourglass_graph_nodes",
            "Graph nodes placed on each execution provider",
            [*_OPERATION, "provider"],
            registry=registry,
        )

    def configure(self, device: str) -> None:
        """Record the device that the settings ask for."""
        self._configured_device.labels(device).set(1)

    def operation(self, model: str, version: str, operation: str) -> OperationMetrics:
        """Start the series of one operation."""
        labels = (model, version, operation)
        return OperationMetrics(
            requests={name: self._requests.labels(*labels, name) for name in OUTCOMES},
            batches={name: self._batches.labels(*labels, name) for name in REASONS},
            rows=self._rows.labels(*labels),
            batch_rows=self._batch_rows.labels(*labels),
            queue_rows=self._queue_rows.labels(*labels),
            queue_limit_rows=self._queue_limit_rows.labels(*labels),
            request_s=self._request_s.labels(*labels),
            parse_s=self._parse_s.labels(*labels),
            queue_s=self._queue_s.labels(*labels),
            infer_s=self._infer_s.labels(*labels),
            render_s=self._render_s.labels(*labels),
        )

    def model(self, model: str, version: str) -> ModelMetrics:
        """Start the series of one version."""
        return ModelMetrics(
            score_ratio=self._score_ratio.add(model, version),
            anomalies=self._anomalies.labels(model, version),
            ready=self._ready.labels(model, version),
        )

    def place(
        self,
        model: str,
        version: str,
        *,
        provider: str,
        device: str,
        precision: str,
        nodes: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Record where a version runs: its provider, and each operation's nodes by provider."""
        self._info.labels(model, version, provider, device, precision).set(1)
        for operation, placed in nodes.items():
            for name, number in placed.items():
                self._nodes.labels(model, version, operation, name).set(number)

    def remove(self, model: str, version: str) -> None:
        """End every series of one version."""
        self._score_ratio.remove(model, version)
        labels = {"model": model, "version": version}
        for metric in (
            *(self._requests, self._rows, self._batches, self._batch_rows, self._queue_rows),
            *(self._request_s, self._parse_s, self._queue_s, self._infer_s, self._render_s),
            *(self._anomalies, self._ready, self._info, self._nodes, self._queue_limit_rows),
        ):
            metric.remove_by_labels(labels)

    def _counter(self, name: str, documentation: str, *more: str) -> Counter:
        return Counter(
            f"hourglass_{name}", documentation, [*_OPERATION, *more], registry=self.registry
        )

    def _histogram(
        self, name: str, documentation: str, buckets: Sequence[float] = SECONDS_BUCKETS
    ) -> Histogram:
        return Histogram(
            f"hourglass_{name}",
            documentation,
            _OPERATION,
            registry=self.registry,
            buckets=(*buckets, math.inf),
        )
