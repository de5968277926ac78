"""The series of models: begun with their load, gone with their unload; counted many at a time."""

import math
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import (
    OUTCOMES,
    RATIO_BUCKETS,
    REASONS,
    ROWS_BUCKETS,
    SECONDS_BUCKETS,
    ArrayHistogram,
    Metrics,
    Notes,
)
from tests.fakes import WAIT_S

RATIO = "hourglass_anomaly_score_ratio"
MODEL = {"model": "m", "version": "1"}
SINGLES = st.floats(0, 2.0**40, width=32)


def note(*, outcome="ok", rows=1, seconds=0.25, started=0.0):
    """A request whose every phase took a quarter of a second."""
    return (outcome, rows, seconds, seconds, seconds, seconds, seconds, started)


def take(metrics, rows, *, model="m", version="1", operation="encode"):
    metrics.operation(model, version, operation).requests.take(note(rows=rows))


def score(metrics, scores, *, model="m", version="1", threshold=1.0):
    """Begin a version and note *scores* of it."""
    series = metrics.model(model, version, thresholds={"mse": threshold})
    series.scores["mse"].take(np.asarray(scores))


def samples(metrics, name):
    text = generate_latest(metrics.registry).decode()
    return [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


def series_of(metrics, model):
    text = generate_latest(metrics.registry).decode()
    return [line for line in text.splitlines() if f'model="{model}"' in line]


def test_before_any_model_there_are_no_series_of_models(metrics):
    assert "model=" not in generate_latest(metrics.registry).decode()


def test_an_operation_begins_with_every_outcome_and_reason_at_zero(metrics):
    metrics.operation("m", "1", "encode")

    outcomes = {s.labels["outcome"]: s.value for s in samples(metrics, "hourglass_requests_total")}
    reasons = {s.labels["reason"]: s.value for s in samples(metrics, "hourglass_batches_total")}
    assert outcomes == dict.fromkeys(OUTCOMES, 0)
    assert reasons == dict.fromkeys(REASONS, 0)


def test_an_operation_asked_for_twice_is_the_same_series(metrics):
    take(metrics, 2)
    take(metrics, 3)

    assert [sample.value for sample in samples(metrics, "hourglass_rows_total")] == [5]


def test_with_its_unload_every_series_of_a_version_is_gone(metrics):
    for version in ("1", "2"):
        take(metrics, 1, version=version)
        take(metrics, 1, version=version, operation="anomaly-score")
        metrics.operation("m", version, "encode").batches.take(("idle", 1))
        score(metrics, np.ones(3), version=version)
        metrics.place(
            "m",
            version,
            provider="p",
            device="cpu",
            precision="float32",
            nodes={"encode": {"p": 3}},
        )

    metrics.remove("m", "1")

    left = series_of(metrics, "m")
    assert left
    assert all('version="2"' in line for line in left)


def test_to_unload_what_was_never_loaded_is_no_fault(metrics):
    metrics.remove("m", "1")

    assert series_of(metrics, "m") == []


def test_a_version_that_comes_back_begins_at_zero(metrics):
    take(metrics, 7)
    score(metrics, np.ones(7))
    metrics.remove("m", "1")

    metrics.operation("m", "1", "encode")
    metrics.model("m", "1", thresholds={"mse": 1.0})

    assert [sample.value for sample in samples(metrics, "hourglass_rows_total")] == [0]
    assert [sample.value for sample in samples(metrics, f"{RATIO}_count")] == [0]


def test_place_tells_where_a_version_runs(metrics):
    metrics.place(
        "m",
        "1",
        provider="CUDAExecutionProvider",
        device="cuda:0",
        precision="float16",
        nodes={"encode": {"CUDAExecutionProvider": 3, "CPUExecutionProvider": 1}},
    )

    info = samples(metrics, "hourglass_model_info")[0]
    nodes = {
        sample.labels["provider"]: sample.value
        for sample in samples(metrics, "hourglass_graph_nodes")
    }
    assert info.value == 1
    assert info.labels == MODEL | {
        "provider": "CUDAExecutionProvider",
        "device": "cuda:0",
        "precision": "float16",
    }
    assert nodes == {"CUDAExecutionProvider": 3, "CPUExecutionProvider": 1}


def test_ratios_fall_into_their_buckets(metrics):
    score(metrics, np.array([0.0, 0.01, 0.95, 1.0, 1.05, 99.0, 1e9], np.float32))

    counts = {float(s.labels["le"]): s.value for s in samples(metrics, f"{RATIO}_bucket")}
    assert [counts[edge] for edge in (0.9, 1.0, 1.1, 100.0, math.inf)] == [2, 4, 5, 6, 7]


@pytest.mark.parametrize("edge", [0.5, 1.0, 2.0])
def test_a_ratio_at_an_edge_lies_below_it(metrics, edge):
    score(metrics, [edge])

    counts = {float(s.labels["le"]): s.value for s in samples(metrics, f"{RATIO}_bucket")}
    assert counts[edge] == 1
    assert sum(counts.values()) == len([e for e in (*RATIO_BUCKETS, math.inf) if e >= edge])


def test_ratios_are_counted_and_summed_over_many_batches(metrics):
    scores = metrics.model("m", "1", thresholds={"mse": 2.0}).scores["mse"]

    for _ in range(10):
        scores.take(np.full(100, 0.5, np.float32))

    assert samples(metrics, f"{RATIO}_count")[0].value == 1000
    assert samples(metrics, f"{RATIO}_sum")[0].value == 250


def test_ratios_of_models_are_apart(metrics):
    score(metrics, np.ones(1))
    score(metrics, np.ones(2), model="n")

    counts = {s.labels["model"]: s.value for s in samples(metrics, f"{RATIO}_count")}
    assert counts == {"m": 1, "n": 2}


@pytest.mark.parametrize("buckets", [SECONDS_BUCKETS, ROWS_BUCKETS, RATIO_BUCKETS])
def test_buckets_ascend(buckets):
    assert list(buckets) == sorted(set(buckets))


def test_times_are_seen_from_50_microseconds_to_half_a_minute():
    assert SECONDS_BUCKETS[0] == pytest.approx(50e-6)
    assert SECONDS_BUCKETS[-1] >= 10


def test_openmetrics_can_be_read_again(metrics):
    take(metrics, 1)
    score(metrics, np.ones(3))
    text = openmetrics.generate_latest(metrics.registry).decode()

    families = {family.name for family in parse_openmetrics(text)}

    assert {RATIO, "hourglass_request_seconds"} <= families


def test_two_registries_share_nothing():
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())

    take(first, 1)

    assert series_of(second, "m") == []


