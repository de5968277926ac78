"""The OpenAPI document: FastAPI's own, and the hot path that it does not see."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api import calibrations
from service.api.calibrations import CalibrationBody, CalibrationOptions
from service.api.errors import PROBLEM
from service.api.examples import (
    ANSWERS,
    AT_PATHS,
    CALIBRATION,
    CALIBRATIONS,
    PROBLEMS,
    REQUESTS,
)
from service.api.gate import is_open
from service.api.inputs import FORM, PICTURES
from service.api.openapi_v2 import add_open_inference
from service.api.options import EncodeOptions, Options, RowOptions, ScoreOptions
from service.api.schemas import (
    CodesAnswer,
    EncodeBody,
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

_BINARY: Final[dict[str, Any]] = {"type": "string", "format": "binary"}

_FORM: Final = "PictureForm"

_PICTURE_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Pictures, one a row, in the order of the rows.",
    "required": ["file"],
    "properties": {"file": {"type": "array", "items": _BINARY, "minItems": 1}},
}

DESCRIPTION: Final = """\
Encode, decode, reconstruct and score rows with pretrained autoencoders.

**Rows.** The first axis is always the batch. A row comes in the shape that the model's card tells
(`GET /v1/models/{model}`, field `input`; for `decode` field `code`) or, where no axis is free,
flat. Rows of concurrent requests are run together; a bad row fails its own request alone.

**Bodies.** Rows come as JSON, as one NumPy array (`numpy.save`), as raw little-endian values, and
for picture models as a picture or a form of pictures. `Content-Type` says which.

**Answers.** `Accept` chooses between JSON (the default), a NumPy array, raw values and, for
picture models, a PNG.

