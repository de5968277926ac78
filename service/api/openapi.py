"""The OpenAPI document: FastAPI's own, and the hot path that it does not see."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api.errors import PROBLEM
from service.api.inputs import FORM, PICTURES
from service.api.openapi_v2 import add_open_inference
from service.api.options import Options, ScoreOptions
from service.api.schemas import (
    CodesAnswer,
    ProblemDetails,
    ReconstructionsAnswer,
    RowsBody,
    ScoreBody,
    ScoresAnswer,
)
from service.bodies.negotiation import JSON, NPY, PNG, RAW
from service.inference import operations
from service.repository.manifest import MODEL_NAME_PATTERN

_REF: Final = "#/components/schemas/{model}"

# what an operation does, its JSON body, its JSON answer, and whether it can answer in pictures
_OPERATIONS: Final[dict[str, tuple[str, type[BaseModel], type[BaseModel], bool]]] = {
    operations.ENCODE: ("Compress rows to codes.", RowsBody, CodesAnswer, False),
    operations.DECODE: ("Rebuild rows from codes.", RowsBody, ReconstructionsAnswer, True),
    operations.RECONSTRUCT: (
        "Send rows through encoder and decoder.", RowsBody, ReconstructionsAnswer, True
    ),
    operations.ANOMALY_SCORE: (
        "Score rows by their reconstruction error; as PNG a heat map of it.",
        ScoreBody, ScoresAnswer, True,
    ),
}  # fmt: skip

ERRORS: Final = {
    400: "Not parseable: broken JSON, npy, picture, form or header.",
    404: "Unknown model or version.",
    405: "An operation is asked for by POST.",
    406: "None of the formats in Accept can be given here.",
    409: "The model does not have this operation, metric or label.",
    413: "More bytes, rows or pixels than the server takes.",
    415: "Content-Type or Content-Encoding unknown, or not for this model.",
    422: "Parsed, but not what the model takes.",
    429: "The queue is full; Retry-After says when it is expected to have room.",
    500: "The model failed on these rows.",
    503: "Not ready, stopping, or the model is not loaded.",
    504: "The deadline passed, in the queue or during the run.",
}

_RETRY: Final = {429, 503}


def describe(app: FastAPI) -> dict[str, Any]:
    """Make the document once and keep it."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            license_info=app.license_info,
            tags=app.openapi_tags,
        )
        _add_schemas(document)
        _refer_to_problems(document)
        for operation in _OPERATIONS:
            for version in (False, True):
                _add_operation(document, operation, with_version=version)
        add_open_inference(document)
        app.openapi_schema = document
    return app.openapi_schema


def _add_schemas(document: dict[str, Any]) -> None:
    kinds: list[type[BaseModel]] = [ProblemDetails]
    for _, body, answer, _ in _OPERATIONS.values():
        kinds += [kind for kind in (body, answer) if kind not in kinds]
    _, definitions = models_json_schema([(kind, "validation") for kind in kinds], ref_template=_REF)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)


def _refer_to_problems(document: dict[str, Any]) -> None:
    """Replace FastAPI's own 422 by the answers that its routes really give."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            if "{model}" in path:
                operation["responses"].update(_errors([404, 409, 500, 503]))


def _add_operation(document: dict[str, Any], operation: str, *, with_version: bool) -> None:
    summary, body, answer, has_pictures = _OPERATIONS[operation]
    versions = "/versions/{version}" if with_version else ""
    document["paths"][f"/v1/models/{{model}}{versions}/{operation}"] = {
        "post": {
            "tags": ["operations"],
            "summary": summary,
            "operationId": operation.replace("-", "_") + ("_version" if with_version else ""),
            "parameters": _parameters(operation, with_version=with_version),
            "requestBody": {"required": True, "content": _contents(body, operation)},
            "responses": {
                "200": {
                    "description": "One result a row, in the order of the rows.",
                    "headers": _answer_headers(operation),
                    "content": _answers(answer, has_pictures=has_pictures),
                },
                **_errors(list(ERRORS)),
            },
        }
    }


def _parameters(operation: str, *, with_version: bool) -> list[dict[str, Any]]:
    path = [("model", {"type": "string", "pattern": f"^{MODEL_NAME_PATTERN}$"})]
    if with_version:
        path.append(("version", {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"}))
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema} for name, schema in path
    ]
    options = ScoreOptions if operation == operations.ANOMALY_SCORE else Options
    for name, schema in options.model_json_schema()["properties"].items():
        if name == "resize" and operation == operations.DECODE:
            continue
        text = schema.pop("description", "Bring a picture to the model's size (bicubic).")
        parameter = {"name": name, "in": "query", "description": text, "schema": schema}
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        parameters.append(parameter)
    headers = [
        ("X-Request-ID", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}),
        ("X-Request-Timeout-Ms", {"type": "integer", "minimum": 1, "maximum": 999_999_999}),
        ("X-Shape", {"type": "string", "examples": ["2,1,28,28"]}),
        ("Content-Encoding", {"type": "string", "enum": ["gzip", "deflate", "identity"]}),
    ]
    return parameters + [{"name": n, "in": "header", "schema": schema} for n, schema in headers]


def _contents(body: type[BaseModel], operation: str) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    contents = {JSON: _schema(body), NPY: binary, RAW: binary}
    if operation != operations.DECODE:
        files = {"type": "array", "items": binary["schema"], "minItems": 1}
        form = {"type": "object", "required": ["file"], "properties": {"file": files}}
        contents |= dict.fromkeys(PICTURES, binary) | {FORM: {"schema": form}}
    return contents


def _answers(answer: type[BaseModel], *, has_pictures: bool) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {JSON: _schema(answer), NPY: binary, RAW: binary} | (
        {PNG: binary} if has_pictures else {}
    )


def _answer_headers(operation: str) -> dict[str, Any]:
    names = {
        "X-Request-ID": "The request's id.",
        "X-Model-Version": "The version that answered.",
        "Server-Timing": "Milliseconds of parse, queue, infer and render.",
        "X-Shape": "Shape of a raw answer, batch axis first.",
        "X-Dtype": "Element type of a raw answer.",
    }
    if operation == operations.ANOMALY_SCORE:
        names |= {"X-Metric": "Metric of a binary answer.", "X-Threshold": "Its threshold."}
    return {
        name: {"description": text, "schema": {"type": "string"}} for name, text in names.items()
    }


def _errors(statuses: list[int]) -> dict[str, Any]:
    errors = {}
    for status in statuses:
        response: dict[str, Any] = {
            "description": ERRORS[status],
            "content": {PROBLEM: _schema(ProblemDetails)},
        }
        if status in _RETRY:
            wait = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            response["headers"] = {"Retry-After": wait}
        errors[str(status)] = response
    return errors


def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model=kind.__name__)}}
