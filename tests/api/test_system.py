"""Health: what lives, what is ready, and when not."""

import json
import re
import threading
from typing import Any

import pytest

from service.api.runtime import Lifecycle
from tests import tiny
from tests.api.asgi import Connection, running
from tests.api.conftest import Workshop
from tests.api.wire import url
from tests.conftest import serve
from tests.fakes import WAIT_S

ENCODE = url("tabular", "encode")
BODY = {"inputs": [[0.25, 0.5, 0.75, 1.0]]}


class Gate:
    """Makes real sessions, but not before it is opened."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._workshop = Workshop()

    def __call__(self, graph, device):
        assert self._event.wait(WAIT_S)
        return self._workshop(graph, device)

    def open(self):
        self._event.set()


def lifecycle_of(client: Any) -> Lifecycle:
    lifecycle: Lifecycle = client.app.state.lifecycle
    return lifecycle


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def damaged(tmp_path):
    """A good model and one whose graph is damaged."""
    tiny.write_tabular(tmp_path)
    tiny.write_tabular(tmp_path, name="bad")
    (tmp_path / "bad" / "1" / "encoder.onnx").write_bytes(b"damaged")
    return tmp_path


def when_settled(client):
    """Readiness as soon as no model is being loaded any more."""
    for _ in range(int(WAIT_S / 0.005)):
        ready = client.get("/readyz")
        if "loading" not in ready.text:
            return ready
        threading.Event().wait(0.005)
    raise AssertionError("still loading")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_server_with_all_its_models_is_well(client, path):
    answer = client.get(path)

    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "waiting_for": []}


def test_before_its_models_are_loaded_a_server_lives_and_is_not_ready(tabular, gate):
    with serve(tabular, sessions=gate, ready=False) as client:
        live, ready = client.get("/livez"), client.get("/readyz")
        gate.open()

    assert (live.status_code, ready.status_code) == (200, 503)
    assert ready.json()["waiting_for"] == ["tabular/1 is loading"]
    assert int(ready.headers["retry-after"]) >= 1


def test_a_server_becomes_ready_with_its_last_model(tabular, gate):
    with serve(tabular, sessions=gate, ready=False) as client:
        before = client.get("/readyz").status_code
        gate.open()
        after = when_settled(client).status_code

    assert (before, after) == (503, 200)


def test_metrics_and_the_document_are_there_before_the_models(tabular, gate):
    with serve(tabular, sessions=gate, ready=False) as client:
        answers = [client.get(path) for path in ("/metrics", "/openapi.json", "/v1/models")]
        gate.open()

    assert [answer.status_code for answer in answers] == [200, 200, 200]


def test_with_a_bad_package_a_server_is_not_ready_and_serves_the_others(damaged):
    with serve(damaged, ready=False) as client:
        ready = when_settled(client)
        answer = client.post(ENCODE, json=BODY)

    assert ready.status_code == 503
    assert ready.json()["waiting_for"] == ["bad/1 is failed"]
    assert answer.status_code == 200


@pytest.mark.parametrize("required", ["tabular", "tabular/1"])
def test_a_bad_package_that_is_not_required_does_not_matter(damaged, required):
    with serve(damaged, required_models=(required,), ready=False) as client:
        ready = when_settled(client)

    assert ready.status_code == 200


@pytest.mark.parametrize("required", ["nobody", "tabular/2"])
def test_without_a_required_model_a_server_is_not_ready(tabular, required):
    with serve(tabular, required_models=(required,), ready=False) as client:
        when_settled(client)
        ready = client.get("/readyz")

    assert ready.status_code == 503
    assert ready.json()["waiting_for"] == [f"{required} is not in the repository"]


def test_a_draining_server_is_not_ready_lives_and_answers(tabular):
    with serve(tabular) as client:
        lifecycle_of(client).is_draining = True
        live, ready = client.get("/livez"), client.get("/readyz")
        answer = client.post(ENCODE, json=BODY)

    assert (live.status_code, ready.status_code) == (200, 503)
    assert answer.status_code == 200


def test_a_draining_server_asks_its_clients_to_go_elsewhere(tabular):
    with serve(tabular) as client:
        lifecycle_of(client).is_draining = True
        answers = [client.post(ENCODE, json=BODY), client.get("/livez"), client.get("/nothing")]

    assert [answer.headers["connection"] for answer in answers] == ["close"] * 3


@pytest.mark.anyio
async def test_a_stopping_server_refuses_operations_and_says_when_to_come_back(tabular):
    async with running(tabular) as server:
        await server.registry.drain()
        body = Connection([json.dumps(BODY).encode()])
        answer = await server.send("POST", ENCODE, body, {"Content-Type": "application/json"})

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1


def test_the_docs_page_needs_no_other_host(client):
    page = client.get("/docs")

    assert page.status_code == 200
    assert re.findall(r"(?:https?:)?//[\w.]+", page.text) == []


def test_nothing_that_the_docs_page_loads_needs_another_host(client):
    page = client.get("/docs").text
    style = client.get(re.findall(r'href="([^"]+[.]css)"', page)[0]).text

    assert "@import" not in style
    assert {link[:5] for link in re.findall(r"url\(['\"]?([^)]*)", style)} <= {"data:"}
    assert '"validatorUrl": null' in page
    assert '"layout": "BaseLayout"' in page  # the other one shows a badge of a validator


def test_the_docs_page_shows_the_document_of_this_server(client):
    found = re.findall(r"url: '([^']+)'", client.get("/docs").text)

    assert found == ["/openapi.json"]
    assert client.get(found[0]).status_code == 200


def test_everything_that_the_docs_page_loads_is_there(client):
    page = client.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"#]+)"', page)

    assert links
    assert {client.get(link).status_code for link in links} == {200}


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_balancer_may_ask_for_health_without_a_body(client, path):
    answer = client.head(path)

    assert (answer.status_code, answer.content) == (200, b"")