**Keys.** A server may ask for an API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`. A key
is for `infer`, `manage` or `metrics`, or several of them; health and this document need none.

**Errors** are problem details (RFC 9457) of at most 4 KiB. They tell what was expected and which
row is to blame, but never repeat what was sent. After 408, 414 and 431 the connection is closed.
"""

TAGS: Final = [
    {"name": "operations", "description": "What a model does with rows."},
    {"name": "models", "description": "What is served, and what it needs."},
    {"name": "calibrations", "description": "What scores are judged by."},
    {"name": "open inference protocol", "description": "The protocol of KServe and Triton."},
    {"name": "system", "description": "For machines that watch the service."},
]

# what an operation does, its JSON body, its JSON answer, and whether it can answer in pictures
_OPERATIONS: Final[dict[str, tuple[str, str, type[BaseModel], type[BaseModel], bool]]] = {
    operations.ENCODE: (
        "Compress rows to codes",
        "Gives for each row of the model's input its code, the few numbers that the decoder can"
        " rebuild it from. With the option `layer`, in the JSON body or in the query, `codes` holds"
        " what that layer makes of each row instead, and `layer` names it. Where the card lists"
        " `further_outputs`, a JSON answer without a layer has each as a further field, one value a"
        " row; as an array the answer holds the codes alone.",
        EncodeBody, CodesAnswer, False,
    ),
    operations.DECODE: (
        "Rebuild rows from codes",
        "Takes rows of the model's code, such as `encode` gives, and gives for each the row that it"
        " stands for, in the input's units and layout. Pictures come as a PNG if that is asked for:"
        " several of them as one contact sheet.",
        RowsBody, ReconstructionsAnswer, True,
    ),
    operations.RECONSTRUCT: (
        "Send rows through encoder and decoder",
        "Gives for each row what is left of it after its code: what the model knows of it. Pictures"
        " come as a PNG if that is asked for: several of them as one contact sheet.",
        RowsBody, ReconstructionsAnswer, True,
    ),
    operations.ANOMALY_SCORE: (
        "Score rows by their reconstruction error",
        "High is abnormal, always. Beside the scores stand a threshold and what follows from it, by"
        " a calibration on normal rows. As PNG the answer is a heat map of the error, on a scale"
        " fixed by the calibration; as an array it holds the scores alone. Options may stand in the"
        " JSON body or in the query, but none in both; `threshold` excludes `false_positive_rate`,"
        " `method` and `include=uncertain`.",
        ScoreBody, ScoresAnswer, True,
    ),
}  # fmt: skip

ERRORS: Final = {
    400: "Not parseable: broken JSON, npy, picture, form, compression or header.",
    401: "The server asks for an API key, and none was sent or one that it does not know.",
    403: "The API key is not for this; `expected` names the scope that it would take.",
    404: "Unknown model or version.",
    405: "Another method; `Allow` names those there are.",
    406: "None of the formats in Accept can be given here.",
    408: "Head or body of the request did not come in time.",
    409: "The model does not have this operation, metric, layer or label.",
    413: "More bytes, rows or pixels than the server takes.",
    414: "Path and query are too long.",
    415: "Content-Type or Content-Encoding unknown, or not for this model.",
    422: "Parsed, but not what the model takes: shape, dtype, values or options. `row` names the"
    " first wrong row, `faults` the first ten where there are several.",
    429: "The queue is full; `Retry-After` says when it is expected to have room.",
    431: "Too many headers, or too long ones.",
    500: "The model failed on these rows, `row` where it is known; nobody else's request fails.",
    503: "Not ready, stopping, the model is not loaded, there is no memory for the run, or the"
    " device is lost; `Retry-After` says when to ask again.",
    504: "The deadline passed, in the queue or during the run.",
}

_OPTIONS: Final[dict[str, type[Options]]] = {
    operations.ENCODE: EncodeOptions,
    operations.DECODE: RowOptions,
    operations.RECONSTRUCT: RowOptions,
    operations.ANOMALY_SCORE: ScoreOptions,
}

_OPEN_INFERENCE: Final = "/v2"

# what a request for a model's card can end in
_CARD_ERRORS: Final = (401, 403, 404, 405, 409, 500, 503)
# what making a calibration can end in beside that
_MAKING_ERRORS: Final = (400, 408, 413, 415, 422, 429, 504)
_LIST_ERRORS: Final = (401, 403, 405, 500)
_HEALTH_ERRORS: Final = (405, 500)

_KEYS: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_NO_KEY: Final[dict[str, list[str]]] = {}


def describe(app: FastAPI, *, needs_keys: bool) -> dict[str, Any]:
    """Make the document once and keep it.

    Args:
        app: What it is of.
        needs_keys: The server asks for them.
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=DESCRIPTION,
            routes=app.routes,
            license_info=app.license_info,
            tags=TAGS,
        )
        _add_schemas(document)
        _tell_what_fastapi_cannot(document)
        for operation in _OPERATIONS:
            for version in (False, True):
                _add_operation(document, operation, with_version=version)
        _add_calibrations(document)
        add_open_inference(document)
        _add_keys(document, needs_keys=needs_keys)
        app.openapi_schema = document
    return app.openapi_schema


def _add_schemas(document: dict[str, Any]) -> None:
    kinds: list[type[BaseModel]] = [ProblemDetails, CalibrationBody]
    for _, _, body, answer, _ in _OPERATIONS.values():
        kinds += [kind for kind in (body, answer) if kind not in kinds]
    _, definitions = models_json_schema([(kind, "validation") for kind in kinds], ref_template=_REF)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    schemas[_FORM] = _PICTURE_FORM
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)


def _tell_what_fastapi_cannot(document: dict[str, Any]) -> None:
    """Replace FastAPI's own 422 by what its routes really answer, with headers and examples."""
    for path, methods in document["paths"].items():
        if path.startswith(_OPEN_INFERENCE):  # has errors of its own
            continue
        for operation in methods.values():
            responses = operation["responses"]
            responses.pop("422", None)
            for status, example in AT_PATHS.get(path, {}).items():
                for content in responses[status]["content"].values():
                    content["example"] = example
            responses |= errors(_errors_at(path))
            for response in responses.values():
                response.setdefault("headers", {}).update(_REQUEST_ID)
            for parameter in operation.get("parameters", []):
                parameter.update(_PATH_PARAMETERS.get(parameter["name"], {}))
    document["paths"]["/readyz"]["get"]["responses"]["503"]["headers"] |= _RETRY_AFTER


def _errors_at(path: str) -> tuple[int, ...]:
    if is_open(path):
        return _HEALTH_ERRORS
    return _CARD_ERRORS if "{model}" in path else _LIST_ERRORS


def _add_calibrations(document: dict[str, Any]) -> None:
    """Tell what FastAPI does not know of calibrations: their bodies, options and errors."""
    paths = document["paths"]
    post = paths[calibrations.PATH]["post"]
    contents = _contents(CalibrationBody)
    contents[JSON]["example"] = {**REQUESTS[operations.ENCODE], "name": "after-the-overhaul"}
    post["requestBody"] = {"required": True, "content": contents}
    post.setdefault("parameters", []).extend(_options_of(CalibrationOptions))
    post["responses"] |= errors(_MAKING_ERRORS)
    for path in (calibrations.PATH, calibrations.PATH + calibrations.ACTIVE):
        for method, operation in paths[path].items():
            if method == "put":
                operation["responses"] |= errors((400, 422))
                operation["requestBody"]["content"][JSON]["example"] = CALIBRATIONS["active"]
            example = CALIBRATION if method == "post" else CALIBRATIONS
            answer = operation["responses"]["201" if method == "post" else "200"]
            answer["content"][JSON]["example"] = example


def _add_keys(document: dict[str, Any], *, needs_keys: bool) -> None:
    """Say once for all operations how a key is sent, and that health needs none.

    Said at each operation instead, generated clients would insist on a key for open servers too.
    """
    document["components"]["securitySchemes"] = _KEYS
    document["security"] = [*([] if needs_keys else [_NO_KEY]), *({name: []} for name in _KEYS)]
    for path in filter(is_open, document["paths"]):
        document["paths"][path]["get"]["security"] = []


def _add_operation(document: dict[str, Any], operation: str, *, with_version: bool) -> None:
    summary, description, body, answer, has_pictures = _OPERATIONS[operation]
    versions = "/versions/{version}" if with_version else ""
    which = "given" if with_version else "newest ready"
    document["paths"][f"/v1/models/{{model}}{versions}/{operation}"] = {
        "post": {
            "tags": ["operations"],
            "summary": summary + (", with a given version" if with_version else ""),
            "description": f"{description}\n\nThe {which} version of the model answers.",
            "operationId": operation.replace("-", "_") + ("_version" if with_version else ""),
            "parameters": _parameters(operation, with_version=with_version),
            "requestBody": {
                "description": "Rows, in one of these formats. The example is for a model of 4"
                " features and a code of 2.",
                "required": True,
                "content": _contents(body, operation),
            },
            "responses": {
                "200": {
                    "description": "One result a row, in the order of the rows.",
                    "headers": _answer_headers(operation),
                    "content": _answers(answer, operation, has_pictures=has_pictures),
                },
                **errors(tuple(ERRORS)),
            },
        }
    }


_PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "model": {
        "description": "Name of the model.",
        "schema": {"type": "string", "pattern": f"^{MODEL_NAME_PATTERN}$"},
    },
    "version": {
        "description": "Version of the model, a number without leading zeros.",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
    },
}

_REQUEST_HEADERS: Final = (
    (
        "X-Request-ID",
        "An id for logs, taken over when it matches `[A-Za-z0-9._-]{1,128}`, made otherwise.",
        {"type": "string"},
    ),
    (
        "X-Request-Timeout-Ms",
        "A deadline in milliseconds, shorter than the server's own.",
        {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    ),
    (
        "X-Shape",
        "Shape of raw rows, batch axis first; needed where the model has free axes.",
        {"type": "string", "pattern": "^[0-9]{1,11}(,[0-9]{1,11}){0,7}$"},
    ),
    (
        "Content-Encoding",
        "How the body is compressed: `gzip` or `deflate`. The limits hold for what comes out.",
        {"type": "string", "pattern": "^(gzip|x-gzip|deflate|identity|)$"},
    ),
    (
        "Accept-Encoding",
        "With `gzip` a large JSON answer comes compressed.",
        {"type": "string"},
    ),
)


def _parameters(operation: str, *, with_version: bool) -> list[dict[str, Any]]:
    names = ["model", *(["version"] if with_version else [])]
    parameters = [
        {"name": name, "in": "path", "required": True, **_PATH_PARAMETERS[name]} for name in names
    ]
    parameters += [
        option
        for option in _options_of(_OPTIONS[operation])
        if option["name"] != "resize" or operation != operations.DECODE
    ]
    return parameters + [
        {"name": name, "in": "header", "description": text, "schema": schema}
        for name, text, schema in _REQUEST_HEADERS
    ]


def _options_of(kind: type[Options]) -> list[dict[str, Any]]:
    properties = kind.model_json_schema()["properties"].items()
    return [_query_parameter(name, schema) for name, schema in properties]


def _query_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Make a parameter of an option; a query has no null, so the option is left out instead."""
    parameter = {"name": name, "in": "query", "description": schema.pop("description")}
    for kind in schema.pop("anyOf", ()):
        schema |= kind if kind != {"type": "null"} else {}
    if schema.get("default") is None:
        schema.pop("default", None)
    if schema["type"] == "array":
        parameter |= {"style": "form", "explode": False}
    return {**parameter, "schema": schema}


def _contents(body: type[BaseModel], operation: str | None = None) -> dict[str, Any]:
    example = {"example": REQUESTS[operation]} if operation in REQUESTS else {}
    content = {
        JSON: {**_schema(body), **example},
        NPY: {"schema": {**_BINARY, "description": "One array, as `numpy.save` writes it."}},
        RAW: {"schema": {**_BINARY, "description": "Little-endian values, row after row."}},
    }
    if operation == operations.DECODE:
        return content
    pictures = {kind: {"schema": _BINARY} for kind in PICTURES}
    return content | pictures | {FORM: {"schema": {"$ref": _REF.format(model=_FORM)}}}


def _answers(answer: type[BaseModel], operation: str, *, has_pictures: bool) -> dict[str, Any]:
    content = {
        JSON: {**_schema(answer), "example": ANSWERS[operation]},
        NPY: {"schema": _BINARY},
        RAW: {"schema": _BINARY},
    }
    return content | ({PNG: {"schema": _BINARY}} if has_pictures else {})


def _header(
    description: str, *, example: str | int, kind: str = "string", required: bool = False
) -> dict[str, Any]:
    always = {"required": True} if required else {}
    return {"description": description, **always, "schema": {"type": kind}, "example": example}


_REQUEST_ID: Final = {
    "X-Request-ID": _header("The request's id.", example="1d9d204e00000001", required=True)
}

_RETRY_AFTER: Final = {
    "Retry-After": _header("Seconds to wait.", example=1, kind="integer", required=True)
}

_ERROR_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": _header("How a key is sent.", example="Bearer", required=True)},
    405: {"Allow": _header("Methods that there are.", example="POST", required=True)},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}

_ANSWER_HEADERS: Final = _REQUEST_ID | {
    "X-Model-Version": _header("The version that answered.", example="1", required=True),
    "Server-Timing": _header(
        "Milliseconds of parse, queue, infer and render.",
        example="parse;dur=0.040, queue;dur=0.012, infer;dur=0.031, render;dur=0.016",
        required=True,
    ),
    "X-Shape": _header("Shape of a raw answer, batch axis first.", example="2,2"),
    "X-Dtype": _header("Element type of a raw answer.", example="float32"),
    "Content-Encoding": _header(
        "`gzip` where the client asked for it and the answer is large.", example="gzip"
    ),
    "X-Domain": _header(
        "How many rows are of the kind that the model knows, with include=domain or where the"
        " server always looks.",
        example="in=31, out=1",
    ),
    "Vary": _header("What chose the answer, for caches.", example="Accept, Accept-Encoding"),
}

_SCORE_HEADERS: Final = {
    "X-Metric": _header("Metric of an answer without room for it.", example="mse"),
    "X-Threshold": _header("Its threshold.", example="0.37015715"),
}


def _answer_headers(operation: str) -> dict[str, Any]:
    return _ANSWER_HEADERS | (_SCORE_HEADERS if operation == operations.ANOMALY_SCORE else {})


def errors(statuses: tuple[int, ...]) -> dict[str, Any]:
    """Describe the answers of these statuses."""
    return {
        str(status): {
            "description": ERRORS[status],
            "headers": _REQUEST_ID | _ERROR_HEADERS.get(status, {}),
            "content": {PROBLEM: {**_schema(ProblemDetails), "example": PROBLEMS[status]}},
        }
        for status in statuses
    }


def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model=kind.__name__)}}
