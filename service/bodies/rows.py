"""The last step of every parser: is this array what the model takes?"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRowsError, MalformedBodyError, TooLargeError
from service.specs import Rows, TensorSpec, shape_text


def to_rows(array: npt.NDArray[Any], spec: TensorSpec) -> Rows:
    """Bring a parsed array into the shape and dtype of *spec*, refusing what does not fit.

    Raises:
        InvalidRowsError: Wrong shape, empty batch, a dtype that does not convert, or a value
            that is not finite or out of the declared range; names the first such row.
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
    if spec.is_fixed and rows.shape[1:] != spec.shape:
        rows = rows.reshape(len(rows), *spec.shape)
    check_values(rows, spec)
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


def check_values(rows: Rows, spec: TensorSpec) -> None:
    """See that every value is finite and in the declared range.

    Raises:
        InvalidRowsError: One is not; names its row.
    """
    if rows.dtype.kind != "f" and spec.range is None:
        return
    low, high = spec.range or (float("-inf"), float("inf"))
    smallest, largest = rows.min(), rows.max()  # NaN comes through both
    if low <= smallest and largest <= high and np.isfinite(smallest) and np.isfinite(largest):
        return
    row, value = _first_bad(rows, low, high)
    if not np.isfinite(value):
        raise InvalidRowsError(
            "a value is not finite", row=row, expected="finite numbers", received=str(value)
        )
    raise InvalidRowsError(
        "a value is out of the model's declared range",
        row=row,
        expected=f"{low:g} to {high:g}",
        received="a smaller value" if value < low else "a larger value",
    )


def expected_shape(spec: TensorSpec) -> str:
    """Write what a row may look like, for messages."""
    text = shape_text(spec.shape)
    is_flat = len(spec.shape) == 1
    return f"{text} or [{spec.size}]" if spec.is_fixed and not is_flat else text


def _first_bad(rows: Rows, low: float, high: float) -> tuple[int, Any]:
    flat = rows.reshape(len(rows), -1)
    bad = ~(np.isfinite(flat) & (flat >= low) & (flat <= high))
    row = int(bad.any(axis=1).argmax())
    return row, flat[row, bad[row].argmax()]


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
        return _to_float(array, wanted)
    return _to_integer(array, wanted)


def _to_float(array: npt.NDArray[Any], wanted: np.dtype[Any]) -> Rows:
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(array, dtype=wanted)
    if array.dtype.kind != "f" or array.dtype.itemsize > wanted.itemsize:
        _refuse_overflow(np.isinf(rows) & np.isfinite(array), wanted)
    return rows


def _to_integer(array: npt.NDArray[Any], wanted: np.dtype[Any]) -> Rows:
    limits = np.iinfo(wanted)
    _refuse_overflow((array < limits.min) | (array > limits.max), wanted)
    return np.ascontiguousarray(array, dtype=wanted)


def _refuse_overflow(overflows: npt.NDArray[np.bool_], wanted: np.dtype[Any]) -> None:
    if overflows.any():
        row = int(overflows.reshape(len(overflows), -1).any(axis=1).argmax())
        raise InvalidRowsError(
            f"a value does not fit into {wanted}", row=row, expected=f"{wanted} without overflow"
        )
