"""Options: a line with the query, and behind it the fields of a JSON body."""

import json as plain_json
import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from service.api.options import Options, ScoreOptions, read_options
from service.api.requests import query_of
from tests.fuzz.harness import Harness, always, call

KINDS: tuple[type[Options], ...] = (Options, ScoreOptions)
MAX_FIELDS = 32


def check(data: bytes) -> None:
    line, _, text = data.partition(b"\n")
    fields = _fields(text)
    query = call(query_of, {"query_string": line}).value
    if query is None:
        return
    _check_query(query, line)
    for kind in KINDS:
        found = call(read_options, kind, query, fields).value
        if found is not None:
            _check_options(found, query, fields)


def _fields(text: bytes) -> dict[str, Any]:
    try:
        found = plain_json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_query(query: Mapping[str, str], line: bytes) -> None:
    pairs = [pair.partition("=") for pair in line.decode("ascii").split("&") if pair]
    assert len(pairs) <= MAX_FIELDS
    assert len(query) == len(pairs), "one was given twice"
    assert query == {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}


def _check_options(found: Options, query: Mapping[str, str], fields: Mapping[str, Any]) -> None:
    assert query.keys().isdisjoint(fields)
    known = type(found).model_fields
    given = {name: FROM_TEXT.get(name, _same)(value) for name, value in query.items()}
    given |= {name: FROM_JSON.get(name, _same)(value) for name, value in fields.items()}
    assert given.keys() <= known.keys(), "an unknown one was taken"
    for name, field in known.items():
        if name in FROM_TEXT:
            assert getattr(found, name) == given.get(name, field.default)


def _same(value: Any) -> Any:
    return value


def _flag(text: str) -> bool:
    word = text.strip().lower()
    assert word in {"1", "on", "t", "true", "y", "yes", "0", "off", "f", "false", "n", "no"}
    return word in {"1", "on", "t", "true", "y", "yes"}


def _number(value: str | float | None) -> float | None:
    if value is None:
        return None
    assert not isinstance(value, bool)
    number = float(value)
    assert math.isfinite(number)
    return number


def _strict_flag(value: object) -> bool:
    assert isinstance(value, bool)
    return value


def _strict_number(value: object) -> float | None:
    assert value is None or isinstance(value, (int, float))
    return _number(value)


def _strict_text(value: object) -> str | None:
    assert value is None or isinstance(value, str)
    return value


def _words(value: str | list[str]) -> tuple[str, ...]:
    if not value:  # in a query the only way to write an empty list
        return ()
    words = value.split(",") if isinstance(value, str) else value
    found = tuple(word.strip() if isinstance(value, str) else word for word in words)
    assert set(found) <= {"feature_errors", "domain"}
    return found


FROM_TEXT: dict[str, Callable[[Any], Any]] = {
    "resize": _flag,
    "metric": _same,
    "false_positive_rate": _number,
    "threshold": _number,
    "include": _words,
}

FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "resize": _strict_flag,
    "metric": _strict_text,
    "false_positive_rate": _strict_number,
    "threshold": _strict_number,
    "include": _words,
}

HARNESS = Harness(
    always(check),
    (
        *(b"resize=", b"true", b"metric=mse", b"false_positive_rate=0.01", b"threshold=1e-3", b"&"),
        *(b"include=feature_errors", b"%2C", b"%66", b"+", b"inf", b"nan", b"1_0", b"\n{", b"}"),
        *(b'"resize": true', b'"metric": "mse"', b'"threshold": 0.5', b'"include": []', b", "),
        *(b'"include": ["feature_errors"]', b"null", b"1e400", b"%ff", b"=", b'"threshold"'),
    ),
    max_bytes=1024,
)
