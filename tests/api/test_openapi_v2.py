"""The Open Inference Protocol in the OpenAPI document: whole, and true of real answers."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from service.api.open_inference_schemas import (
    IndexEntry,
    InferAnswer,
    InferRequest,
    Live,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    OpenError,
    Ready,
    ServerMetadata,
    StatisticsAnswer,
)
from tests.api.tensors import as_json, binary_request, infer_url, wanted

ROWS = np.full((2, 4), 0.5, np.float32)
OF_A_MODEL = [
    f"/v2/models/{{model}}{versions}{rest}"
    for versions, rest in product(
        ("", "/versions/{version}"), ("", "/ready", "/config", "/stats", "/infer")
    )
]
INFER = [path for path in OF_A_MODEL if path.endswith("/infer")]


@pytest.fixture(scope="module")
def document(client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_every_path_of_the_protocol_is_there(document):
    others = {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats"}
    repository = {
        "/v2/repository/index",
        "/v2/repository/models/{model}/load",
        "/v2/repository/models/{model}/unload",
    }

    found = {path for path in document["paths"] if path.startswith("/v2")}
    assert found == {*OF_A_MODEL, *others, *repository}


def test_every_error_below_it_has_its_form(document):
    forms = {
        content["schema"]["$ref"].rpartition("/")[2]
        for path, methods in document["paths"].items()
        if path.startswith("/v2")
        for operation in methods.values()
        for status, response in operation["responses"].items()
        if status >= "400"
        for media, content in response["content"].items()
        if media == "application/json"
    }

    assert forms == {"OpenError", "Live", "Ready", "ModelReady"}


@pytest.mark.parametrize("path", INFER)
def test_infer_lists_its_bodies_errors_and_headers(document, path):
    operation = document["paths"][path]["post"]

    both = {"application/json", "application/octet-stream"}
    assert operation["requestBody"]["content"].keys() == both
    assert operation["responses"]["200"]["content"].keys() == both
    assert operation["responses"].keys() == {
        *(
            "200",
            "400",
            "401",
            "403",
            "404",
            "405",
            "406",
            "409",
            "413",
            "415",
            "422",
            "429",
            "500",
            "503",
        ),
        "504",
    }
    asked = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
    assert {"Inference-Header-Content-Length", "X-Request-Timeout-Ms"} <= asked
    assert "Inference-Header-Content-Length" in operation["responses"]["200"]["headers"]


@pytest.mark.parametrize("path", OF_A_MODEL)
def test_the_name_of_a_model_may_be_that_of_its_decoder(document, path):
    for operation in document["paths"][path].values():
        (name,) = [each for each in operation["parameters"] if each["name"] == "model"]
        assert name["schema"]["pattern"].endswith("([.]decoder)?$")


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v2", ServerMetadata),
        ("/v2/health/live", Live),
        ("/v2/health/ready", Ready),
        ("/v2/models/mixed", ModelMetadata),
        ("/v2/models/any-size/ready", ModelReady),
        ("/v2/models/tabular.decoder/config", ModelConfig),
        ("/v2/models/stats", StatisticsAnswer),
        ("/v2/models/nobody", OpenError),
    ],
)
def test_a_real_answer_is_as_its_schema_says(client, path, schema):
    answer = client.get(path)

    schema.model_validate_json(answer.content, strict=True)
    assert answer.json().keys() == schema.model_fields.keys()


def test_a_real_index_is_as_its_schema_says(client):
    for entry in client.post("/v2/repository/index", content=b"").json():
        IndexEntry.model_validate(entry, strict=True)


@pytest.mark.parametrize("is_binary", [False, True])
def test_a_real_answer_of_infer_is_as_its_schema_says(client, is_binary):
    body, headers = binary_request(ROWS, id="1", outputs=wanted("score", is_binary=is_binary))

    answer = client.post(infer_url("tabular"), content=body, headers=headers)

    length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    told = InferAnswer.model_validate_json(answer.content[:length], strict=True)
    assert (told.outputs[0].data is None) == is_binary


def test_a_request_as_the_schema_has_it_is_answered(client):
    body = InferRequest.model_validate(
        {"inputs": [as_json(ROWS)], "outputs": wanted("code")}, strict=True
    )

    answer = client.post(infer_url("tabular"), content=body.model_dump_json(exclude_none=True))

    assert answer.status_code == 200


def test_a_request_with_every_field_empty_is_answered(client):
    """A generated client may write what is not set as null."""
    body = InferRequest.model_validate({"inputs": [as_json(ROWS)]}, strict=True)

    answer = client.post(infer_url("tabular"), content=body.model_dump_json())

    assert answer.status_code == 200
