"""The last step of every parser: is this array what the model takes?"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from service.errors import (
    MAX_FAULTS,
    InvalidRowsError,
    MalformedBodyError,
    TooLargeError,
    together,
)
from service.specs import Rows, TensorSpec, shape_text


def to_rows(array: npt.NDArray[Any], spec: TensorSpec) -> Rows:
    """Bring a parsed array into the shape and dtype of *spec*, refusing what does not fit.

    Raises:
        InvalidRowsError: Wrong shape, empty batch, a dtype that does not convert, or a value
            that is not finite or out of the declared range; names the first such rows.
    """
    if array.ndim > 0 and len(array) == 0:
        raise InvalidRowsError("the batch is empty", expected="at least one row", received="none")
    if array.ndim == 0 or not spec.fits(array.shape[1:]):
        raise InvalidRowsError(
            f"rows have the wrong shape: {expected_shape(spec)} each",
            expected=expected_shape(spec),
            received=shape_text(array.shape[1:]) if array.ndim else "a single number",
        )
    rows = _converted(array, spec)
    if not spec.holds(rows):
        raise _fault(array, rows, spec)
    if rows.shape[1:] != spec.shape and spec.is_fixed:
        rows = rows.reshape(len(rows), *spec.shape)
    return rows


def shaped(
    flat: npt.NDArray[Any], shape: tuple[int, ...], *, order: Literal["C", "F"] = "C"
) -> npt.NDArray[Any]:
    """Give *flat* the shape that a header claims and that its length agrees with.

    Raises:
        MalformedBodyError: Too many axes; or none of its elements exist, and it is too large.
    """
    try:
        return flat.reshape(shape, order=order)
    except ValueError:
        raise MalformedBodyError("no array can have the shape of the header") from None


def check_count(rows: int, max_rows: int) -> None:
    """See that a request does not bring more rows than one request may.

    Raises:
        TooLargeError: It does.
    """
    if rows > max_rows:
        raise TooLargeError(
            f"a request may hold {max_rows} rows",
            expected=f"at most {max_rows} rows",
            received=f"{rows} rows",
        )


def expected_shape(spec: TensorSpec) -> str:
    """Write what a row may look like, for messages."""
    text = shape_text(spec.shape)
    is_flat = len(spec.shape) == 1
    return f"{text} or [{spec.size}]" if spec.is_fixed and not is_flat else text


def _fault(array: npt.NDArray[Any], rows: Rows, spec: TensorSpec) -> InvalidRowsError:
    """Find out what is wrong with converted *rows*, in the first of those that are wrong."""
    low, high = spec.limits
    given, flat = array.reshape(len(array), -1), rows.reshape(len(rows), -1)
    is_bad = ~((flat >= low) & (flat <= high))
    bad_rows = np.flatnonzero(is_bad.any(axis=1))
    first = [(int(row), int(is_bad[row].argmax())) for row in bad_rows[:MAX_FAULTS]]
    faults = [_value_fault(given[place], flat[place], place[0], spec) for place in first]
    return together(faults, len(bad_rows))


def _value_fault(
    given: np.number[Any], value: np.number[Any], row: int, spec: TensorSpec
) -> InvalidRowsError:
    """Say what is wrong with a *value*, which is what became of the one that was *given*."""
    low, high = spec.limits
    if not np.isfinite(value):
        if np.isfinite(given):
            return _overflow(row, spec.numpy_dtype)
        return InvalidRowsError(
            "a value is not finite", row=row, expected="finite numbers", received=str(value)
        )
    return InvalidRowsError(
        "a value is out of the model's declared range",
        row=row,
        expected=f"{low:g} to {high:g}",
        received="a smaller value" if float(value) < low else "a larger value",
    )


def _converted(array: npt.NDArray[Any], spec: TensorSpec) -> Rows:
    wanted = spec.numpy_dtype
    if array.dtype == wanted:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "fiu" or (array.dtype.kind == "f" and wanted.kind != "f"):
        raise InvalidRowsError(
            f"{array.dtype} does not convert to {wanted}",
            expected=str(wanted),
            received=str(array.dtype),
        )
    if wanted.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is found with the other faults
            return np.ascontiguousarray(array, dtype=wanted)
    limits = np.iinfo(wanted)
    overflows = (array < limits.min) | (array > limits.max)
    if overflows.any():
        raise _overflows(overflows, wanted)
    return np.ascontiguousarray(array, dtype=wanted)


def _overflows(overflows: npt.NDArray[np.bool_], wanted: np.dtype[Any]) -> InvalidRowsError:
    bad_rows = np.flatnonzero(overflows.reshape(len(overflows), -1).any(axis=1))
    faults = [_overflow(int(row), wanted) for row in bad_rows[:MAX_FAULTS]]
    return together(faults, len(bad_rows))


def _overflow(row: int, wanted: np.dtype[Any]) -> InvalidRowsError:
    return InvalidRowsError(
        f"a value does not fit into {wanted}", row=row, expected=f"{wanted} without overflow"
    )
