"""The one table from error class to status, and the body that every error has (RFC 9457)."""

from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import orjson

from service.errors import (
    AllocationError,
    ClientGoneError,
    ConfigurationError,
    DeadlineExceededError,
    DeviceLostError,
    ForbiddenError,
    HourglassError,
    InferenceError,
    InvalidRowsError,
    LongHeadError,
    LongTargetError,
    MalformedBodyError,
    NotAcceptableError,
    OverloadedError,
    PackageError,
    RequestError,
    SlowRequestError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnknownModelError,
    UnsupportedMediaError,
    UnsupportedOperationError,
)

PROBLEM: Final = "application/problem+json"

# nobody reads an answer to a client that has left; nginx's number for it shows up in logs only
CLIENT_CLOSED_REQUEST: Final = 499

STATUS: Final[dict[type[HourglassError], int]] = {
    MalformedBodyError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    UnknownModelError: 404,
    NotAcceptableError: 406,
    SlowRequestError: 408,
    UnsupportedOperationError: 409,
    TooLargeError: 413,
    LongTargetError: 414,
    UnsupportedMediaError: 415,
    InvalidRowsError: 422,
    OverloadedError: 429,
    LongHeadError: 431,
    ClientGoneError: CLIENT_CLOSED_REQUEST,
    ConfigurationError: 500,
    InferenceError: 500,
    PackageError: 500,
    AllocationError: 503,
    DeviceLostError: 503,
    UnavailableError: 503,
    DeadlineExceededError: 504,
}

# fixed here: Python renames two of them in 3.13, and clients match on the type made of them
_TITLES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    CLIENT_CLOSED_REQUEST: "Client Closed Request",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

# how a request that ends in this status is counted in hourglass_requests_total
_OUTCOMES: Final = {
    429: "rejected",
    CLIENT_CLOSED_REQUEST: "client_gone",
    500: "failed",
    503: "unavailable",
    504: "expired",
}

# these pass, and say when to come back
_PASSING: Final = (OverloadedError, UnavailableError, AllocationError, DeviceLostError)

# of a whole problem, and of each of its texts
_MAX_BYTES: Final = 4096
_TEXT_MAX_BYTES: Final = 500

_WHERE: Final = ("row", "expected", "received")


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as an answer."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


def status_of(error: Exception) -> int:
    """Find the status of an error by its class or the nearest one above it."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def outcome_of(error: Exception) -> str:
    """Name how a request that ended in *error* is counted."""
    return _OUTCOMES.get(status_of(error), "invalid")


def problem_of(error: Exception, request_id: str) -> Problem:
    """Make the answer to an error; one that is not ours says nothing but 500."""
    status = status_of(error)
    fields: dict[str, Any] = {}
    detail = "the server failed on this request"
    if isinstance(error, HourglassError) and not isinstance(
        error, (PackageError, ConfigurationError)
    ):
        detail = str(error)
        fields = _fields(error)
    headers = []
    if isinstance(error, UnauthorizedError):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, _PASSING):
        headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after_s))))
    return make_problem(status, detail, request_id, fields=fields, headers=headers)


def make_problem(
    status: int,
    detail: str,
    request_id: str,
    *,
    fields: dict[str, Any] | None = None,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> Problem:
    """Make an answer of problem details; long texts are cut, so it stays under 4 KiB."""
    title = _TITLES.get(status, "Error")
    body = {
        "type": f"urn:hourglass:error:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": _cut(detail),
        "request_id": request_id,
        **_trimmed(fields or {}),
    }
    return Problem(
        status,
        _bounded(body),
        [(b"content-type", PROBLEM.encode()), *(headers or [])],
    )


def _fields(error: HourglassError) -> dict[str, Any]:
    """Say where it happened, and what else is wrong with the request."""
    fields = _where(error)
    if isinstance(error, RequestError) and error.others:
        faults = [error, *error.others]
        fields["faults"] = [{"detail": _cut(str(fault)), **_where(fault)} for fault in faults]
        if error.total is not None:
            fields["faults_total"] = error.total
    return fields


def _where(error: HourglassError) -> dict[str, Any]:
    return _trimmed({name: getattr(error, name, None) for name in _WHERE})


def _trimmed(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not known, and shorten what is long."""
    return {
        name: _cut(value) if isinstance(value, str) else value
        for name, value in fields.items()
        if value is not None
    }


def _bounded(body: dict[str, Any]) -> bytes:
    """Write a problem, with as many of its faults as there is room for."""
    data = orjson.dumps(body)
    while len(data) > _MAX_BYTES and body.get("faults"):
        body["faults"].pop()
        data = orjson.dumps(body)
    return data


def _cut(text: str) -> str:
    """Shorten a text, by the bytes that it will have; what cannot be printed becomes a space."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    data = text.encode()
    if len(data) <= _TEXT_MAX_BYTES:
        return text
    return data[: _TEXT_MAX_BYTES - 3].decode(errors="ignore") + "..."
