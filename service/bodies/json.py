"""JSON bodies: ``{"inputs": [...], ...options}`` in, any object out."""

from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from service.bodies.rows import to_rows
from service.errors import InvalidRowsError, MalformedBodyError
from service.specs import Rows, TensorSpec

INPUTS: Final = "inputs"

_NUMBERS: Final = frozenset({int, float})


def parse(body: bytes, spec: TensorSpec) -> tuple[Rows, dict[str, Any]]:
    """Read rows, and the options beside them, from a JSON object.

    Raises:
        MalformedBodyError: Not JSON; NaN, Infinity and numbers beyond double precision are not.
        InvalidRowsError: JSON, but not rows of numbers that the model takes.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # the parser's own words tell the place and nothing of the content
        raise MalformedBodyError(f"the body is not JSON: {error.msg} at {error.pos}") from None
    if not isinstance(document, dict):
        raise InvalidRowsError(
            "the body must be an object", expected='{"inputs": [...]}', received=_kind(document)
        )
    if INPUTS not in document:
        raise InvalidRowsError("the body has no 'inputs'", expected='{"inputs": [...]}')
    inputs = document.pop(INPUTS)
    if not isinstance(inputs, list):
        raise InvalidRowsError(
            "'inputs' must be a list of rows", expected="a list of rows", received=_kind(inputs)
        )
    return to_rows(_array(inputs, body, spec), spec), document


def render(fields: Mapping[str, Any]) -> bytes:
    """Write an object; float32 arrays as the shortest text that reads back as the same number."""
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)


def render_number(number: float | np.float32) -> bytes:
    """Write one number as it would stand in an object."""
    return orjson.dumps(number, option=orjson.OPT_SERIALIZE_NUMPY)


def _array(inputs: list[Any], body: bytes, spec: TensorSpec) -> npt.NDArray[Any]:
    if not _is_plain(body):
        # np.array would turn "1.5" and true into numbers without a word
        for row, values in enumerate(inputs):
            _check_numbers(values, row)
    try:
        array = np.array(inputs)
    except (ValueError, OverflowError):
        raise _ragged(inputs, spec) from None
    if array.size and array.dtype.kind not in "fiu":
        # integers beyond 64 bits become objects, and mixed with rows of others anything
        raise _ragged(inputs, spec)
    return array if array.size else array.astype(spec.numpy_dtype)


def _is_plain(body: bytes) -> bool:
    """Whether, from its bytes alone, the body can hold nothing but numbers beside its one key."""
    has_words = b"true" in body or b"false" in body or b"null" in body
    return not has_words and body.count(b'"') == 2 and body.count(b"{") == 1  # noqa: PLR2004


def _check_numbers(values: Any, row: int) -> None:  # noqa: ANN401 - any JSON value
    """Refuse anything but numbers in a row; iterative, for nesting has no limit but the body's."""
    level = [values]
    while level:
        kinds = set(map(type, level))
        if kinds <= _NUMBERS:
            return
        if kinds != {list}:
            raise _not_numbers(level, kinds, row)
        level = list(chain.from_iterable(level))


def _not_numbers(level: list[Any], kinds: set[type], row: int) -> InvalidRowsError:
    unusable = kinds - _NUMBERS - {list}
    if not unusable:
        return InvalidRowsError("a row is ragged", row=row, expected="lists of one length")
    wrong = next(value for value in level if type(value) in unusable)
    return InvalidRowsError(
        "a row holds something else than numbers",
        row=row,
        expected="numbers",
        received=_kind(wrong),
    )


def _ragged(inputs: list[Any], spec: TensorSpec) -> InvalidRowsError:
    """Find the first row that is not a regular array, or not of the shape of the others."""
    shapes = [_shape(values) for values in inputs]
    for row, shape in enumerate(shapes):
        if shape is None:
            return InvalidRowsError("a row is ragged", row=row, expected="lists of one length")
        if shape != shapes[0]:
            return InvalidRowsError(
                "all rows of a request have one shape",
                row=row,
                expected=str(list(shapes[0] or ())),
                received=str(list(shape)),
            )
    return InvalidRowsError(f"a value does not fit into {spec.dtype}", expected=spec.dtype)


def _shape(values: Any) -> tuple[int, ...] | None:  # noqa: ANN401 - any JSON value
    try:
        return np.array(values, dtype=object if not isinstance(values, list) else None).shape
    except (ValueError, OverflowError):
        return None


def _kind(value: Any) -> str:  # noqa: ANN401 - any JSON value
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
