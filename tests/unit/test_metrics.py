"""The series of models: begun with their load, gone with their unload."""

import math

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
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
    Metrics,
)

RATIO = "hourglass_anomaly_score_ratio"
MODEL = {"model": "m", "version": "1"}


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
    metrics.operation("m", "1", "encode").rows.inc(2)
    metrics.operation("m", "1", "encode").rows.inc(3)

    assert [sample.value for sample in samples(metrics, "hourglass_rows_total")] == [5]


def test_with_its_unload_every_series_of_a_version_is_gone(metrics):
    for version in ("1", "2"):
        metrics.operation("m", version, "encode").rows.inc()
        metrics.operation("m", version, "anomaly-score").rows.inc()
        metrics.model("m", version).score_ratio(np.ones(3))
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
    metrics.operation("m", "1", "encode").rows.inc(7)
    metrics.model("m", "1").score_ratio(np.ones(7))
    metrics.remove("m", "1")

    metrics.operation("m", "1", "encode")
    metrics.model("m", "1")

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
    observe = metrics.model("m", "1").score_ratio

    observe(np.array([0.0, 0.01, 0.95, 1.0, 1.05, 99.0, 1e9], np.float32))

    counts = {float(s.labels["le"]): s.value for s in samples(metrics, f"{RATIO}_bucket")}
    assert [counts[edge] for edge in (0.9, 1.0, 1.1, 100.0, math.inf)] == [2, 4, 5, 6, 7]


@pytest.mark.parametrize("edge", [0.5, 1.0, 2.0])
def test_a_ratio_at_an_edge_lies_below_it(metrics, edge):
    metrics.model("m", "1").score_ratio(np.array([edge]))

    counts = {float(s.labels["le"]): s.value for s in samples(metrics, f"{RATIO}_bucket")}
    assert counts[edge] == 1
    assert sum(counts.values()) == len([e for e in (*RATIO_BUCKETS, math.inf) if e >= edge])


def test_ratios_are_counted_and_summed_over_many_batches(metrics):
    observe = metrics.model("m", "1").score_ratio

    for _ in range(10):
        observe(np.full(100, 0.25, np.float32))

    assert samples(metrics, f"{RATIO}_count")[0].value == 1000
    assert samples(metrics, f"{RATIO}_sum")[0].value == 250


def test_ratios_of_models_are_apart(metrics):
    metrics.model("m", "1").score_ratio(np.ones(1))
    metrics.model("n", "1").score_ratio(np.ones(2))

    counts = {s.labels["model"]: s.value for s in samples(metrics, f"{RATIO}_count")}
    assert counts == {"m": 1, "n": 2}


@pytest.mark.parametrize("buckets", [SECONDS_BUCKETS, ROWS_BUCKETS, RATIO_BUCKETS])
def test_buckets_ascend(buckets):
    assert list(buckets) == sorted(set(buckets))


def test_times_are_seen_from_50_microseconds_to_half_a_minute():
    assert SECONDS_BUCKETS[0] == pytest.approx(50e-6)
    assert SECONDS_BUCKETS[-1] >= 10


def test_openmetrics_can_be_read_again(metrics):
    metrics.operation("m", "1", "encode").request_s.observe(0.1)
    metrics.model("m", "1").score_ratio(np.ones(3))
    text = openmetrics.generate_latest(metrics.registry).decode()

    families = {family.name for family in parse_openmetrics(text)}

    assert {RATIO, "hourglass_request_seconds"} <= families


def test_two_registries_share_nothing():
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())

    first.operation("m", "1", "encode").rows.inc()

    assert series_of(second, "m") == []
