"""The headers of requests and answers."""

import re

import numpy as np
import pytest

from tests.api.wire import JSON, NPY, PNG, RAW, problem, url

ENCODE = url("tabular", "encode")
BODY = {"inputs": [[0.25, 0.5, 0.75, 1.0]]}
PATHS = [
    pytest.param("POST", ENCODE, id="an operation"),
    pytest.param("GET", ENCODE, id="a wrong method"),
    pytest.param("POST", "/v1/models/nobody/encode", id="an unknown model"),
    pytest.param("GET", "/nothing", id="an unknown path"),
    pytest.param("GET", "/v1/models", id="the models"),
    pytest.param("GET", "/livez", id="health"),
    pytest.param("GET", "/metrics", id="metrics"),
    pytest.param("GET", "/openapi.json", id="the document"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_harmless_request_id_is_taken_over(client, method, path):
    answer = client.request(method, path, headers={"x-request-id": "Ab.9_-"})

    assert answer.headers.get_list("x-request-id") == ["Ab.9_-"]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_a_request_id_one_is_made(client, method, path):
    ids = {client.request(method, path).headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", each) for each in ids)


@pytest.mark.parametrize(
    "harmful",
    ["", "with space", "a" * 129, "line\tfeed", 'quote"', "a;b", "slash/", "percent%41", b"\xe9"],
)
def test_a_request_id_that_could_do_harm_is_replaced(client, harmful):
    answer = client.post(ENCODE, json=BODY, headers={"x-request-id": harmful})

    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])


def test_a_request_id_of_the_longest_length_is_taken_over(client):
    answer = client.get("/livez", headers={"x-request-id": "a" * 128})

    assert answer.headers["x-request-id"] == "a" * 128


def test_the_request_id_stands_in_the_body_of_an_error(client):
    answer = client.get("/nothing", headers={"x-request-id": "mine"})

    assert problem(answer)["request_id"] == "mine"


@pytest.mark.parametrize("timeout", ["60000", "999999999", "5000"])
def test_a_deadline_is_understood(client, timeout):
    answer = client.post(ENCODE, json=BODY, headers={"x-request-timeout-ms": timeout})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "timeout", ["", "0", "000", "-5", "1.5", "1e3", "soon", "1000 ", "+5", "9" * 10, b"\xb2"]
)
def test_a_broken_deadline_is_400(client, timeout):
    answer = client.post(ENCODE, json=BODY, headers={"x-request-timeout-ms": timeout})

    assert answer.status_code == 400
    assert problem(answer)["expected"] == "milliseconds"


@pytest.mark.parametrize("operation", ["encode", "reconstruct", "anomaly-score"])
@pytest.mark.parametrize("accept", [JSON, NPY, RAW])
def test_server_timing_gives_four_phases_in_milliseconds(client, operation, accept):
    answer = client.post(url("tabular", operation), json=BODY, headers={"accept": accept})

    phases = answer.headers["server-timing"].split(", ")
    names = [re.fullmatch(r"(\w+);dur=\d+\.\d{3}", phase) for phase in phases]
    assert [name and name[1] for name in names] == ["parse", "queue", "infer", "render"]


@pytest.mark.parametrize("accept", [JSON, NPY, RAW, PNG])
def test_the_version_that_answered_is_named(client, accept):
    answer = client.post(
        url("picture", "reconstruct"),
        json={"inputs": np.zeros((1, 16)).tolist()},
        headers={"accept": accept},
    )

    assert answer.headers["x-model-version"] == "1"


def test_a_raw_answer_names_its_shape_and_dtype(client):
    answer = client.post(
        url("picture", "encode"),
        json={"inputs": np.zeros((3, 16)).tolist()},
        headers={"accept": RAW},
    )

    assert answer.headers["x-shape"] == "3,1,4,4"
    assert answer.headers["x-dtype"] == "float32"


@pytest.mark.parametrize("accept", [JSON, NPY])
def test_other_answers_need_no_shape(client, accept):
    answer = client.post(ENCODE, json=BODY, headers={"accept": accept})

    assert "x-shape" not in answer.headers
    assert "x-dtype" not in answer.headers


@pytest.mark.parametrize("accept", [JSON, NPY, RAW])
def test_the_length_of_an_answer_is_named(client, accept):
    answer = client.post(ENCODE, json=BODY, headers={"accept": accept})

    assert int(answer.headers["content-length"]) == len(answer.content)


def test_the_threshold_of_a_heat_map_is_named(client):
    answer = client.post(
        url("picture", "anomaly-score") + "?threshold=0.25",
        json={"inputs": np.zeros((1, 16)).tolist()},
        headers={"accept": PNG},
    )

    assert answer.headers["x-metric"] == "mse"
    assert float(answer.headers["x-threshold"]) == 0.25


def test_an_answer_says_nothing_of_closing_while_nothing_ends(client):
    answer = client.post(ENCODE, json=BODY)

    assert "connection" not in answer.headers
