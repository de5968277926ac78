"""What Prometheus gets to see, on a registry that is handed in.

What happens is noted at the price of a list's ``append`` and counted many notes at a time: when
there are enough of them, and before every scrape. Labels are resolved when a model loads.
"""

import threading
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
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
CUTS: Final = ("head", "body", "unread", "crowded")

# the client library's own buckets start at 5 ms and hide everything a cheap model does
SECONDS_BUCKETS: Final = tuple(
    factor * 10.0**power for power in range(-5, 2) for factor in (1, 2.5, 5)
)[2:-1]
ROWS_BUCKETS: Final = tuple(float(1 << power) for power in range(11))
RATIO_BUCKETS: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    *(1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0),
)

_NOTES_MAX: Final = 256

_MODEL: Final = ("model", "version")
_OPERATION: Final = (*_MODEL, "operation")

N = TypeVar("N")
Values: TypeAlias = npt.NDArray[Any]


class Notes(Generic[N]):
    """What happened, kept as it came and counted many at a time.

    The client library's ``observe`` costs a microsecond; a request makes five of them, and a
    list's ``append`` costs next to nothing.

    Args:
        count: Called with all notes taken since the last call, from any thread, one at a time.
    """

    def __init__(self, count: Callable[[Sequence[N]], None]) -> None:
        self._count = count
        self._notes: list[N] = []
        self._lock = threading.Lock()  # a scrape counts in a thread of its own

    def take(self, note: N) -> None:
        self._notes.append(note)
        if len(self._notes) >= _NOTES_MAX:
            self.count()

    def count(self) -> None:
        """Count what is there."""
        with self._lock:
            if notes := self._notes[:]:
                del self._notes[: len(notes)]
                self._count(notes)


class _Pages:
    """All places for notes: whoever collects a metric has them counted first."""

    def __init__(self) -> None:
        self._notes: list[Notes[Any]] = []

    def add(self, notes: Notes[Any]) -> None:
        self._notes.append(notes)

    def remove(self, notes: Notes[Any]) -> None:
        self._notes.remove(notes)

    def count(self) -> None:
        for notes in list(self._notes):
            notes.count()


class _Counter(Counter):
    """The client library's, up to date whenever it is read."""

    pages = _Pages()  # of the parent; its children are read through it

    def collect(self) -> Iterable[Metric]:
        self.pages.count()
        return super().collect()


class _Series:
    """One labelled series of an *ArrayHistogram*."""

    def __init__(self, edges: Values) -> None:
        self._edges = edges
        self._counts = np.zeros(len(edges) + 1, np.int64)
        self._total = 0.0
        self._lock = threading.Lock()

    def observe(self, values: Values) -> None:
        places = np.searchsorted(self._edges, values, side="left")
        with self._lock:
            self._counts += np.bincount(places, minlength=len(self._counts))
            self._total += float(values.sum(dtype=np.float64))

    def totals(self) -> tuple[npt.NDArray[np.int64], float]:
        """Give the values in each bucket, and their sum."""
        with self._lock:
            return self._counts.copy(), self._total


class ArrayHistogram(Collector):
    """A histogram that takes a whole array of values at once, at the price of a few."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        buckets: Sequence[float],
        *,
        pages: _Pages,
    ) -> None:
        self._pages = pages
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._edges = np.array(buckets)
        self._bounds = [*(str(float(bound)) for bound in buckets), "+Inf"]
        self._series: dict[tuple[str, ...], _Series] = {}

    def labels(self, *labels: str) -> _Series:
        """Give the series of these labels, started when it is new."""
        return self._series.setdefault(labels, _Series(self._edges))

    def remove(self, *first: str) -> None:
        """End every series whose labels begin with *first*."""
        for labels in [labels for labels in self._series if labels[: len(first)] == first]:
            del self._series[labels]

    def describe(self) -> Iterable[Metric]:
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterable[Metric]:
        self._pages.count()
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, series in list(self._series.items()):
            counts, total = series.totals()
            buckets = zip(self._bounds, np.cumsum(counts).astype(float).tolist(), strict=True)
            family.add_metric(labels, list(buckets), sum_value=total)
        yield family


RequestNote: TypeAlias = tuple[str, int, float, float, float, float, float, float]
"""Outcome, rows, and seconds of: whole request, parsing, queue, inference, rendering; its start.

A phase that the request never came to took 0 seconds, and is not counted.
"""

BatchNote: TypeAlias = tuple[str, int]
"""Why a run went when it did, and its rows."""

DomainNote: TypeAlias = tuple[int, int]
"""Rows of the model's kind, and rows of another."""

RunNote: TypeAlias = tuple[int, float]
"""Rows of a run that succeeded, and its seconds."""


