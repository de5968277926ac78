"""Every metric of the contract: its labels, and when it moves."""

import asyncio
import shutil
import threading

import numpy as np
import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.settings import Settings
from tests import tiny
from tests.api import wire
from tests.api.asgi import Connection, running
from tests.api.wire import JSON, number, url
from tests.conftest import serve
from tests.fakes import WAIT_S

ROW, ODD = [0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]
ENCODE = url("tabular", "encode")
SCORES = url("tabular", "anomaly-score")
OUTCOMES = {"ok", "invalid", "rejected", "expired", "client_gone", "failed", "unavailable"}
MODEL = {"model", "version"}
OPERATION = MODEL | {"operation"}
LABELS = {
    "hourglass_http_responses_total": {"route", "status"},
    "hourglass_connections": set(),
    "hourglass_connections_cut_total": {"reason"},
    "hourglass_requests_total": OPERATION | {"outcome"},
    "hourglass_rows_total": OPERATION,
    "hourglass_request_seconds_count": OPERATION,
    "hourglass_parse_seconds_count": OPERATION,
    "hourglass_queue_seconds_count": OPERATION,
    "hourglass_infer_seconds_count": OPERATION,
    "hourglass_render_seconds_count": OPERATION,
    "hourglass_batch_rows_count": OPERATION,
    "hourglass_batches_total": OPERATION | {"reason"},
    "hourglass_queue_rows": OPERATION,
    "hourglass_queue_limit_rows": OPERATION,
    "hourglass_configured_device_info": {"device"},
    "hourglass_anomaly_score_ratio_count": MODEL,
    "hourglass_anomalies_total": MODEL,
    "hourglass_domain_rows_total": MODEL | {"domain"},
    "hourglass_model_info": MODEL | {"provider", "device", "precision"},
    "hourglass_model_ready": MODEL,
    "hourglass_graph_nodes": OPERATION | {"provider"},
}


@pytest.fixture(scope="module")
def registry():
    return CollectorRegistry()


@pytest.fixture(scope="module")
def client(zoo, tmp_path_factory, registry):
    """Few models, for every one of them makes a scrape longer."""
    folder = tmp_path_factory.mktemp("few-models")
    for name in ("tabular/1", "plain/1", "poison/1", "aged/9", "aged/10"):
        shutil.copytree(zoo / name, folder / name)
    app = create_app(Settings(models=folder, device="cpu"), registry=registry)
    with TestClient(app, raise_server_exceptions=False) as client:
        for _ in range(int(WAIT_S / 0.005)):
            if client.get("/readyz").status_code == 200:
                break
            threading.Event().wait(0.005)
        yield client


@pytest.fixture(scope="module")
def scraped(client):
    """Every sample of one scrape, after a request."""
    client.get("/livez")
    return wire.scrape(client.get("/metrics").text)


class Watch:
    """How far a sample has moved since this began to look."""

    def __init__(self, registry, name, labels):
        # without the way over text: that of a whole scrape takes a tenth of a second
        self._collect = registry.restricted_registry([name]).collect
        self._name, self._labels = name, set(labels.items())
        self._before = self._read()

    @property
    def moved(self):
        return self._read() - self._before

    def _read(self):
        return sum(
            sample.value
            for family in self._collect()
            for sample in family.samples
            if sample.name == self._name and self._labels <= set(sample.labels.items())
        )


@pytest.fixture
def watch(registry):
    return lambda name, **labels: Watch(registry, name, labels)


def score(client, *rows, query=""):
    return client.post(SCORES + query, json={"inputs": list(rows)})


@pytest.mark.parametrize(("name", "labels"), LABELS.items(), ids=LABELS)
def test_a_metric_has_its_labels(scraped, name, labels):
    found = [set(dict(have)) for n, have in scraped if n == name]

    assert found
    assert all(have == labels for have in found)


@pytest.mark.parametrize(
    "name", ["process_resident_memory_bytes", "process_cpu_seconds_total", "python_info"]
)
def test_the_metrics_of_the_process_are_there(scraped, name):
    assert next(value for (found, _), value in scraped.items() if found == name) > 0


def test_no_metric_of_ours_is_unknown_to_the_contract(scraped):
    ours = {name for name, _ in scraped if name.startswith("hourglass_")}
    families = {name.removesuffix("_count") for name in LABELS}
    assert {name for name in ours if not any(name.startswith(known) for known in families)} == set()
    assert not {name for name in ours if name.endswith("_created")}


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("", "text/plain"),
        ("text/plain", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ],
)
def test_accept_chooses_the_format(client, accept, given):
    answer = client.get("/metrics", headers={"accept": accept})

    assert answer.headers["content-type"].startswith(given)
    assert answer.text.rstrip().endswith("# EOF") == (given != "text/plain")


