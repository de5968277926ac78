"""What measures and the domain guard have learned, as arrays of a calibration file and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from service.errors import PackageError

Array: TypeAlias = npt.NDArray[Any]
Hint: TypeAlias = object
"""A type as an annotation writes it."""
Learned = TypeVar("Learned")


def to_arrays(learned: object, path: str) -> dict[str, Array]:
    """Write a dataclass as arrays named *path*.field, those inside it as *path*.field.field."""
    arrays: dict[str, Array] = {}
    for field in fields(learned):  # type: ignore[arg-type]
        value = getattr(learned, field.name)
        name = f"{path}.{field.name}"
        if is_dataclass(value):
            arrays |= to_arrays(value, name)
        elif value is not None:
            # whole numbers are int64 on every platform; an empty tuple is one of them
            arrays[name] = np.asarray(value, np.int64 if isinstance(value, int | tuple) else None)
    return arrays


def from_arrays(kind: type[Learned], arrays: Mapping[str, Array], path: str) -> Learned:
    """Read what *to_arrays* wrote.

    Raises:
        PackageError: An array is missing, or not what the field holds.
    """
    values = {
        name: _value(hint, arrays, f"{path}.{name}") for name, hint in get_type_hints(kind).items()
    }
    return kind(**values)


def _value(hint: Hint, arrays: Mapping[str, Array], name: str) -> object:
    if type(None) in get_args(hint):
        hint = get_args(hint)[0]
        if name not in arrays and not any(each.startswith(f"{name}.") for each in arrays):
            return None
    if is_dataclass(hint):
        return from_arrays(cast(type[object], hint), arrays, name)
    if name not in arrays:
        raise PackageError(f"the calibration lacks '{name}'")
    return _number_or_vector(hint, arrays[name], name)


def _number_or_vector(hint: Hint, array: Array, name: str) -> object:
    if get_origin(hint) is np.ndarray and array.dtype == np.float32 and np.isfinite(array).all():
        return array
    if get_origin(hint) is tuple and array.dtype == np.int64 and array.ndim == 1:
        return tuple(array.tolist())
    if hint is int and array.dtype == np.int64 and array.ndim == 0:
        return int(array)
    if hint is float and array.dtype == np.float64 and array.ndim == 0 and np.isfinite(array):
        return float(array)
    raise PackageError(f"'{name}' of the calibration is not what it should be")