class Totals:
    """Sums that the series of an operation do not keep apart: of answered requests, and of runs.

    Attributes:
        answered: Requests that were answered.
        failed: Requests that were not.
        rows: Rows of answered requests.
        seconds: Of answered requests, in the order of *RequestNote*: whole request, phases.
        failed_s: Seconds of the others.
        last_at: When the request that was last answered came in, by ``time.perf_counter``, or 0.
        runs: Number and seconds of the runs of each size.
    """

    def __init__(self) -> None:
        self.answered = self.failed = self.rows = 0
        self.seconds = np.zeros(5)
        self.failed_s = 0.0
        self.last_at = 0.0
        self.runs: dict[int, tuple[int, float]] = {}

    def add_requests(self, notes: Sequence[RequestNote], seconds: Values, rows: int) -> None:
        """Add *notes*, whose *seconds* stand in an array too, and the *rows* that were answered."""
        is_answered = np.array([note[0] == "ok" for note in notes])
        answered = int(np.count_nonzero(is_answered))
        self.answered += answered
        self.failed += len(notes) - answered
        self.rows += rows
        self.seconds += seconds[is_answered].sum(axis=0)
        self.failed_s += float(seconds[~is_answered, 0].sum())
        starts = (note[7] for note in reversed(notes) if note[0] == "ok")
        self.last_at = next(starts, self.last_at)

    def add_runs(self, notes: Sequence[RunNote]) -> None:
        for rows, seconds in notes:
            number, before_s = self.runs.get(rows, (0, 0.0))
            self.runs[rows] = (number + 1, before_s + seconds)


@dataclass(frozen=True, slots=True)
class OperationMetrics:
    """The series of one operation of one version, resolved, and what they do not keep apart."""

    requests: Notes[RequestNote]
    batches: Notes[BatchNote]
    runs: Notes[RunNote]
    totals: Totals
    queue_rows: Gauge
    queue_limit_rows: Gauge


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """The series of one version that no operation splits.

    Attributes:
        scores: By measure, the scores of rows; each is compared with its measure's threshold.
        domain: Rows of the model's kind and rows of another, as they were told apart.
        ready: 1 when it serves.
    """

    scores: Mapping[str, Notes[Values]]
    domain: Notes[DomainNote]
    ready: Gauge