def test_what_was_noted_is_counted_before_every_scrape(metrics):
    take(metrics, 2)
    metrics.operation("m", "1", "encode").batches.take(("full", 2))
    score(metrics, [0.5, 3.0])
    metrics.http_responses.take(("/livez", 200))

    for name, value in (
        ("hourglass_rows_total", 2),
        ("hourglass_batch_rows_sum", 2),
        ("hourglass_anomalies_total", 1),
        ("hourglass_http_responses_total", 1),
    ):
        assert [sample.value for sample in samples(metrics, name)] == [value]


def test_a_scrape_of_one_metric_counts_too(metrics):
    take(metrics, 2)

    (family,) = metrics.registry.restricted_registry(["hourglass_rows_total"]).collect()

    assert family.samples[0].value == 2


def test_a_request_is_counted_by_its_end_and_only_answered_rows_count(metrics):
    requests = metrics.operation("m", "1", "encode").requests
    for outcome, rows in (("ok", 3), ("ok", 4), ("invalid", 100), ("expired", 100)):
        requests.take(note(outcome=outcome, rows=rows))

    counted = {
        sample.labels["outcome"]: sample.value
        for sample in samples(metrics, "hourglass_requests_total")
        if sample.value
    }
    assert counted == {"ok": 2, "invalid": 1, "expired": 1}
    assert samples(metrics, "hourglass_rows_total")[0].value == 7


def test_a_phase_that_a_request_never_came_to_is_not_counted(metrics):
    metrics.operation("m", "1", "encode").requests.take(
        ("invalid", 0, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0)
    )

    counts = {
        phase: samples(metrics, f"hourglass_{phase}_seconds_count")[0].value
        for phase in ("request", "parse", "queue", "infer", "render")
    }
    sums = [
        samples(metrics, f"hourglass_{phase}_seconds_sum")[0].value
        for phase in ("request", "parse")
    ]
    assert counts == {"request": 1, "parse": 1, "queue": 0, "infer": 0, "render": 0}
    assert sums == [0.5, 0.25]


