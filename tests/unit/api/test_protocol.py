"""The form of errors below ``/v2``: one text, with the status and headers of any other error."""

import orjson
import pytest

from service.api.errors import STATUS, make_problem, problem_of
from service.api.protocol import in_form_of, is_open_inference, open_problem
from service.errors import InvalidRowsError, OverloadedError


def text_of(problem):
    body = orjson.loads(problem.body)
    assert body.keys() == {"error"}
    return body["error"]


@pytest.mark.parametrize(
    ("path", "is_so"),
    [
        ("/v2", True),
        ("/v2/", True),
        ("/v2/models/x/infer", True),
        ("/v2x", False),
        ("/v22/models", False),
        ("/v1/models", False),
        ("/", False),
        ("", False),
        ("/mounted/v2", False),
    ],
)
def test_a_path_is_known_by_its_first_part(path, is_so):
    assert is_open_inference({"path": path}) == is_so


def test_what_a_mount_puts_before_a_path_does_not_count():
    assert is_open_inference({"path": "/mounted/v2", "root_path": "/mounted"})


def test_an_error_is_told_in_one_sentence():
    error = InvalidRowsError("wrong", row=3, expected="this", received="that")

    assert text_of(open_problem(problem_of(error, "id"))) == (
        "wrong (row 3; expected this; received that)"
    )


def test_what_is_not_known_is_left_out():
    assert text_of(open_problem(problem_of(InvalidRowsError("wrong"), "id"))) == "wrong"


def test_status_and_headers_stay_but_for_the_type():
    problem = problem_of(OverloadedError("full", retry_after_s=7), "id")

    told = open_problem(problem)

    assert told.status == 429
    assert told.headers == [(b"content-type", b"application/json"), (b"retry-after", b"7")]


def test_an_unknown_error_says_nothing():
    assert text_of(open_problem(problem_of(RuntimeError("/srv"), "id"))) == (
        "the server failed on this request"
    )


@pytest.mark.parametrize("letter", ["x", '"', "\n", "é"])
def test_long_texts_stay_under_four_kilobytes(letter):
    text = letter * 10_000

    problem = problem_of(InvalidRowsError(text, expected=text, received=text), "i" * 128)

    assert len(open_problem(problem).body) <= 4096


@pytest.mark.parametrize("status", sorted({*STATUS.values(), 405} - {499}))
def test_elsewhere_errors_keep_their_form(status):
    problem = make_problem(status, "x", "id")

    assert in_form_of({"path": "/v1/models"}, problem) is problem
    assert in_form_of({"path": "/v2/models"}, problem).status == status