@pytest.mark.parametrize("name", ["parse", "queue", "infer", "render", "request"])
def test_the_buckets_of_times_start_at_50_microseconds(scraped, name):
    edges = {
        float(dict(have)["le"]) for n, have in scraped if n == f"hourglass_{name}_seconds_bucket"
    }
    assert min(edges) == pytest.approx(50e-6)


@pytest.mark.parametrize("operation", ["encode", "decode", "reconstruct", "anomaly-score"])
def test_rows_answered_are_counted(client, watch, operation):
    rows = watch("hourglass_rows_total", model="tabular", operation=operation)
    row = ROW[:2] if operation == "decode" else ROW

    client.post(url("tabular", operation), json={"inputs": [row] * 3})

    assert rows.moved == 3


def test_rows_refused_are_not_counted(client, watch):
    rows = watch("hourglass_rows_total", model="tabular")

    client.post(ENCODE, json={"inputs": [[0, 0, 0, 7]] * 3})

    assert rows.moved == 0


@pytest.mark.parametrize("phase", ["request", "parse", "queue", "infer", "render"])
def test_each_phase_is_observed_once_a_request(client, watch, phase):
    phases = watch(f"hourglass_{phase}_seconds_count", model="tabular", operation="encode")

    for _ in range(3):
        client.post(ENCODE, json={"inputs": [ROW] * 2})

    assert phases.moved == 3


def test_a_run_is_counted_with_its_rows(client, watch):
    labels = {"model": "tabular", "operation": "encode"}
    runs = watch("hourglass_batch_rows_count", **labels)
    rows = watch("hourglass_batch_rows_sum", **labels)
    idle = watch("hourglass_batches_total", reason="idle", **labels)

    client.post(ENCODE, json={"inputs": [ROW] * 3})

    assert (runs.moved, rows.moved, idle.moved) == (1, 3, 1)


def test_a_large_request_goes_in_full_runs(tabular):
    with serve(tabular, max_batch_rows=64) as client:
        client.post(ENCODE, json={"inputs": [ROW] * (64 * 3 + 1)})
        runs = {
            reason: number(client, "hourglass_batches_total", reason=reason, operation="encode")
            for reason in ("full", "idle")
        }

    assert runs == {"full": 3, "idle": 1}


def test_a_run_that_waited_for_company_is_counted_as_such(tabular):
    with serve(tabular, queue_delay_ms=1) as client:
        client.post(ENCODE, json={"inputs": [ROW]})
        delayed = number(client, "hourglass_batches_total", reason="delay")

    assert delayed == 1


@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        pytest.param({"json": {"inputs": [ROW]}}, "ok", id="ok"),
        pytest.param({"json": {"inputs": []}}, "invalid", id="422"),
        pytest.param({"content": b"{"}, "invalid", id="415"),
        pytest.param({"content": b"{", "headers": {"content-type": JSON}}, "invalid", id="400"),
        pytest.param(
            {"json": {"inputs": [ROW]}, "headers": {"accept": "a/b"}}, "invalid", id="406"
        ),
        pytest.param(
            {"json": {"inputs": [ROW]}, "params": {"metric": "ssim"}}, "invalid", id="409"
        ),
        pytest.param(
            {"json": {"inputs": [ROW]}, "headers": {"x-request-timeout-ms": "x"}},
            "invalid",
            id="a broken header",
        ),
        pytest.param({"json": {"inputs": [ROW] * 5000}}, "invalid", id="413"),
    ],
)
def test_a_request_ends_in_exactly_one_outcome(client, watch, request_, outcome):
    name = "hourglass_requests_total"
    watches = {each: watch(name, model="tabular", outcome=each) for each in OUTCOMES}

    client.post(SCORES, **request_)

    moved = {each: watched.moved for each, watched in watches.items()}
    assert moved == dict.fromkeys(OUTCOMES, 0) | {outcome: 1}


def test_the_whole_request_is_timed_however_it_ends(client, watch):
    times = watch("hourglass_request_seconds_count", model="tabular")

    client.post(ENCODE, json={"inputs": []})

    assert times.moved == 1


def test_a_failed_request_is_counted(client, watch):
    failed = watch("hourglass_requests_total", model="poison", outcome="failed")

    client.post(url("poison", "encode"), json={"inputs": [[9, 0, 0, 0]]})

    assert failed.moved == 1


