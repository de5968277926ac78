"""JSON bodies, beside Python's own reader."""

import json as plain_json
import re
from typing import Any

from service.bodies import json
from service.errors import MalformedBodyError
from tests.fuzz.harness import Harness, always, call
from tests.fuzz.reference import SPECS, RefusedError, check_rows, read

# text that Python reads and that is no Unicode
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


Pairs = list[tuple[str, Any]]


class NotJSONError(Exception):
    """Python's reader does not take it either."""


def check(data: bytes) -> None:
    is_json, document = True, None
    try:
        document = read_document(data)
    except NotJSONError:
        is_json = False
    except RecursionError:  # deeper than Python reads; that it ends well is all to see
        document = ...
    for spec in SPECS:
        outcome = call(json.parse, data, spec)
        if not is_json:
            assert isinstance(outcome.error, MalformedBodyError)
            return  # whatever the model
        if document is not ... and not _SURROGATE.search(data):
            assert not isinstance(outcome.error, MalformedBodyError)
            if outcome.value is not None or not has_key_twice(data):
                _compare(outcome.value, document, spec)


def _compare(found: tuple[Any, dict[str, Any]] | None, document: Any, spec: Any) -> None:
    try:
        inputs, options = parts_of(document)
        read(inputs, spec)
    except RefusedError:
        assert found is None, "was taken"
        return
    assert found is not None, "was refused"
    check_rows(found[0], inputs, spec)
    # as text, for 1 == 1.0 == True
    assert plain_json.dumps(found[1], sort_keys=True) == plain_json.dumps(options, sort_keys=True)


def read_document(data: bytes) -> Any:
    try:
        return plain_json.loads(
            data.decode(), parse_constant=_refuse, parse_float=_float, parse_int=_int
        )
    except ValueError:
        raise NotJSONError from None


def has_key_twice(data: bytes) -> bool:
    """Whether an object holds a key twice: the last counts, or nothing."""
    found: list[bool] = []

    def look(pairs: Pairs) -> None:
        found.append(len({key for key, _ in pairs}) < len(pairs))

    plain_json.loads(data, object_pairs_hook=look)
    return any(found)


def parts_of(document: Any) -> tuple[list[Any], dict[str, Any]]:
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        raise RefusedError
    options = dict(document)
    return options.pop("inputs"), options


def _refuse(_: str) -> None:
    raise NotJSONError


def _float(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise NotJSONError
    return number


def _int(text: str) -> int | float:
    """An integer; a float beyond 64 bits, as the contract has it."""
    number = int(text)
    return number if -(2**63) <= number < 2**64 else _float(text)


HARNESS = Harness(
    always(check),
    (
        *(b'{"inputs": [', b'"inputs"', b"[[", b"]]", b"[1, 2, 3, 4]", b"[[0, 1], [1, 0]]", b"]}"),
        *(b"true", b"false", b"null", b"NaN", b"Infinity", b"1e400", b"1e39", b"65520", b"-0"),
        *(b"1.0", b"1e3", b"0.5", b"300", b"9223372036854775808", b"18446744073709551616"),
        *(b'"1.5"', b'"metric": "mse"', b"\\u0069", b"\\ud800", b"{", b"}", b",", b" ", b"\xff"),
        *(b"3.4028235677973366e38", b"1e-46", b"16777217", b"9007199254740993", b"0.1"),
    ),
)