def test_runs_are_counted_by_their_reason_and_rows(metrics):
    batches = metrics.operation("m", "1", "encode").batches
    for reason, rows in (("full", 64), ("full", 64), ("idle", 1)):
        batches.take((reason, rows))

    reasons = {
        sample.labels["reason"]: sample.value
        for sample in samples(metrics, "hourglass_batches_total")
        if sample.value
    }
    sizes = {
        float(s.labels["le"]): s.value for s in samples(metrics, "hourglass_batch_rows_bucket")
    }
    assert reasons == {"full": 2, "idle": 1}
    assert [sizes[edge] for edge in (1, 32, 64)] == [1, 1, 3]


def test_totals_keep_answered_requests_and_others_apart(metrics):
    operation = metrics.operation("m", "1", "infer")
    for outcome, started in (("ok", 1.0), ("invalid", 9.0), ("ok", 2.0), ("expired", 4.0)):
        operation.requests.take(note(outcome=outcome, rows=3, started=started))

    operation.requests.count()

    totals = operation.totals
    assert (totals.answered, totals.failed, totals.rows) == (2, 2, 6)
    assert totals.seconds.tolist() == [0.5] * 5
    assert totals.failed_s == 0.5
    assert totals.last_at == 2.0


def test_totals_keep_the_runs_of_each_size(metrics):
    operation = metrics.operation("m", "1", "infer")
    for rows, seconds in ((1, 0.5), (64, 2.0), (1, 0.25)):
        operation.runs.take((rows, seconds))

    operation.runs.count()

    assert operation.totals.runs == {1: (2, 0.75), 64: (1, 2.0)}


def test_the_parts_of_an_operation_share_its_series_and_have_totals_of_their_own(metrics):
    whole = metrics.operation("m", "1", "infer")
    part = metrics.operation("m", "1", "infer", part="decoder")
    whole.requests.take(note(rows=2))
    part.requests.take(note(rows=3))

    (counted,) = samples(metrics, "hourglass_rows_total")

    assert counted.value == 5
    assert (whole.totals.rows, part.totals.rows) == (2, 3)
    metrics.remove("m", "1")
    assert series_of(metrics, "m") == []


def test_answers_are_counted_by_route_and_status(metrics):
    for route, status in (("/livez", 200), ("/livez", 200), ("/readyz", 503)):
        metrics.http_responses.take((route, status))

    counted = {
        (s.labels["route"], s.labels["status"]): s.value
        for s in samples(metrics, "hourglass_http_responses_total")
    }
    assert counted == {("/livez", "200"): 2, ("/readyz", "503"): 1}


def test_a_score_at_the_threshold_is_normal_and_one_above_is_not(metrics):
    threshold = float(np.float32(0.1))
    above = np.nextafter(np.float32(0.1), np.float32(1))

    score(metrics, np.array([0.1, above], np.float32), threshold=threshold)

    assert samples(metrics, "hourglass_anomalies_total")[0].value == 1


def test_scores_that_nothing_is_compared_with_are_not_counted(metrics):
    score(metrics, [0.5, 3.0], threshold=None)

    assert samples(metrics, "hourglass_anomalies_total")[0].value == 0
    assert samples(metrics, f"{RATIO}_count")[0].value == 0


def test_a_threshold_of_zero_has_anomalies_and_no_ratio(metrics):
    score(metrics, [0.0, 3.0], threshold=0.0)

    assert samples(metrics, "hourglass_anomalies_total")[0].value == 1
    assert samples(metrics, f"{RATIO}_count")[0].value == 0


def test_what_is_noted_after_the_unload_begins_no_series(metrics):
    operation = metrics.operation("m", "1", "encode")
    metrics.remove("m", "1")

    for _ in range(1000):  # more than are kept before they are counted
        operation.requests.take(note())

    assert series_of(metrics, "m") == []


