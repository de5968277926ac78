"""The Open Inference Protocol in the OpenAPI document: what FastAPI does not know of it."""

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api.faces import DECODER
from service.api.gate import is_open
from service.api.open_inference import template_of
from service.api.open_inference_schemas import (
    IndexRequest,
    InferAnswer,
    InferRequest,
    Live,
    ModelReady,
    OpenError,
    Ready,
)
from service.api.protocol import ROOT
from service.bodies.negotiation import JSON, RAW
from service.repository.manifest import MODEL_NAME_PATTERN

_REF: Final = "#/components/schemas/{model}"

_ERRORS: Final = {
    400: "Not parseable: broken JSON or header, or lengths that are not those of the bytes.",
    401: "The server asks for an API key, and none was sent or one that it does not know.",
    403: "The API key is not for this.",
    404: "Unknown model or version.",
    405: "Another method is asked for here.",
    406: "None of the codings in Accept-Encoding can be given.",
    409: "The model does not have this output or label.",
    413: "More bytes or rows than the server takes.",
    415: "Content-Type or Content-Encoding unknown.",
    422: "Parsed, but not what the model takes.",
    429: "The queue is full; Retry-After says when it is expected to have room.",
    500: "The model failed on these rows.",
    503: "Not ready, stopping, or the model is not loaded.",
    504: "The deadline passed, in the queue or during the run.",
}

_RETRY: Final = frozenset({429, 503})

_OF_INFER: Final = tuple(_ERRORS)
_OF_A_KEY: Final = (401, 403)
_OF_A_MODEL: Final = (404, 409, 500, 503)
_OF_THE_INDEX: Final = (400, 413, 415, 422, 500, 504)

# the answers of these to a 503 are no errors
_NOT_READY: Final[dict[str, type[BaseModel]]] = {
    f"{ROOT}/health/live": Live,
    f"{ROOT}/health/ready": Ready,
    f"{ROOT}/models/{{model}}/ready": ModelReady,
    f"{ROOT}/models/{{model}}/versions/{{version}}/ready": ModelReady,
}

_TEXT: Final = {"type": "string"}
_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}


def add_open_inference(document: dict[str, Any]) -> None:
    """Complete *document*, which has the routes of FastAPI, by what the protocol adds."""
    _add_schemas(document, [OpenError, IndexRequest, InferRequest, InferAnswer])
    for path, methods in document["paths"].items():
        if path.startswith(ROOT):
            for operation in methods.values():
                _complete(path, operation)
    for with_version in (False, True):
        path = template_of(with_version=with_version)
        document["paths"][path] = {"post": _infer(with_version=with_version)}


def _add_schemas(document: dict[str, Any], kinds: list[type[BaseModel]]) -> None:
    _, made = models_json_schema([(kind, "validation") for kind in kinds], ref_template=_REF)
    document["components"]["schemas"].update(made["$defs"])


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Give an operation of FastAPI's the errors of the protocol, and its body."""
    responses = {
        status: response
        for status, response in operation["responses"].items()
        if status in {"200", "403"}
    }
    if path.endswith("/index"):
        responses |= _errors(_OF_THE_INDEX)
        body = {"schema": _ref(IndexRequest)}
        operation["requestBody"] = {"required": False, "content": {JSON: body}}
    elif "{model}" in path and "403" not in responses:
        responses |= _errors(_OF_A_MODEL)
    if not is_open(path):
        responses = _errors(_OF_A_KEY) | responses
    if path in _NOT_READY:
        responses["503"] = _error(503, _NOT_READY[path])
    for parameter in operation.get("parameters", []):
        if parameter["name"] == "model":
            parameter["schema"] = _name_schema()
    operation["responses"] = responses


def _infer(*, with_version: bool) -> dict[str, Any]:
    return {
        "tags": ["open inference protocol"],
        "summary": "Ask for any outputs of a model.",
        "description": "One output alone shares its runs with the operation of `/v1` that gives"
        " it. With `Inference-Header-Content-Length` the values of the input follow the JSON as"
        " little-endian bytes, or with 0 are the whole body.",
        "operationId": "infer" + ("_version" if with_version else ""),
        "parameters": _parameters(with_version=with_version),
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": _ref(InferRequest)}, RAW: _BYTES},
        },
        "responses": {
            "200": {
                "description": "The outputs; as bytes behind the JSON where that was asked for.",
                "headers": _answer_headers(),
                "content": {JSON: {"schema": _ref(InferAnswer)}, RAW: _BYTES},
            },
            **_errors(_OF_INFER),
        },
    }


def _parameters(*, with_version: bool) -> list[dict[str, Any]]:
    in_path = [("model", _name_schema())]
    if with_version:
        in_path.append(("version", {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"}))
    in_headers: list[tuple[str, dict[str, Any]]] = [
        ("X-Request-ID", {"type": "string"}),
        ("X-Request-Timeout-Ms", {"type": "integer", "minimum": 1, "maximum": 999_999_999}),
        ("Inference-Header-Content-Length", {"type": "integer", "minimum": 0}),
        ("Content-Encoding", {"type": "string", "pattern": "^(gzip|x-gzip|deflate|identity|)$"}),
        ("Accept-Encoding", {"type": "string", "examples": ["gzip"]}),
        ("X-Shape", {"type": "string", "examples": ["2,1,28,28"]}),
    ]
    return [
        {"name": name, "in": "path", "required": True, "schema": schema} for name, schema in in_path
    ] + [{"name": name, "in": "header", "schema": schema} for name, schema in in_headers]


def _answer_headers() -> dict[str, Any]:
    texts = {
        "X-Request-ID": "The request's id.",
        "X-Model-Version": "The version that answered.",
        "Server-Timing": "Milliseconds of parse, queue, infer and render.",
        "Inference-Header-Content-Length": "Length of the JSON, where bytes follow it.",
        "Content-Encoding": "gzip, where it was asked for and is worth its time.",
    }
    return {name: {"description": text, "schema": _TEXT} for name, text in texts.items()}


def _name_schema() -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{MODEL_NAME_PATTERN}({DECODER.replace('.', '[.]')})?$"}


def _errors(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): _error(status, OpenError) for status in statuses}


def _error(status: int, body: type[BaseModel]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": _ERRORS[status],
        "content": {JSON: {"schema": _ref(body)}},
    }
    if status == 401:  # noqa: PLR2004
        how = {"description": "How a key is sent.", "schema": _TEXT, "example": "Bearer"}
        response["headers"] = {"WWW-Authenticate": how}
    if status in _RETRY:
        wait = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        response["headers"] = {"Retry-After": wait}
    return response


def _ref(kind: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=kind.__name__)}