def test_an_operation_that_the_model_lacks_is_counted_as_invalid(tmp_path):
    golden = np.zeros((1, 4), np.float32)
    tiny.write(tmp_path, (tiny.keeping(4, 2)[0], None), golden, name="encoder")
    with serve(tmp_path) as client:
        client.post(url("encoder", "decode"), json={"inputs": [ROW]})
        invalid = number(client, "hourglass_requests_total", operation="decode", outcome="invalid")

    assert invalid == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param(url("nobody", "encode"), "404", id="an unknown model"),
        pytest.param(url("tabular", "encode", "7"), "404", id="an unknown version"),
        pytest.param(url("tabular", "encode", "x"), "409", id="an unknown label"),
    ],
)
def test_a_request_to_nobody_is_an_answer_and_no_request_of_a_model(client, watch, path, status):
    requests = watch("hourglass_requests_total")
    answers = watch("hourglass_http_responses_total", status=status)

    client.post(path, json={"inputs": [ROW]})

    assert (requests.moved, answers.moved) == (0, 1)


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("POST", ENCODE, "/v1/models/{model}/encode", 415),
        (
            "POST",
            url("tabular", "anomaly-score", "1"),
            "/v1/models/{model}/versions/{version}/anomaly-score",
            415,
        ),
        ("GET", ENCODE, "/v1/models/{model}/encode", 405),
        ("POST", url("nobody", "encode"), "/v1/models/{model}/encode", 404),
        ("GET", "/v1/models", "/v1/models", 200),
        ("GET", "/v1/models/tabular", "/v1/models/{model}", 200),
        ("GET", "/v1/models/nobody", "/v1/models/{model}", 404),
        ("GET", "/v1/models/tabular/versions/1", "/v1/models/{model}/versions/{version}", 200),
        ("POST", "/v1/models", "/v1/models", 405),
        ("GET", "/livez", "/livez", 200),
        ("GET", "/readyz", "/readyz", 200),
        ("GET", "/openapi.json", "/openapi.json", 200),
        ("GET", "/docs", "/docs", 200),
        ("GET", "/nothing/at/all", "unmatched", 404),
        ("GET", "/v1/models/tabular/classify", "unmatched", 404),
        ("BREW", "/nothing", "unmatched", 404),
    ],
)
def test_every_answer_is_counted_under_its_route(  # noqa: PLR0917 - a table
    client, watch, method, path, route, status
):
    answers = watch("hourglass_http_responses_total", route=route, status=str(status))

    client.request(method, path)

    assert answers.moved == 1


def test_a_scrape_is_counted_too(client, watch):
    answers = watch("hourglass_http_responses_total", route="/metrics", status="200")

    client.get("/metrics")

    assert answers.moved == 1


def test_the_labels_of_answers_come_from_closed_sets(client):
    routes = {
        *("/v1/models", "/v1/models/{model}", "/v1/models/{model}/versions/{version}"),
        *("/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/oauth2-redirect"),
        *("/static-offline-docs/{file}", "/static-offline-docs", "unmatched"),
    } | {
        f"/v1/models/{{model}}{versions}/{operation}"
        for versions in ("", "/versions/{version}")
        for operation in ("encode", "decode", "reconstruct", "anomaly-score")
    }
    for number_ in range(20):
        client.get(f"/{number_}")
        client.get(f"/static-offline-docs/{number_}")
        client.get(f"/v1/models/{number_}/versions/{number_}")
        client.get(f"/v1/models/{number_}/")
        client.get(f"/livez/{number_}")
        client.post(f"/v1/models/{number_}/encode")

    seen = {
        dict(have)["route"]
        for name, have in wire.scrape(client.get("/metrics").text)
        if name == "hourglass_http_responses_total"
    }
    assert seen <= routes


def test_anomalies_are_counted_by_the_default_threshold(client, watch):
    anomalies = watch("hourglass_anomalies_total", model="tabular")

    score(client, ROW, ODD, ODD)

    assert anomalies.moved == 2


@pytest.mark.parametrize("query", ["?threshold=0", "?threshold=99", "?false_positive_rate=0.9"])
def test_whatever_the_client_asks_does_not_change_what_is_counted(client, watch, query):
    anomalies = watch("hourglass_anomalies_total", model="tabular")
    ratios = watch("hourglass_anomaly_score_ratio_count", model="tabular")

    score(client, ROW, ODD, query=query)

    assert (anomalies.moved, ratios.moved) == (1, 2)


def test_the_ratio_is_the_score_by_the_default_threshold(client, watch):
    below = watch("hourglass_anomaly_score_ratio_bucket", model="tabular", le="1.0")
    total = watch("hourglass_anomaly_score_ratio_sum", model="tabular")

    answer = score(client, ROW, ODD, ROW).json()

    ratios = np.array(answer["scores"]) / answer["threshold"]
    assert below.moved == (ratios <= 1).sum() == 2
    assert total.moved == pytest.approx(ratios.sum(), rel=1e-4)


