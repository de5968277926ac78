"""The table from error class to status, and the body that every error has."""

import inspect

import orjson
import pytest

from service import errors
from service.api.errors import (
    STATUS,
    make_problem,
    outcome_of,
    problem_of,
    status_of,
)
from service.errors import (
    AllocationError,
    ClientGoneError,
    ConfigurationError,
    DeadlineExceededError,
    DeviceLostError,
    DeviceUnavailableError,
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
    SlowRequestError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnknownModelError,
    UnsupportedMediaError,
    UnsupportedOperationError,
)
from service.metrics import OUTCOMES

CONTRACT = [
    (MalformedBodyError("x"), 400, "invalid"),
    (UnauthorizedError("x"), 401, "invalid"),
    (ForbiddenError("x", expected="y", key="z"), 403, "invalid"),
    (UnknownModelError("x"), 404, "invalid"),
    (NotAcceptableError("x"), 406, "invalid"),
    (SlowRequestError("x"), 408, "invalid"),
    (UnsupportedOperationError("x"), 409, "invalid"),
    (TooLargeError("x"), 413, "invalid"),
    (LongTargetError("x"), 414, "invalid"),
    (UnsupportedMediaError("x"), 415, "invalid"),
    (InvalidRowsError("x"), 422, "invalid"),
    (OverloadedError("x", retry_after_s=1), 429, "rejected"),
    (LongHeadError("x"), 431, "invalid"),
    (ClientGoneError("x"), 499, "client_gone"),
    (InferenceError("x"), 500, "failed"),
    (AllocationError("x"), 503, "unavailable"),
    (DeviceLostError("x"), 503, "unavailable"),
    (PackageError("x"), 500, "failed"),
    (ConfigurationError("x"), 500, "failed"),
    (DeviceUnavailableError("x"), 500, "failed"),
    (UnavailableError("x"), 503, "unavailable"),
    (DeadlineExceededError("x"), 504, "expired"),
    (RuntimeError("x"), 500, "failed"),
]

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, HourglassError)
]
LEAVES = [kind for kind in TREE if not kind.__subclasses__()]


def body_of(error: Exception) -> dict[str, object]:
    body: dict[str, object] = orjson.loads(problem_of(error, "id").body)
    return body


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_leaf_of_the_tree_has_a_row_in_the_table(leaf):
    rows = [kind for kind in leaf.__mro__ if kind in STATUS]

    assert rows
    assert rows[0] is not HourglassError


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_drawn_at_the_top_of_its_module(kind):
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("error", "status", "outcome"), CONTRACT, ids=lambda each: getattr(type(each), "__name__", "")
)
def test_an_error_has_its_status_and_outcome(error, status, outcome):
    assert status_of(error) == status
    assert outcome_of(error) == outcome
    assert outcome in OUTCOMES


def test_a_problem_has_the_fields_of_the_contract():
    error = InvalidRowsError("wrong", row=3, expected="this", received="that")

    assert body_of(error) == {
        "type": "urn:hourglass:error:unprocessable-content",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "wrong",
        "request_id": "id",
        "row": 3,
        "expected": "this",
        "received": "that",
    }


def test_the_first_row_is_named_too():
    assert body_of(InvalidRowsError("wrong", row=0))["row"] == 0


def test_what_is_not_known_is_left_out():
    assert body_of(InvalidRowsError("wrong")).keys() == {
        *("type", "title", "status", "detail", "request_id")
    }


@pytest.mark.parametrize("status", sorted({*STATUS.values(), 405} - {499}))
def test_a_type_is_a_urn_of_its_title(status):
    body = orjson.loads(make_problem(status, "x", "id").body)

    assert body["type"] == "urn:hourglass:error:" + body["title"].lower().replace(" ", "-")


@pytest.mark.parametrize(
    "error", [PackageError("/srv/models/x"), ConfigurationError("/srv"), RuntimeError("/srv")]
)
def test_what_is_none_of_the_clients_business_is_a_bare_500(error):
    body = body_of(error)

    assert body["detail"] == "the server failed on this request"
    assert "/srv" not in str(body)


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, b"1"), (0.001, b"1"), (1.0, b"1"), (1.01, b"2"), (90.0, b"90")]
)
@pytest.mark.parametrize("kind", [OverloadedError, UnavailableError])
def test_an_error_that_passes_says_when_in_whole_seconds(kind, seconds, header):
    problem = problem_of(kind("later", retry_after_s=seconds), "id")

    assert dict(problem.headers)[b"retry-after"] == header


@pytest.mark.parametrize("error", [AllocationError("x"), DeviceLostError("x")])
def test_a_lack_of_memory_and_a_lost_device_say_when_to_come_back(error):
    assert int(dict(problem_of(error, "id").headers)[b"retry-after"]) >= 1


@pytest.mark.parametrize("error", [InvalidRowsError("x"), InferenceError("x")])
def test_other_errors_say_nothing_of_coming_back(error):
    assert b"retry-after" not in dict(problem_of(error, "id").headers)


@pytest.mark.parametrize("letter", ["x", '"', "\n", "\0", "é", "字", "😀", "\ud800"])
def test_a_problem_of_long_texts_stays_under_four_kilobytes(letter):
    text = letter * 10_000

    problem = problem_of(InvalidRowsError(text, expected=text, received=text), "i" * 128)

    assert len(problem.body) <= 4096
    assert orjson.loads(problem.body)["detail"].endswith("...")


def test_who_has_no_key_is_told_how_one_is_sent_and_who_has_another_is_not():
    unauthorized = problem_of(UnauthorizedError("x"), "id")
    forbidden = problem_of(ForbiddenError("x", expected="y", key="z"), "id")

    assert dict(unauthorized.headers)[b"www-authenticate"] == b"Bearer"
    assert b"www-authenticate" not in dict(forbidden.headers)


def test_the_name_of_a_key_is_for_the_log_alone():
    assert b"somebody" not in problem_of(ForbiddenError("x", expected="y", key="somebody"), "").body


def test_an_inference_error_names_its_row():
    assert body_of(InferenceError("failed", row=7))["row"] == 7
