"""JSON bodies: ``{"inputs": [...], ...options}`` in, any object out."""

import gc
import re
import struct
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from service.bodies import raw
from service.bodies.rows import check_count, expected_shape, to_rows
from service.errors import MAX_FAULTS, InvalidRowsError, MalformedBodyError, together
from service.specs import Rows, TensorSpec, shape_text

INPUTS: Final = "inputs"

_NUMBERS: Final = frozenset({int, float})

_MAX_AXES: Final = 64  # of a NumPy array

_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')

# numbers that are read or written without letting others have the interpreter: 2 ms of work
_PIECE: Final = 1 << 16

# from here on the garbage collector looks at all lists several times while they are being made,
# which takes three times as long as making them
_MANY_LISTS_BYTES: Final = 1 << 18

# what is looked at row by row once something is wrong: 20 ms of work, by either limit
_SEARCHED_ROWS: Final = 1000
_SEARCHED_NUMBERS: Final = 1 << 18


def parse(
    body: bytes, spec: TensorSpec, *, max_rows: int | None = None
) -> tuple[Rows, dict[str, Any]]:
    """Read rows, and the options beside them, from a JSON object.

    Raises:
        TooLargeError: More than *max_rows*, which are then not looked at.
        MalformedBodyError: Not JSON; NaN, Infinity and numbers beyond double precision are not.
        InvalidRowsError: JSON, but not rows of numbers that the model takes.
    """
    try:
        document = orjson.loads(body) if len(body) < _MANY_LISTS_BYTES else _load(body)
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
    if max_rows is not None:
        check_count(len(inputs), max_rows)
    is_plain = _is_plain(body)
    if is_plain and (packed := _pack(inputs, spec)):
        return raw.parse(packed, spec), document
    array = _array_or_faults(inputs, spec, is_plain=is_plain)
    if not is_plain:
        _check_keys(body, document)
    return to_rows(array, spec), document


def _load(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Read JSON without the garbage collector, which finds nothing in what is being made."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(body)
    finally:
        if was_enabled:
            gc.enable()


def render(value: object) -> bytes:
    """Write an object, or a part of one; float32 as the shortest text that reads back the same."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def render_in_pieces(fields: Mapping[str, Any]) -> bytes:
    """Write what *render* writes, for arrays so large that others would have to wait.

    In a thread: between two pieces it lets go of the interpreter.
    """
    parts: list[bytes] = []
    for name, value in fields.items():
        parts += [b"," if parts else b"{", render(name), b":"]
        parts += _pieces(value) if isinstance(value, np.ndarray) else [render(value)]
    return b"".join([*parts, b"}"])


def _pieces(array: npt.NDArray[Any]) -> Iterator[bytes]:
    if array.size <= _PIECE:
        yield render(array)
        return
    step = _PIECE * len(array) // array.size
    separator = b"["
    for start in range(0, len(array), step or 1):
        yield separator
        separator = b","
        if step:
            yield render(array[start : start + step])[1:-1]
        else:
            yield from _pieces(array[start])
    yield b"]"


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
    if spec.is_fixed and _size(inputs[:1]) > max(_PIECE, spec.size):
        # by so much that it would take long to find out what is known already
        raise InvalidRowsError(
            "a row has far too many numbers", row=0, expected=expected_shape(spec)
        )
    try:
        # integers never pass through floats, unless floats is what they are to become
        array = _in_pieces(inputs, np.float64 if spec.numpy_dtype.kind == "f" else None)
    except ValueError:
        raise _irregular(inputs) from None
    if array.size == 0:
        return array.astype(spec.numpy_dtype)
    if array.dtype.kind == "f" and spec.numpy_dtype.kind != "f":
        raise _not_integers(inputs, spec)
    return array


def _array_or_faults(inputs: list[Any], spec: TensorSpec, *, is_plain: bool) -> npt.NDArray[Any]:
    """Make an array of the rows, or say of the first ten that are wrong what is."""
    try:
        return _array(inputs, spec, is_plain=is_plain)
    except InvalidRowsError as fault:
        raise _faults(inputs, spec, fault) from None


def _faults(inputs: list[Any], spec: TensorSpec, first: InvalidRowsError) -> InvalidRowsError:
    """Look for the first rows that are wrong in whatever way, *first* being one of a kind."""
    if first.row is None:
        return first
    searched = min(_SEARCHED_ROWS, _SEARCHED_NUMBERS // spec.size)
    start = first.row if first.row >= searched else 0
    found: list[InvalidRowsError] = []
    for row in range(start, min(start + searched, len(inputs))):
        fault = _fault(inputs[row], spec)
        if fault is not None:
            fault.row = row
            found.append(fault)
        if len(found) == MAX_FAULTS:
            break
    # none is wrong by itself where axes are free: then it is the shapes that differ
    return together(found) if found else first


def _fault(values: Any, spec: TensorSpec) -> InvalidRowsError | None:  # noqa: ANN401 - any JSON value
    """Find out what is wrong with one row, if anything."""
    try:
        to_rows(_array([values], spec, is_plain=False), spec)
    except InvalidRowsError as fault:
        return fault.with_traceback(None)
    return None


def _in_pieces(values: list[Any], dtype: type[np.float64] | None) -> npt.NDArray[Any]:
    """Give what ``np.array`` gives, and let others have the interpreter in between."""
    numbers = _size(values)
    if numbers <= _PIECE:
        return np.array(values, dtype)
    if len(values) == 1:
        return _in_pieces(values[0], dtype)[np.newaxis]
    step = max(1, _PIECE * len(values) // numbers)
    starts = range(0, len(values), step)
    return np.concatenate([_in_pieces(values[start : start + step], dtype) for start in starts])


def _size(values: list[Any]) -> int:
    """Count the numbers, if all lists are as long as the first on their level."""
    size = 1
    level: Any = values
    while isinstance(level, list) and level:
        size *= len(level)
        level = level[0]
    return size


def _check_keys(body: bytes, options: dict[str, Any]) -> None:
    """Refuse a key that stands twice: only the last was kept, and the other may be what was meant.

    A text that is in the body and not in what was read of it was dropped; rows hold none.
    """
    texts = len(_TEXT.findall(body)) if b"\\" in body else body.count(b'"') // 2
    if texts > 1 + _count_texts(options):
        raise InvalidRowsError("a key of the body is given twice", expected="each key once")


def _count_texts(options: dict[str, Any]) -> int:
    """Count keys and texts; iterative, for nesting has no limit but the body's."""
    texts = 0
    waiting: list[Any] = [options]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            texts += 1
        elif isinstance(value, dict):
            texts += len(value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return texts


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