class Metrics:
    """Every metric of the service.

    Args:
        registry: Where they are registered; one for each app, so that tests share nothing.

    Attributes:
        http_responses: Takes the route's template and the status of every answer.
        connections: How many are open.
        cuts: Connections that were closed on their clients, by why.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._pages = _Pages()
        self._operations: dict[tuple[str, str, str, str], OperationMetrics] = {}
        self._models: dict[tuple[str, str], list[ModelMetrics]] = {}
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._http_responses = self._counter("http_responses", "HTTP answers", ("route", "status"))
        self.http_responses = self.notes(self._count_http_responses)
        self.connections = Gauge("hourglass_connections", "Open connections", registry=registry)
        cuts = self._counter("connections_cut", "Connections closed on their clients", ("reason",))
        self.cuts = {reason: cuts.labels(reason) for reason in CUTS}
        self._requests = self._counter(
            "requests", "Requests by how they ended", (*_OPERATION, "outcome")
        )
        self._rows = self._counter("rows", "Rows answered", _OPERATION)
        self._batches = self._counter(
            "batches", "Runs by why they went when they did", (*_OPERATION, "reason")
        )
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
        self._score_ratio = self._histogram(
            "anomaly_score_ratio", "Score divided by the default threshold", RATIO_BUCKETS, _MODEL
        )
        self._anomalies = self._counter("anomalies", "Rows over the default threshold", _MODEL)
        self._domain_rows = self._counter(
            "domain_rows", "Rows by whether they are of the model's kind", (*_MODEL, "domain")
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

    def operation(
        self, model: str, version: str, operation: str, *, part: str = ""
    ) -> OperationMetrics:
        """Give the series of one operation, started when they are new.

        The *parts* of an operation share their series and have totals of their own.
        """
        labels = (model, version, operation)
        key = (*labels, part)
        if key not in self._operations:
            totals = Totals()
            self._operations[key] = OperationMetrics(
                requests=self.notes(self._request_counter(labels, totals)),
                batches=self.notes(self._batch_counter(labels)),
                runs=self.notes(totals.add_runs),
                totals=totals,
                queue_rows=self._queue_rows.labels(*labels),
                queue_limit_rows=self._queue_limit_rows.labels(*labels),
            )
        return self._operations[key]

    def model(
        self, model: str, version: str, *, thresholds: Mapping[str, float | None]
    ) -> ModelMetrics:
        """Start the series of one version, or go on with them under other thresholds.

        Args:
            model: Its name.
            version: Its number.
            thresholds: For each measure what its scores are compared with.
        """
        labels = (model, version)
        made = ModelMetrics(
            scores={
                measure: self.notes(self._score_counter(labels, threshold))
                for measure, threshold in thresholds.items()
            },
            domain=self.notes(self._domain_counter(labels)),
            ready=self._ready.labels(*labels),
        )
        self._models.setdefault(labels, []).append(made)
        return made

    def notes(self, count: Callable[[Sequence[N]], None]) -> Notes[N]:
        """Make a place for notes that every scrape finds counted."""
        notes = Notes(count)
        self._pages.add(notes)
        return notes

    def _count_http_responses(self, notes: Sequence[tuple[str, int]]) -> None:
        for (route, status), number in Counts(notes).items():
            self._http_responses.labels(route, str(status)).inc(number)

    def _request_counter(
        self, labels: tuple[str, str, str], totals: Totals
    ) -> Callable[[Sequence[RequestNote]], None]:
        outcomes = {name: self._requests.labels(*labels, name) for name in OUTCOMES}
        rows = self._rows.labels(*labels)
        histograms = (self._request_s, self._parse_s, self._queue_s, self._infer_s, self._render_s)
        series = [histogram.labels(*labels) for histogram in histograms]

        def count(notes: Sequence[RequestNote]) -> None:
            for outcome, number in Counts(note[0] for note in notes).items():
                outcomes[outcome].inc(number)
            answered_rows = sum(note[1] for note in notes if note[0] == "ok")
            rows.inc(answered_rows)
            seconds = np.array([note[2:7] for note in notes])
            for one, taken in zip(series, seconds.T, strict=True):
                one.observe(taken[taken > 0])
            totals.add_requests(notes, seconds, answered_rows)

        return count

    def _batch_counter(self, labels: tuple[str, str, str]) -> Callable[[Sequence[BatchNote]], None]:
        reasons = {name: self._batches.labels(*labels, name) for name in REASONS}
        rows = self._batch_rows.labels(*labels)

        def count(notes: Sequence[BatchNote]) -> None:
            for reason, number in Counts(note[0] for note in notes).items():
                reasons[reason].inc(number)
            rows.observe(np.array([note[1] for note in notes]))

        return count

    def _score_counter(
        self, labels: tuple[str, str], threshold: float | None
    ) -> Callable[[Sequence[Values]], None]:
        ratio = self._score_ratio.labels(*labels)
        anomalies = self._anomalies.labels(*labels)

        def count(notes: Sequence[Values]) -> None:
            if threshold is None:
                return
            scores = np.concatenate(notes)
            anomalies.inc(int(np.count_nonzero(scores > scores.dtype.type(threshold))))
            if threshold > 0:  # a model without any error on normal rows has no ratio
                ratio.observe(scores / scores.dtype.type(threshold))

        return count

    def _domain_counter(self, labels: tuple[str, str]) -> Callable[[Sequence[DomainNote]], None]:
        known, foreign = (self._domain_rows.labels(*labels, domain) for domain in ("in", "out"))

        def count(notes: Sequence[DomainNote]) -> None:
            known.inc(sum(note[0] for note in notes))
            foreign.inc(sum(note[1] for note in notes))

        return count

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
        for key in [key for key in self._operations if key[:2] == (model, version)]:
            operation = self._operations.pop(key)
            for notes in (operation.requests, operation.batches, operation.runs):
                self._pages.remove(notes)
        for scored in self._models.pop((model, version), []):
            for taken in scored.scores.values():
                self._pages.remove(taken)
            self._pages.remove(scored.domain)
        histograms = (self._request_s, self._parse_s, self._queue_s, self._infer_s, self._render_s)
        for histogram in (*histograms, self._batch_rows, self._score_ratio):
            histogram.remove(model, version)
        labels = {"model": model, "version": version}
        for metric in (
            *(self._requests, self._rows, self._batches, self._queue_rows, self._queue_limit_rows),
            *(self._anomalies, self._domain_rows, self._ready, self._info, self._nodes),
        ):
            metric.remove_by_labels(labels)

    def _counter(self, name: str, documentation: str, labels: Sequence[str]) -> Counter:
        counter = _Counter(f"hourglass_{name}", documentation, labels, registry=self.registry)
        counter.pages = self._pages
        return counter

    def _histogram(
        self,
        name: str,
        documentation: str,
        buckets: Sequence[float] = SECONDS_BUCKETS,
        labels: Sequence[str] = _OPERATION,
    ) -> ArrayHistogram:
        histogram = ArrayHistogram(
            f"hourglass_{name}", documentation, labels, buckets, pages=self._pages
        )
        self.registry.register(histogram)
        return histogram