def test_without_calibration_no_ratio_is_observed(client, watch):
    ratios = watch("hourglass_anomaly_score_ratio_count", model="plain")

    client.post(url("plain", "anomaly-score"), json={"inputs": [ROW]})

    assert ratios.moved == 0


def test_other_operations_observe_no_ratio(client, watch):
    ratios = watch("hourglass_anomaly_score_ratio_count", model="tabular")

    client.post(url("tabular", "reconstruct"), json={"inputs": [ROW]})

    assert ratios.moved == 0


def test_what_is_loaded_is_told_with_the_place_where_it_runs(client):
    info = number(
        client,
        "hourglass_model_info",
        model="tabular",
        version="1",
        provider="CPUExecutionProvider",
        device="cpu",
        precision="float32",
    )

    assert info == 1


def test_every_version_that_serves_is_ready(client):
    text = client.get("/metrics").text

    ready = [
        wire.sample(text, "hourglass_model_ready", model="aged", version=version)
        for version in ("9", "10")
    ]
    assert ready == [1, 1]


def test_the_nodes_of_each_graph_are_told_as_on_the_card(client):
    nodes = client.get("/v1/models/tabular").json()["placement"]["graph_nodes"]

    text = client.get("/metrics").text
    labels = {"model": "tabular", "provider": "CPUExecutionProvider"}
    told = {
        operation: wire.sample(text, "hourglass_graph_nodes", operation=operation, **labels)
        for operation in nodes
    }

    assert told == {name: placed["CPUExecutionProvider"] for name, placed in nodes.items()}


def test_a_model_that_could_not_be_loaded_has_no_series(tmp_path):
    (tmp_path / "bad" / "1").mkdir(parents=True)
    with serve(tmp_path, ready=False) as client:
        text = client.get("/metrics").text

    assert 'model="bad"' not in text


@pytest.mark.anyio
async def test_rows_in_a_run_do_not_wait(tabular, workshop):
    async with running(tabular, sessions=workshop) as server:
        workshop.hold()
        first = asyncio.create_task(server.post(ENCODE, [ROW] * 3))
        await server.until("hourglass_batches_total", 1, operation="encode")
        in_the_run = await server.number("hourglass_queue_rows", operation="encode")
        second = asyncio.create_task(server.post(ENCODE, [ROW] * 2))
        await server.until_rows_wait(2)

        workshop.release()
        await asyncio.gather(first, second)
        at_last = await server.number("hourglass_queue_rows", operation="encode")

    assert (in_the_run, at_last) == (0, 0)


@pytest.mark.anyio
async def test_refused_expired_and_left_requests_are_counted_as_such(tabular, workshop):
    body = b'{"inputs": [[0, 0, 0, 0]]}'
    outcomes = ("ok", "rejected", "expired", "client_gone")
    async with running(tabular, sessions=workshop, max_queue_rows=2, max_request_rows=2) as server:
        workshop.hold()
        first = asyncio.create_task(server.post(ENCODE, [ROW]))
        await server.until("hourglass_batches_total", 1, operation="encode")
        connection = Connection([body])
        leaver = asyncio.create_task(
            server.send("POST", ENCODE, connection, {"content-type": JSON})
        )
        await server.until_rows_wait(1)
        expired = await server.post(ENCODE, [ROW], x_request_timeout_ms="20")
        rejected = await server.post(ENCODE, [ROW] * 2)
        connection.leave()
        left = await leaver
        workshop.release()
        await first
        counted = [
            await server.number("hourglass_requests_total", outcome=each) for each in outcomes
        ]

    assert [each.status_code for each in (expired, rejected, left)] == [504, 429, 0]
    assert counted == [1, 1, 1, 1]


@pytest.mark.parametrize(("operation", "limit"), [("encode", 40), ("decode", 0)])
def test_the_room_of_a_queue_is_told_and_an_operation_that_is_missing_has_none(
    tmp_path, operation, limit
):
    encoder, _ = tiny.keeping(4, 2)
    tiny.write(tmp_path, (encoder, None), np.zeros((1, 4), np.float32), name="half")
    with serve(tmp_path, max_queue_rows=40, max_request_rows=40) as client:
        told = number(client, "hourglass_queue_limit_rows", model="half", operation=operation)

    assert told == limit


def test_the_device_that_the_settings_ask_for_is_told(client):
    assert number(client, "hourglass_configured_device_info", device="cpu") == 1


def test_a_refused_request_shows_the_time_that_its_body_took(client, watch):
    parsed = watch("hourglass_parse_seconds_count", model="tabular", operation="encode")
    queued = watch("hourglass_queue_seconds_count", model="tabular", operation="encode")

    client.post("/v1/models/tabular/encode", json={"inputs": [[1]]})

    assert (parsed.moved, queued.moved) == (1, 0)
