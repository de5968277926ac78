"""From nested lists of numbers to rows, number by number: what every row parser must agree with."""

from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from service.specs import Rows, TensorSpec

Nested: TypeAlias = Any
"""A number, or a list of such."""

SPECS = (
    TensorSpec("float32", (4,)),
    TensorSpec("float32", (4,), (0, 1)),
    TensorSpec("float32", (1, 2, 2), (-1, 1)),
    TensorSpec("float32", (None, 2)),
    TensorSpec("float32", ()),
    TensorSpec("float16", (4,)),
    TensorSpec("float64", (2, 2)),
    TensorSpec("uint8", (4,)),
    TensorSpec("int8", (2,), (-5, 5)),
    TensorSpec("int32", (2, 2)),
    TensorSpec("int64", (4,)),
)


class RefusedError(Exception):
    """These are no rows of the model."""


def check_rows(rows: Rows, inputs: list[Nested], spec: TensorSpec) -> None:
    """See that *rows* are what *inputs* say."""
    wanted = [read(inputs, spec, is_direct=is_direct) for is_direct in (False, True)]

    assert rows.dtype == spec.numpy_dtype
    assert rows.dtype.isnative
    assert rows.flags.c_contiguous
    assert spec.accepts_shape(rows.shape[1:])
    assert rows.shape == wanted[0].shape
    assert np.isfinite(rows).all()
    assert np.all((rows == wanted[0]) | (rows == wanted[1]))


def read(inputs: list[Nested], spec: TensorSpec, *, is_direct: bool = False) -> Rows:
    """Read rows of exact numbers.

    Args:
        inputs: The batch.
        spec: What a row is.
        is_direct: Round once, to the model's dtype, and not to double precision before.

    Raises:
        RefusedError: The model does not take them.
    """
    shape = _shape(inputs)
    if not inputs or not _is_row(shape[1:], spec):
        raise RefusedError
    rows = np.array([_number(n, spec, is_direct) for n in _flat(inputs)], spec.numpy_dtype)
    item = spec.item_shape if spec.is_fixed else shape[1:]
    return rows.reshape(len(inputs), *item)


def _is_row(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    if spec.is_fixed and shape == (spec.size,):
        return True
    return len(shape) == len(spec.shape) and all(
        got >= 1 and wanted in {None, got} for got, wanted in zip(shape, spec.shape, strict=True)
    )


def _shape(values: Nested) -> tuple[int, ...]:
    if not isinstance(values, list):
        return ()
    inner = {_shape(value) for value in values} or {()}
    if len(inner) > 1:
        raise RefusedError
    return len(values), *inner.pop()


def _flat(values: Nested) -> list[Any]:
    if not isinstance(values, list):
        return [values]
    return list(chain.from_iterable(map(_flat, values)))


def _number(number: Any, spec: TensorSpec, is_direct: bool) -> Any:
    dtype = spec.numpy_dtype
    if type(number) is bool or not isinstance(number, (int, float, np.longdouble)):
        raise RefusedError
    low, high = spec.range or (-np.inf, np.inf)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        if not isinstance(number, int) or not limits.min <= number <= limits.max:
            raise RefusedError
        value: Any = number
    else:
        try:
            with np.errstate(over="ignore"):
                value = np.asarray(number if is_direct else float(number)).astype(dtype)[()]
        except OverflowError:
            raise RefusedError from None
        if not np.isfinite(value):
            raise RefusedError
    # the limits are what they are in the model's dtype
    if not (value >= low and value <= high):
        raise RefusedError
    return value
