"""The examples of the OpenAPI document are true: they are sent, and the answers compared."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from openapi_schema_validator import OAS31Validator

from service.api.examples import (
    ANSWERS,
    CARD,
    LIST,
    LIVE,
    LOST,
    MODEL,
    NOT_READY,
    PROBLEMS,
    REQUESTS,
)
from service.api.schemas import ModelCard
from service.errors import DeviceLostError
from service.keys import add_line, line_of, make_key
from tests import tiny
from tests.api.asgi import Connection, running, until
from tests.api.conftest import Workshop
from tests.api.wire import JSON, url
from tests.conftest import serve
from tests.fakes import WAIT_S

ENCODE = url(MODEL, "encode")
READINGS = [[0.25, 0.5, 0.0, 0.125]]
BAD_ROWS = [[0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0], [-1, 0, 0, 0]]
CONTENT = {"content-type": JSON}


@pytest.fixture(scope="module")
def pump(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pump")
    tiny.write_tabular(folder, name=MODEL)
    return folder


@pytest.fixture(scope="module")
def pumping(pump):
    with serve(pump) as client:
        yield client


@pytest.fixture(scope="module")
def document(pumping) -> dict[str, Any]:
    found: dict[str, Any] = pumping.get("/openapi.json").json()
    return found


def media(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body and answer of the document, by where it stands."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            sides = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for side, described in sides.items():
                for kind, content in described.get("content", {}).items():
                    yield f"{method} {path} {side} {kind}", content


def faults(schema: dict[str, Any], example: Any, document: dict[str, Any]) -> list[str]:
    whole = {**schema, "components": document["components"]}
    return [fault.message for fault in OAS31Validator(whole).iter_errors(example)]


def test_every_example_of_a_body_or_an_answer_is_valid(document):
    given = {where: each for where, each in media(document) if "example" in each}

    wrong = {
        where: faults(each["schema"], each["example"], document) for where, each in given.items()
    }
    assert len(given) > 100
    assert {where: found for where, found in wrong.items() if found} == {}


def test_every_body_and_answer_that_is_a_text_has_an_example(document):
    without = [where for where, each in media(document) if "example" not in each]

    assert {where for where in without if where.endswith("json") and "/v2" not in where} == set()
    assert {where for where in without if "text" in where} == set()


def test_every_example_of_a_header_is_valid(document):
    for path, methods in document["paths"].items():
        for operation in methods.values() if not path.startswith("/v2") else ():
            for answer in operation["responses"].values():
                for header in answer["headers"].values():
                    assert faults(header["schema"], header["example"], document) == []


@pytest.mark.parametrize("operation", REQUESTS)
def test_the_example_of_a_request_is_answered_by_the_example_of_its_answer(pumping, operation):
    answer = pumping.post(url(MODEL, operation), json=REQUESTS[operation])

    assert answer.json().keys() == ANSWERS[operation].keys()
    for name, value in ANSWERS[operation].items():
        if isinstance(value, list | float):  # the last bits are the processor's
            np.testing.assert_allclose(answer.json()[name], value, rtol=1e-5)
        else:
            assert answer.json()[name] == value


def test_the_other_examples_are_what_is_answered(pumping):
    assert pumping.get("/v1/models").json() == LIST
    assert pumping.get("/livez").json() == LIVE
    assert pumping.get("/readyz").json() == LIVE


def test_the_example_of_a_card_has_the_fields_of_a_real_one(pumping):
    card = pumping.get(f"/v1/models/{MODEL}").json()

    ModelCard.model_validate_json(json.dumps(CARD), strict=True)
    assert CARD.keys() == card.keys()
    for name in ("input", "code", "output", "placement", "calibration"):
        assert CARD[name].keys() == card[name].keys()


def told(status: int, answer: Any) -> None:
    """The answer has this status, and says what the example does."""
    assert answer.status_code == status
    found = answer.json()
    assert {**found, "request_id": ""} == {**PROBLEMS[status], "request_id": ""}


def test_every_problem_has_an_example_that_is_tried_here():
    tried = {400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 429, 500, 503, 504}
    from_the_connection = {408, 414, 431}

    assert PROBLEMS.keys() == tried | from_the_connection


@pytest.mark.parametrize(
    ("status", "method", "path", "request_"),
    [
        (400, "POST", ENCODE, {"content": b'{"inputs": [[0.25, NaN, 0, 0]]}', "headers": CONTENT}),
        (404, "POST", url("nobody", "encode"), {"json": {"inputs": READINGS}}),
        (405, "GET", ENCODE, {}),
        (406, "POST", ENCODE, {"json": {"inputs": READINGS}, "headers": {"accept": "text/html"}}),
        (409, "POST", url(MODEL, "anomaly-score"), {"json": {"inputs": READINGS, "metric": "x"}}),
        (413, "POST", ENCODE, {"json": {"inputs": READINGS * 4097}}),
        (415, "POST", ENCODE, {"content": b"0 1 0 1", "headers": {"content-type": "text/csv"}}),
        (422, "POST", ENCODE, {"json": {"inputs": BAD_ROWS}}),
    ],
)
def test_the_example_of_a_clients_fault_is_what_is_answered(
    pumping, status, method, path, request_
):
    told(status, pumping.request(method, path, **request_))


def test_the_examples_of_keys_are_what_is_answered(pump, tmp_path):
    key = make_key()
    add_line(tmp_path / "keys", line_of(key, "prometheus", "metrics"))
    body = {"inputs": READINGS}
    with serve(pump, api_keys_file=tmp_path / "keys") as client:
        without = client.post(ENCODE, json=body)
        another = client.post(ENCODE, json=body, headers={"x-api-key": key})

    told(401, without)
    told(403, another)


@pytest.mark.anyio
async def test_the_example_of_a_full_queue_is_what_is_answered(pump, workshop):
    async with running(pump, sessions=workshop, max_queue_wait_ms=1e9) as server:
        workshop.hold()
        running_now = asyncio.create_task(server.post(ENCODE, READINGS))
        await until(lambda: bool(workshop.batches))
        rows = np.zeros((4096, 4), np.float32).tobytes()
        headers = {"content-type": "application/octet-stream"}
        waiting = asyncio.create_task(server.send("POST", ENCODE, Connection([rows]), headers))
        await server.until_rows_wait(4096)

        answer = await server.post(ENCODE, READINGS)

        workshop.release()
        await asyncio.gather(running_now, waiting)
    told(429, answer)
    assert answer.headers["retry-after"]


def test_the_example_of_a_failure_is_what_is_answered(pump):
    workshop = Workshop(fails=lambda rows: bool((rows == 1).all(axis=1).any()))
    with serve(pump, sessions=workshop) as client:
        answer = client.post(ENCODE, json={"inputs": [[0] * 4, [0] * 4, [1] * 4]})

    told(500, answer)


def test_the_examples_of_a_model_that_is_being_loaded_are_what_is_answered(pump):
    may_load = threading.Event()
    workshop = Workshop()

    def slowly(graph, device):
        may_load.wait(WAIT_S)
        return workshop(graph, device)

    with serve(pump, sessions=slowly, ready=False) as client:
        try:
            answer, ready = client.post(ENCODE, json={"inputs": READINGS}), client.get("/readyz")
        finally:
            may_load.set()

    told(503, answer)
    assert (ready.status_code, ready.json()) == (503, NOT_READY)


def test_the_example_of_a_lost_device_is_what_is_answered(pump):
    def lose(_):
        raise DeviceLostError("the device failed")

    workshop = Workshop()
    with serve(pump, sessions=workshop) as client:
        for session in workshop.sessions:
            session.compute = lose
        client.post(ENCODE, json={"inputs": READINGS})

        answer = client.get("/livez")

    assert (answer.status_code, answer.json()) == (503, LOST)


def test_the_example_of_a_deadline_is_what_is_answered(pump, workshop):
    with serve(pump, sessions=workshop) as client:
        workshop.hold()

        answer = client.post(
            ENCODE, json={"inputs": READINGS}, headers={"x-request-timeout-ms": "30"}
        )

    told(504, answer)
