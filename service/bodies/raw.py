"""Raw little-endian rows: no header, so the model's dtype and shape say how to read them."""

import sys
from math import prod
from typing import Final

import numpy as np

from service.bodies.rows import expected_shape, shaped, to_rows
from service.errors import InvalidRowsError, MalformedBodyError
from service.specs import Rows, TensorSpec, shape_text

_MAX_AXES = 8
_IS_LITTLE_ENDIAN: Final = sys.byteorder == "little"


def parse(body: bytes, spec: TensorSpec, shape: str | None = None) -> Rows:
    """Read rows from bytes in the model's dtype.

    Args:
        body: The values, row after row.
        spec: What a row is.
        shape: The header ``X-Shape``, batch axis first; needed where axes are free.

    Raises:
        MalformedBodyError: *shape* cannot be read, or no array can have it.
        InvalidRowsError: The bytes are not a whole number of rows, or not of this shape.
    """
    if shape is None and spec.is_fixed and body and len(body) % spec.row_bytes == 0:
        flat = np.frombuffer(body, spec.wire_dtype)
        if flat.dtype.isnative and spec.holds(flat):
            return flat.reshape(-1, *spec.item_shape)
    # something is wrong, or must be worked out: the long way says what
    dtype = spec.wire_dtype
    axes = axes_of(shape) if shape is not None else _whole_rows(body, spec)
    promised = prod(axes) * dtype.itemsize
    if promised != len(body):
        raise InvalidRowsError(
            "the body does not have the bytes of its shape",
            expected=f"{promised} bytes for {shape_text(axes)} {spec.dtype}",
            received=f"{len(body)} bytes",
        )
    array = shaped(np.frombuffer(body, dtype), axes)
    return to_rows(array.astype(spec.numpy_dtype, copy=False), spec)


def render(rows: Rows) -> bytes:
    """Write rows as little-endian bytes."""
    if _IS_LITTLE_ENDIAN and rows.dtype.isnative:
        return rows.tobytes()
    return rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes()


def _whole_rows(body: bytes, spec: TensorSpec) -> tuple[int, ...]:
    if not spec.is_fixed:
        raise InvalidRowsError(
            "rows of a model with free axes need the header X-Shape",
            expected=f"X-Shape: n,{','.join('?' if a is None else str(a) for a in spec.shape)}",
        )
    row_bytes = spec.size * spec.numpy_dtype.itemsize
    rows, rest = divmod(len(body), row_bytes)
    if rest:
        raise InvalidRowsError(
            "the body is not a whole number of rows",
            expected=f"a multiple of {row_bytes} bytes ({expected_shape(spec)} {spec.dtype})",
            received=f"{len(body)} bytes",
        )
    return rows, spec.size


def axes_of(shape: str) -> tuple[int, ...]:
    """Read a header ``X-Shape``.

    Raises:
        MalformedBodyError: It is no list of a few numbers.
    """
    # the blanks of HTTP alone: what is one for ``str.strip`` may be none for ``int``
    axes = [axis.strip(" \t") for axis in shape.split(",")]
    if len(axes) > _MAX_AXES or not all(a.isdecimal() and len(a) < 12 for a in axes):  # noqa: PLR2004
        raise MalformedBodyError("X-Shape must be numbers separated by commas", expected="2,3,64")
    return tuple(int(axis) for axis in axes)
