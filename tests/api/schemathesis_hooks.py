"""What a client knows beyond the OpenAPI document; loaded by schemathesis in its own process.

A document cannot tell what depends on the model, or on two parts of a request at once. So a case
that is meant to be right gets rows of the model where its body is binary, a body in the coding that
its header names, and options that do not contradict each other. What is meant to be wrong goes out
as it was made.
"""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import schemathesis
from schemathesis import Case as AnyCase, HookContext, SerializationContext
from schemathesis.transport.requests import REQUESTS_TRANSPORT

from tests.api import wire
from tests.api.contract import ROWS
from tests.api.wire import JSON, NPY, RAW

Case: TypeAlias = AnyCase[Any]

FORM = "multipart/form-data"
PICTURES = ("image/png", "image/jpeg", "image/webp")

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}

COUNT = 2

# no deadline passes, however busy the machine is
PATIENCE_MS = 10_000

# where it is 0, all of the body is rows
LENGTH_OF_JSON = "Inference-Header-Content-Length"

UNKNOWN = "x-schemathesis-unknown-property"

as_form = REQUESTS_TRANSPORT._serializers[FORM]
as_bytes = REQUESTS_TRANSPORT._serializers[RAW]


def is_right(case: Case) -> bool:
    """Whether the case is meant to be right, and one of an operation on rows."""
    is_operation = ROWS in case.operation.definition.raw
    return is_operation and case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Leave out a header that nobody knows: RFC 9110, section 5.1, has it passed over."""
    return UNKNOWN not in case.headers


@schemathesis.hook
def map_case(context: HookContext, case: Case) -> Case:
    """Settle what depends on two parts of a request."""
    settle(case)
    return case


@schemathesis.hook
def before_add_examples(context: HookContext, examples: list[Case]) -> None:
    """The same for cases that are put together from the examples of the document."""
    for case in examples:
        settle(case)


def settle(case: Case) -> None:
    given = str(case.headers.get("X-Request-Timeout-Ms", ""))
    if given.isdecimal() and 0 < int(given) < PATIENCE_MS:
        case.headers["X-Request-Timeout-Ms"] = str(PATIENCE_MS)
    if is_right(case):
        settle_headers(case)
        settle_options(case)


def settle_headers(case: Case) -> None:
    """Let the headers say what the body is."""
    if LENGTH_OF_JSON in case.headers or case.path.endswith("/infer"):
        case.headers.pop(LENGTH_OF_JSON, None)
        if case.media_type == RAW:
            case.headers[LENGTH_OF_JSON] = "0"
    if case.media_type == RAW and "X-Shape" in case.headers:
        case.headers["X-Shape"] = ",".join(map(str, (COUNT, *shape_of(case))))
    if case.media_type == FORM:
        case.headers.pop("Content-Encoding", None)


def settle_options(case: Case) -> None:
    """Leave out of the query what the body says, and of two that exclude each other one."""
    in_body = {*case.body} if isinstance(case.body, dict) else set()
    for name in in_body & {*case.query}:
        del case.query[name]
    if {"threshold", "false_positive_rate"} <= {*case.query} | in_body:
        case.query.pop("threshold", None)
        case.query.pop("false_positive_rate", None)
    if case.media_type in {JSON, NPY, RAW}:
        case.query.pop("resize", None)


def shape_of(case: Case) -> list[int]:
    shape: list[int] = case.operation.definition.raw[ROWS]["shape"]
    return shape


@REQUESTS_TRANSPORT.serializer(JSON)
def write_json(context: SerializationContext, value: Any) -> dict[str, Any]:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return {"data": coded(context.case, data)}


@REQUESTS_TRANSPORT.serializer(NPY, RAW, *PICTURES)
def write_binary(context: SerializationContext, value: Any) -> dict[str, Any]:
    case = context.case
    if not is_right(case):
        sent: dict[str, Any] = as_bytes(context, value)
        return sent
    rows = rows_of(case, value)
    if case.media_type == NPY:
        data = wire.npy(rows)
    elif case.media_type == RAW:
        data = rows.tobytes()
    else:
        data = drawn(rows[0], str(case.media_type).partition("/")[2].upper())
    return {"data": coded(case, data)}


@REQUESTS_TRANSPORT.serializer(FORM)
def write_form(context: SerializationContext, value: Any) -> dict[str, Any]:
    if is_right(context.case):
        value = {"file": [drawn(row, "PNG") for row in rows_of(context.case, value)]}
    sent: dict[str, Any] = as_form(context, value)
    return sent


def rows_of(case: Case, value: Any) -> np.ndarray:
    """Random rows of the model, others for every body that was made up."""
    rng = np.random.default_rng(len(repr(value)))
    return rng.random((COUNT, *shape_of(case)), np.float32)


def drawn(row: np.ndarray, kind: str) -> bytes:
    return wire.picture(np.rint(255 * row.reshape(row.shape[-2:])).astype(np.uint8), kind)


def coded(case: Case, data: bytes) -> bytes:
    code = CODINGS.get(case.headers.get("Content-Encoding", "")) if is_right(case) else None
    return data if code is None else code(data)
