"""The app as a whole: its start and end, its logs, and the framework's own errors."""

import logging
from typing import Any

import pytest
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.errors import ConfigurationError, OverloadedError, UnknownModelError
from service.settings import Settings
from tests.api import wire
from tests.api.asgi import Connection, running
from tests.api.wire import problem, url
from tests.conftest import serve

ENCODE = url("tabular", "encode")
BODY = {"inputs": [[0.25, 0.5, 0.75, 1.0]]}
LOGGER = "service.api.records"


def lines(caplog) -> list[dict[str, Any]]:
    """The lines of the edge: one for each request that is logged."""
    return [vars(record) for record in caplog.records if record.name == LOGGER]


def test_a_repository_that_is_no_folder_stops_the_start(tmp_path):
    app = create_app(Settings(models=tmp_path / "nothing", device="cpu"))

    with pytest.raises(ConfigurationError, match="is not a folder"), TestClient(app):
        pass


def test_two_apps_share_nothing(tabular):
    with serve(tabular) as first, serve(tabular) as second:
        first.post(ENCODE, json=BODY)
        counts = [wire.number(each, "hourglass_rows_total") for each in (first, second)]

    assert counts == [1, 0]


def test_metrics_go_where_the_caller_wants_them(tabular):
    registry = CollectorRegistry()
    app = create_app(Settings(models=tabular, device="cpu"), registry=registry)

    with TestClient(app) as client:
        client.get("/livez")
        labels = {"route": "/livez", "status": "200"}
        answered = registry.get_sample_value("hourglass_http_responses_total", labels)

    assert answered == 1


@pytest.mark.anyio
async def test_at_the_end_sessions_are_closed(tabular, workshop):
    async with running(tabular, sessions=workshop):
        pass

    assert [session.is_closed for session in workshop.sessions] == [True] * 4


@pytest.mark.anyio
async def test_at_the_end_the_series_of_models_are_gone(tabular):
    async with running(tabular) as server:
        await server.post(ENCODE, BODY["inputs"])

    text = (await server.send("GET", "/metrics")).content.decode()
    assert 'model="tabular"' not in text


@pytest.mark.anyio
async def test_an_app_that_is_stopped_while_it_loads_ends(tabular, workshop):
    app = create_app(Settings(models=tabular, device="cpu"), sessions=workshop)

    async with app.app.router.lifespan_context(app.app):
        pass

    assert app.state.lifecycle.is_draining


@pytest.fixture
def extended(tabular):
    """The app with routes that go wrong in ways that ours do not."""
    app = create_app(Settings(models=tabular, device="cpu"))

    @app.app.get("/number/{number}")
    async def show_number(number: int, limit: int = 1) -> int:
        return number + limit

    @app.app.get("/overloaded")
    async def overloaded() -> None:
        raise OverloadedError("the queue is full", retry_after_s=2.5)

    @app.app.get("/unknown")
    async def unknown() -> None:
        raise UnknownModelError("no such model", received="x" * 5000)

    @app.app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a secret of the code")

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/number/seven", "/number/1?limit=many"])
def test_an_invalid_parameter_is_a_problem_that_repeats_nothing(extended, path):
    answer = extended.get(path)

    assert answer.status_code == 422
    problem(answer)
    assert "seven" not in answer.text
    assert "many" not in answer.text


def test_an_error_of_ours_is_the_same_problem_on_every_route(extended):
    answer = extended.get("/overloaded")

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "3"
    assert problem(answer)["detail"] == "the queue is full"


def test_a_long_text_is_cut(extended):
    answer = extended.get("/unknown")

    assert answer.status_code == 404
    assert len(problem(answer)["received"]) <= 500


def test_an_unknown_exception_of_a_route_is_a_bare_500(extended):
    answer = extended.get("/broken")

    assert answer.status_code == 500
    problem(answer)
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text


def test_an_unknown_exception_is_logged_with_its_trace(extended, caplog):
    extended.get("/broken", headers={"x-request-id": "mine"})

    line = lines(caplog)[-1]
    assert (line["levelname"], line["request_id"]) == ("ERROR", "mine")
    assert "a secret of the code" in str(line["exc_info"][1])


def test_failures_are_logged_and_successes_are_not(tabular, caplog):
    caplog.set_level(logging.INFO)
    with serve(tabular) as client:
        caplog.clear()
        client.post(ENCODE, json=BODY)
        client.post(ENCODE, json={})

    assert [line["status"] for line in lines(caplog)] == [422]


def test_successes_are_logged_when_asked_for(tabular, caplog):
    caplog.set_level(logging.INFO)
    with serve(tabular, access_log=True) as client:
        caplog.clear()
        client.post(ENCODE, json=BODY, headers={"x-request-id": "mine"})

    line = lines(caplog)[-1]
    assert {name: line[name] for name in ("request_id", "method", "route", "status", "rows")} == {
        "request_id": "mine",
        "method": "POST",
        "route": "/v1/models/{model}/encode",
        "status": 200,
        "rows": 1,
    }
    assert (line["model"], line["version"]) == ("tabular", "1")
    assert line["seconds"] > 0


def test_the_log_tells_what_was_wrong_and_no_value_of_the_request(tabular, caplog):
    caplog.set_level(logging.INFO)
    with serve(tabular) as client:
        caplog.clear()
        client.post(ENCODE, json={"inputs": [["my-secret", 0, 0, 0]]})

    line = lines(caplog)[-1]
    assert line["fault"] == "a row holds something else than numbers"
    assert "my-secret" not in str(line)


def test_an_expired_request_is_logged_as_an_error(tabular, workshop, caplog):
    with serve(tabular, sessions=workshop) as client:
        workshop.hold()
        client.post(ENCODE, json=BODY, headers={"x-request-timeout-ms": "20"})

    assert lines(caplog)[-1]["levelname"] == "ERROR"


def test_a_clients_fault_is_logged_as_a_warning(tabular, caplog):
    caplog.set_level(logging.INFO)
    with serve(tabular) as client:
        client.post(ENCODE, json={})

    assert lines(caplog)[-1]["levelname"] == "WARNING"


@pytest.mark.anyio
async def test_a_client_that_left_is_logged_without_a_status(tabular, caplog):
    caplog.set_level(logging.INFO)
    gone = Connection([], is_complete=False)
    gone.leave()
    async with running(tabular) as server:
        await server.send("POST", ENCODE, gone, {"content-type": "application/json"})

    line = next(line for line in lines(caplog) if line["msg"] == "client left")
    assert line["status"] is None


@pytest.mark.anyio
async def test_an_answer_that_breaks_off_is_logged_and_gets_no_second_start(tabular, caplog):
    async def half():
        yield b"half"
        raise RuntimeError("the other half is missing")

    async with running(tabular) as server:
        server.app.app.add_api_route("/half", lambda: StreamingResponse(half()))
        answer = await server.send("GET", "/half")

    assert (answer.status_code, answer.content) == (200, b"half")
    assert "the other half is missing" in caplog.text


@pytest.mark.anyio
async def test_what_is_no_http_is_left_to_the_framework(tabular):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    async with running(tabular) as server:
        scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "state": {}}
        await server.app(scope, receive, send)

    assert sent == ["websocket.close"]


def test_readiness_is_logged_once_the_models_are_there(tabular, caplog):
    caplog.set_level(logging.INFO)
    with serve(tabular):
        pass

    assert "ready" in [record.message for record in caplog.records if record.name == "service.app"]
