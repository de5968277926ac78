"""NumPy's own format: one array, never pickled.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
import tokenize
from functools import lru_cache
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from service.bodies.rows import shaped, to_rows
from service.errors import InvalidRowsError, MalformedBodyError
from service.specs import Rows, TensorSpec

_MAX_HEADER_BYTES: Final = 1024
_LENGTH_BYTES: Final = {(1, 0): 2, (2, 0): 4, (3, 0): 4}

# NumPy evaluates a header as Python, so a broken one can raise any of these
_HEADER_ERRORS: Final = (
    ValueError,
    TypeError,
    IndexError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
)


# magic, version, length, header
MAX_HEAD_BYTES: Final = len(npy_format.MAGIC_PREFIX) + 2 + 4 + _MAX_HEADER_BYTES


class Head(NamedTuple):
    """What stands before the data."""

    offset: int
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]


def parse_head(start: bytes, total_bytes: int, spec: TensorSpec) -> Head:
    """Read what stands before the data, and see that it fits.

    Args:
        start: The beginning of a file, *MAX_HEAD_BYTES* of it where there are so many.
        total_bytes: Length of the whole file.
        spec: What the rows are to be.

    Raises:
        MalformedBodyError: Not an npy file, or one whose header does not fit its length.
        InvalidRowsError: It does not hold numbers.
    """
    offset = _data_offset(start)
    shape, is_fortran, dtype = _parse_header(start[:offset])
    if dtype.kind not in "fiu":
        raise InvalidRowsError(
            "the array does not hold numbers", expected=spec.dtype, received=_name(dtype)
        )
    promised = prod(shape) * dtype.itemsize
    if promised != total_bytes - offset:
        raise MalformedBodyError(
            "the npy header does not fit the data",
            expected=f"{promised} bytes of data",
            received=f"{total_bytes - offset} bytes",
        )
    return Head(offset, shape, is_fortran, dtype)


def parse(body: bytes, spec: TensorSpec) -> Rows:
    """Read rows from an npy file.

    Raises:
        MalformedBodyError: Not an npy file, or one whose header does not fit its length.
        InvalidRowsError: An array that the model does not take.
    """
    offset, shape, is_fortran, dtype = parse_head(body, len(body), spec)
    flat: npt.NDArray[Any] = np.frombuffer(body, dtype, offset=offset)
    array = shaped(flat, shape, order="F" if is_fortran else "C")
    return to_rows(array.astype(dtype.newbyteorder("="), copy=False), spec)


def render(rows: Rows) -> bytes:
    """Write rows as an npy file of format 1.0."""
    buffer = io.BytesIO()
    npy_format.write_array(buffer, np.ascontiguousarray(rows), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _data_offset(body: bytes) -> int:
    """Find where the header ends, from the length that it begins with."""
    magic = len(npy_format.MAGIC_PREFIX)
    version = tuple(body[magic : magic + 2])
    if not body.startswith(npy_format.MAGIC_PREFIX) or version not in _LENGTH_BYTES:
        raise MalformedBodyError("the body is not an npy file of format 1 to 3")
    size = _LENGTH_BYTES[version]
    start = magic + 2 + size
    length = int.from_bytes(body[magic + 2 : start], "little")
    if length > _MAX_HEADER_BYTES or start + length > len(body):
        raise MalformedBodyError("the npy header is cut off or too long")
    return start + length


@lru_cache(maxsize=256)
def _parse_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Parse a header, which a client sends again and again, at most once."""
    stream = io.BytesIO(header)
    version = npy_format.read_magic(stream)
    read = (
        npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    )
    try:
        shape, is_fortran, dtype = read(stream, max_header_size=_MAX_HEADER_BYTES)
    except _HEADER_ERRORS:
        raise MalformedBodyError("the npy header cannot be read") from None
    if any(type(axis) is not int or axis < 0 for axis in shape):  # True is an int too
        raise MalformedBodyError("the npy header has an axis that is no length")
    return shape, is_fortran, dtype


def _name(dtype: np.dtype[Any]) -> str:
    return "objects" if dtype.hasobject else dtype.kind.join(("dtype kind '", "'"))
