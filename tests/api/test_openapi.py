"""The OpenAPI document: whole, well formed, and true of real answers."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel

from service.api.errors import STATUS
from service.api.schemas import (
    CodesAnswer,
    Health,
    ModelCard,
    ModelList,
    ProblemDetails,
    ReconstructionsAnswer,
    ScoresAnswer,
)
from tests.api.wire import JSON, NPY, PNG, RAW, url

OPERATIONS = ("encode", "decode", "reconstruct", "anomaly-score")
PATHS = [
    f"/v1/models/{{model}}{versions}/{operation}"
    for versions, operation in product(("", "/versions/{version}"), OPERATIONS)
]
ERRORS = {
    *(
        "400",
        "401",
        "403",
        "404",
        "405",
        "406",
        "408",
        "409",
        "413",
        "414",
        "415",
        "422",
        "429",
        "431",
    ),
    *("500", "503", "504"),
}
PICTURES = {"image/png", "image/jpeg", "image/webp", "multipart/form-data"}


@pytest.fixture(scope="module")
def document(client) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert answer.headers["content-type"] == JSON
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def test_the_document_says_what_it_is(document):
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Hourglass"
    assert document["info"]["version"]
    assert document["info"]["license"]["identifier"] == "Apache-2.0"


def test_the_document_is_valid(document):
    assert [str(fault) for fault in OpenAPIV31SpecValidator(document).iter_errors()] == []


PINNED = "/v1/models/{model}/versions/{version}"


def test_every_path_of_the_contract_is_there(document):
    system = {"/livez", "/readyz", "/metrics"}
    models = {"/v1/models", "/v1/models/{model}", PINNED}

    found = {path for path in document["paths"] if not path.startswith("/v2")}
    calibrations = {f"{PINNED}/calibrations", f"{PINNED}/calibrations/active"}
    assert found == {*PATHS, *system, *models, *calibrations}


def test_every_reference_leads_somewhere(document):
    references = {node["$ref"] for node in nodes(document) if isinstance(node.get("$ref"), str)}

    assert references
    schemas = document["components"]["schemas"]
    assert {ref for ref in references if ref.rpartition("/")[2] not in schemas} == set()


def test_every_schema_is_referred_to(document):
    references = {
        node["$ref"].rpartition("/")[2]
        for node in nodes(document)
        if isinstance(node.get("$ref"), str)
    }

    assert set(document["components"]["schemas"]) == references


def test_the_names_of_operations_are_unique(document):
    names = [operation["operationId"] for operation in operations(document)]

    assert len(set(names)) == len(names)


def test_every_operation_has_a_summary_a_tag_and_described_answers(document):
    for operation in operations(document):
        assert operation["summary"]
        assert operation["tags"]
        assert {*operation["tags"]} <= {tag["name"] for tag in document["tags"]}
        assert all(answer["description"] for answer in operation["responses"].values())


def test_every_parameter_of_a_path_is_declared(document):
    for path, methods in document["paths"].items():
        wanted = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        for operation in methods.values():
            declared = [p for p in operation.get("parameters", []) if p["in"] == "path"]
            assert {each["name"] for each in declared} == wanted
            assert all(each["required"] for each in declared)


@pytest.mark.parametrize("path", PATHS)
def test_an_operation_and_each_of_its_parameters_is_described(document, path):
    operation = document["paths"][path]["post"]

    assert operation["description"].endswith(".")
    assert all(each["description"].endswith(".") for each in operation["parameters"])
    assert all(
        header["description"].endswith(".")
        for answer in operation["responses"].values()
        for header in answer["headers"].values()
    )


@pytest.mark.parametrize("path", PATHS)
def test_an_operation_lists_every_status_of_the_table_as_a_problem(document, path):
    responses = document["paths"][path]["post"]["responses"]

    assert responses.keys() == ERRORS | {"200"}
    for status in ERRORS:
        assert responses[status]["content"].keys() == {"application/problem+json"}


def test_no_status_of_the_table_of_errors_is_forgotten():
    sent = {str(status) for status in STATUS.values()} - {"499"}

    assert sent <= ERRORS


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("status", ["429", "503"])
def test_an_answer_to_come_back_later_has_its_header(document, path, status):
    response = document["paths"][path]["post"]["responses"][status]

    assert "Retry-After" in response["headers"]


OPEN = {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}


def test_every_path_but_health_may_ask_for_a_key(document):
    for path, methods in document["paths"].items():
        for operation in methods.values():
            asks = {"401", "403"} <= operation["responses"].keys()
            assert asks == (path not in OPEN)
            assert operation.get("security") == ([] if path in OPEN else None)
            header = operation["responses"].get("401", {}).get("headers", {})
            assert ("WWW-Authenticate" in header) == asks


def test_a_server_that_asks_for_no_keys_says_that_they_may_be_left_out(document):
    assert document["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    assert document["security"] == [{}, {"bearer": []}, {"apiKey": []}]


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_to_a_wrong_method_names_the_right_one(document, path):
    assert document["paths"][path]["post"]["responses"]["405"]["headers"]["Allow"]["required"]


def test_an_answer_not_to_be_ready_says_when_to_ask_again(document):
    assert "Retry-After" in document["paths"]["/readyz"]["get"]["responses"]["503"]["headers"]


def test_a_query_never_asks_for_null(document):
    for path in PATHS:
        for parameter in document["paths"][path]["post"]["parameters"]:
            assert "anyOf" not in parameter["schema"]
            assert parameter["schema"]["type"] != "null"


def test_every_path_of_ours_gives_the_id_of_the_request(document):
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for answer in operation["responses"].values():
                assert path.startswith("/v2") or answer["headers"]["X-Request-ID"]["required"]


@pytest.mark.parametrize("path", PATHS)
def test_an_operation_lists_every_body_that_it_takes(document, path):
    body = document["paths"][path]["post"]["requestBody"]

    pictures = set() if path.endswith("decode") else PICTURES
    assert body["required"]
    assert body["content"].keys() == {JSON, NPY, RAW} | pictures


@pytest.mark.parametrize("path", PATHS)
def test_an_operation_lists_every_answer_that_it_gives(document, path):
    answers = document["paths"][path]["post"]["responses"]["200"]["content"]

    assert answers.keys() == {JSON, NPY, RAW} | (set() if path.endswith("encode") else {PNG})


@pytest.mark.parametrize("path", PATHS)
def test_an_operation_lists_its_headers(document, path):
    operation = document["paths"][path]["post"]

    asked = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
    given = operation["responses"]["200"]["headers"].keys()
    assert asked == {
        *("X-Request-ID", "X-Request-Timeout-Ms", "X-Shape"),
        *("Content-Encoding", "Accept-Encoding"),
    }
    assert {"X-Request-ID", "X-Model-Version", "Server-Timing", "X-Shape", "X-Dtype"} <= given
    assert {"Content-Encoding", "Vary"} <= given


@pytest.mark.parametrize("versions", ["", "/versions/{version}"])
def test_scores_list_their_options_and_headers(document, versions):
    operation = document["paths"][f"/v1/models/{{model}}{versions}/anomaly-score"]["post"]

    options = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    assert options == {
        *("metric", "false_positive_rate", "threshold", "method"),
        *("explain", "include", "resize"),
    }
    assert {"X-Metric", "X-Threshold", "X-Domain"} <= operation["responses"]["200"][
        "headers"
    ].keys()


@pytest.mark.parametrize("schema", ["RowsBody", "EncodeBody", "ScoreBody"])
def test_a_json_body_needs_its_inputs_and_allows_nothing_unknown(document, schema):
    body = document["components"]["schemas"][schema]

    assert body["required"] == ["inputs"]
    assert body["additionalProperties"] is False


def test_pictures_are_not_resized_by_a_json_body(document):
    assert "resize" not in document["components"]["schemas"]["RowsBody"]["properties"]
    assert "resize" not in document["components"]["schemas"]["EncodeBody"]["properties"]
    assert "resize" not in document["components"]["schemas"]["ScoreBody"]["properties"]


def test_the_document_is_made_once(client):
    assert client.get("/openapi.json").content == client.get("/openapi.json").content


def assert_told(answer: Any, schema: type[BaseModel]) -> None:
    """The answer is valid, and holds no field that the schema does not tell of."""
    schema.model_validate(answer, strict=True)
    assert answer.keys() <= schema.model_fields.keys()
    required = {name for name, field in schema.model_fields.items() if field.is_required()}
    assert required <= answer.keys()


@pytest.mark.parametrize("model", ["tabular", "picture", "plain", "few"])
@pytest.mark.parametrize(
    ("operation", "schema"),
    [
        ("encode", CodesAnswer),
        ("decode", ReconstructionsAnswer),
        ("reconstruct", ReconstructionsAnswer),
        ("anomaly-score", ScoresAnswer),
    ],
)
def test_a_real_answer_is_as_its_schema_says(client, model, operation, schema):
    card = client.get(f"/v1/models/{model}").json()
    shape = card["code" if operation == "decode" else "input"]["shape"]
    inputs = np.full((2, *shape), 0.5).tolist()

    assert_told(client.post(url(model, operation), json={"inputs": inputs}).json(), schema)


def test_a_real_answer_with_everything_is_as_its_schema_says(client):
    body = {"inputs": [[0.5] * 4], "include": ["feature_errors"]}

    answer = client.post(url("tabular", "anomaly-score"), json=body).json()

    assert_told(answer, ScoresAnswer)
    assert "feature_errors" in answer


@pytest.mark.parametrize(
    "body", [{}, {"inputs": [[0, 0, 0, 7]]}, {"inputs": [[0]]}, {"inputs": []}, {"input": 1}]
)
def test_a_real_error_is_as_its_schema_says(client, body):
    assert_told(client.post(url("tabular", "encode"), json=body).json(), ProblemDetails)


@pytest.mark.parametrize(
    ("path", "schema"),
    [("/v1/models", ModelList), ("/livez", Health), ("/readyz", Health)],
)
def test_other_real_answers_are_as_their_schemas_say(client, path, schema):
    assert_told(client.get(path).json(), schema)


@pytest.mark.parametrize("model", ["tabular", "picture", "encoder", "any-size", "layered"])
def test_a_real_card_is_as_its_schema_says(client, model):
    answer = client.get(f"/v1/models/{model}")

    ModelCard.model_validate_json(answer.content, strict=True)
    assert answer.json().keys() == ModelCard.model_fields.keys()