class TestNotes:
    def test_nothing_is_counted_where_nothing_was_noted(self):
        counted: list[Sequence[int]] = []

        Notes(counted.append).count()

        assert counted == []

    def test_notes_are_counted_together_in_their_order_and_once(self):
        counted: list[list[int]] = []
        notes: Notes[int] = Notes(lambda taken: counted.append(list(taken)))
        for number in range(5):
            notes.take(number)

        notes.count()
        notes.count()

        assert counted == [[0, 1, 2, 3, 4]]

    def test_many_notes_are_counted_without_a_scrape(self):
        """Or a server that nobody scrapes would keep them all."""
        counted: list[int] = []
        notes = Notes(counted.extend)

        for number in range(10_000):
            notes.take(number)

        assert len(counted) > 9_000
        assert counted == list(range(len(counted)))

    def test_a_note_that_comes_when_the_others_have_just_been_copied_is_counted_later(self):
        """As a thread may do it that is not the one that counts."""
        counted: list[int] = []
        notes = Notes(counted.extend)

        class Interrupted(list[int]):
            def __getitem__(self, part):
                copied = super().__getitem__(part)
                notes.take(2)
                return copied

        notes._notes = Interrupted([1])
        notes.count()
        first = list(counted)
        notes._notes = list(notes._notes)
        notes.count()

        assert (first, counted) == ([1], [1, 2])

    def test_what_is_noted_while_others_are_counted_is_neither_lost_nor_counted_twice(self):
        counted: list[int] = []
        notes = Notes(counted.extend)
        is_over = threading.Event()

        def scrape():
            while not is_over.is_set():
                notes.count()

        scraper = threading.Thread(target=scrape)
        scraper.start()
        for number in range(20_000):
            notes.take(number)
        is_over.set()
        scraper.join(WAIT_S)
        notes.count()

        assert counted == list(range(20_000))


def histogram(registry, buckets):
    """A histogram of ours that nobody takes notes for."""
    metrics = Metrics(CollectorRegistry())
    ours = ArrayHistogram("ours", "-", ("model",), buckets, pages=metrics._pages)
    registry.register(ours)
    return ours


def buckets_of(registry, name):
    """Every bucket's count by its edge, as it stands in a scrape."""
    text = generate_latest(registry).decode()
    return {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{name}_bucket"
    }


class TestArrayHistogram:
    @given(
        st.lists(arrays(np.float32, st.integers(0, 20), elements=SINGLES), max_size=4),
        st.sampled_from([SECONDS_BUCKETS, ROWS_BUCKETS, RATIO_BUCKETS]),
    )
    def test_it_counts_as_the_client_library_does(self, values, buckets):
        registry = CollectorRegistry()
        ours = histogram(registry, buckets).labels("m")
        theirs = Histogram("theirs", "-", ("model",), buckets=buckets, registry=registry)
        one = theirs.labels("m")

        for array in values:
            ours.observe(array)
            for value in array:
                one.observe(float(value))

        assert buckets_of(registry, "ours") == buckets_of(registry, "theirs")
        sums = [registry.get_sample_value(f"{name}_sum", {"model": "m"}) for name in NAMES]
        assert sums[0] == pytest.approx(sums[1], rel=1e-12)
        counts = [registry.get_sample_value(f"{name}_count", {"model": "m"}) for name in NAMES]
        assert counts == [sum(map(len, values))] * 2

    @given(st.sampled_from(SECONDS_BUCKETS), st.sampled_from([-1, 0, 1]))
    def test_beside_an_edge_every_value_falls_as_with_the_client_library(self, edge, direction):
        registry = CollectorRegistry()
        ours = histogram(registry, SECONDS_BUCKETS).labels("m")
        theirs = Histogram(
            "theirs", "-", ("model",), buckets=SECONDS_BUCKETS, registry=registry
        ).labels("m")
        value = np.nextafter(edge, edge + direction)

        ours.observe(np.array([value]))
        theirs.observe(float(value))

        assert buckets_of(registry, "ours") == buckets_of(registry, "theirs")

    def test_integers_are_counted_as_the_numbers_that_they_are(self):
        registry = CollectorRegistry()

        histogram(registry, ROWS_BUCKETS).labels("m").observe(np.array([1, 2, 2**40]))

        assert buckets_of(registry, "ours")["2.0"] == 2
        assert registry.get_sample_value("ours_sum", {"model": "m"}) == 3 + 2**40

    def test_labels_asked_for_twice_are_one_series(self):
        ours = histogram(CollectorRegistry(), ROWS_BUCKETS)

        assert ours.labels("m") is ours.labels("m")

    def test_only_series_whose_labels_begin_so_are_ended(self):
        registry = CollectorRegistry()
        ours = ArrayHistogram(
            "ours", "-", ("model", "version"), (1.0,), pages=Metrics(CollectorRegistry())._pages
        )
        registry.register(ours)
        for labels in (("m", "1"), ("m", "10"), ("n", "1")):
            ours.labels(*labels).observe(np.ones(1))

        ours.remove("m", "1")

        left = {
            (sample.labels["model"], sample.labels["version"])
            for family in ours.collect()
            for sample in family.samples
        }
        assert left == {("m", "10"), ("n", "1")}


NAMES = ("ours", "theirs")
