"""JSON bodies: ``{"inputs": [...], ...options}`` in, any object out."""

import struct
from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from service.bodies import raw
from service.bodies.rows import to_rows
from service.errors import InvalidRowsError, MalformedBodyError
from service.specs import Rows, TensorSpec, shape_text

INPUTS: Final = "inputs"

_NUMBERS: Final = frozenset({int, float})

_MAX_AXES: Final = 64  # of a NumPy array


def parse(body: bytes, spec: TensorSpec) -> tuple[Rows, dict[str, Any]]:
    """Read rows, and the options beside them, from a JSON object.

    Raises:
        MalformedBodyError: Not JSON; NaN, Infinity and numbers beyond double precision are not.
        InvalidRowsError: JSON, but not rows of numbers that the model takes.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(
            f"the body is not JSON: it cannot be read at character {error.pos}",
            expected="JSON, which has no NaN and no Infinity",
        ) from None
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
    is_plain = _is_plain(body)
    if is_plain and (packed := _pack(inputs, spec)):
        return raw.parse(packed, spec), document
    return to_rows(_array(inputs, spec, is_plain=is_plain), spec), document


def render(fields: Mapping[str, Any]) -> bytes:
    """Write an object; float32 arrays as the shortest text that reads back as the same number."""
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)


def render_number(number: float | np.float32) -> bytes:
    """Write one number as it would stand in an object."""
    return orjson.dumps(number, option=orjson.OPT_SERIALIZE_NUMPY)


def _pack(inputs: list[Any], spec: TensorSpec) -> bytes | None:
    """Pack flat rows of plain numbers, at half the price of an array; ``None`` when unsure.

    What does not fit (another length, a fraction for an integer, a number too large) is left to
    the long way, which says what is wrong.
    """
    if not spec.is_fixed:
        return None
    try:
        return b"".join([spec.packer.pack(*row) for row in inputs])
    except (struct.error, OverflowError, TypeError):
        return None


def _array(inputs: list[Any], spec: TensorSpec, *, is_plain: bool) -> npt.NDArray[Any]:
    if not is_plain:
        # np.array would turn "1.5" and true into numbers without a word
        for row, values in enumerate(inputs):
            _check_numbers(values, row)
    try:
        # integers never pass through floats, unless floats is what they are to become
        array = np.array(inputs, np.float64 if spec.numpy_dtype.kind == "f" else None)
    except ValueError:
        raise _irregular(inputs) from None
    if array.size == 0:
        return array.astype(spec.numpy_dtype)
    if array.dtype.kind == "f" and spec.numpy_dtype.kind != "f":
        raise _not_integers(inputs, spec)
    return array


def _is_plain(body: bytes) -> bool:
    """Whether, from its bytes alone, the body can hold nothing but numbers beside its one key.

    By single characters, for which a search costs a fortieth of that for a word: ``true`` has
    an r, ``false`` and ``null`` have an l, a second object a brace and a second text a quote.
    """
    has_words = b"r" in body or b"l" in body
    return not (has_words or _has_more(body, b"{", 1) or _has_more(body, b'"', 2))


def _has_more(body: bytes, character: bytes, number: int) -> bool:
    place = -1
    for _ in range(number):
        place = body.find(character, place + 1)
    return body.find(character, place + 1) >= 0


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


def _irregular(inputs: list[Any]) -> InvalidRowsError:
    """Find the first row that is not a regular array, or not of the shape of the others."""
    first = _shape(inputs[0])
    shapes = enumerate(map(_shape, inputs))
    row, shape = next((row, shape) for row, shape in shapes if shape is None or shape != first)
    if shape is None or first is None:
        return InvalidRowsError(
            "a row is ragged or nested too deeply", row=row, expected="lists of one length"
        )
    return InvalidRowsError(
        "all rows of a request have one shape",
        row=row,
        expected=shape_text(first),
        received=shape_text(shape),
    )


def _shape(values: Any) -> tuple[int, ...] | None:  # noqa: ANN401 - any JSON value
    try:
        shape = np.array(values).shape
    except ValueError:
        return None
    return shape if len(shape) < _MAX_AXES else None  # one is left for the batch


def _not_integers(inputs: list[Any], spec: TensorSpec) -> InvalidRowsError:
    """Find the first row with a fraction, or with an integer that made a float of the array."""
    limits = np.iinfo(spec.numpy_dtype)
    arrays = enumerate(map(np.array, inputs))
    row = next(
        row for row, array in arrays if array.dtype.kind == "f" or (array > limits.max).any()
    )
    return InvalidRowsError(
        f"a value is not a whole number that fits into {spec.dtype}",
        row=row,
        expected=spec.dtype,
    )


def _kind(value: Any) -> str:  # noqa: ANN401 - any JSON value
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
