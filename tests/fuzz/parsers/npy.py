"""npy bodies, beside ``numpy.load``."""

import io
import warnings
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from service.bodies import npy
from service.errors import MalformedBodyError
from tests.fuzz.harness import Harness, always, call
from tests.fuzz.reference import SPECS, RefusedError, check_rows, read

_MAX_HEADER_BYTES = 1024
_VERSION_2, _VERSION_3 = b"\x93NUMPY\x02\x00", b"\x93NUMPY\x03\x00"


def check(data: bytes) -> None:
    try:
        inputs = read_list(data)
    except RefusedError:
        inputs = []  # which no model takes either
    for spec in SPECS:
        outcome = call(npy.parse, data, spec)
        rows = outcome.value
        try:
            read(inputs, spec)
        except RefusedError:
            assert rows is None, "was taken"
            if isinstance(outcome.error, MalformedBodyError):
                return  # whatever the model
        else:
            assert rows is not None, "was refused"
            check_rows(rows, inputs, spec)


def read_list(data: bytes) -> list[Any]:
    # format 3 differs from 2 in the text of field names, and rows have no fields; but Python 2's
    # long numbers in a header are read by NumPy in one and not in the other
    stream = io.BytesIO(data.replace(_VERSION_3, _VERSION_2, 1) if data[:8] == _VERSION_3 else data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            array = np.load(stream, allow_pickle=False, max_header_size=_MAX_HEADER_BYTES)
        except Exception:  # noqa: BLE001 - whatever a broken file makes of it
            raise RefusedError from None
    is_whole = stream.tell() == len(data)
    if not isinstance(array, np.ndarray) or not is_whole or array.dtype.kind not in "fiu":
        raise RefusedError
    if _has_subarray(data):  # which NumPy forgets where the order is Fortran's
        raise RefusedError
    found = array.tolist()
    if not isinstance(found, list):  # without axes it is a number
        raise RefusedError
    return found


def _has_subarray(data: bytes) -> bool:
    """Whether an element is declared to be an array of its own, like ``'(1,)f4'``."""
    stream = io.BytesIO(data)
    version = npy_format.read_magic(stream)
    read_header = (
        npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_header(stream)[2].subdtype is not None


HARNESS = Harness(
    always(check),
    (
        *(b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x03\x00", b"v\x00", b"'descr': "),
        *(b"'fortran_order': ", b"'shape': ", b"(1, 4), ", b"(4,)", b"()", b"(-1, 4)", b"(0, 4)"),
        *(b"(True, 4)", b"(1L, 4L)", b"(1, 10000000000000)", b"'<f4'"),
        *(b"'>f4'", b"'|u1'", b"'<i8'"),
        *(b"'|O'", b"'<U1'", b"'<f2'", b"'<f8'", b"'<f16'"),
        *(b"'<c8'", b"'|b1'", b"'<M8[s]'", b"'|V4'"),
        *(b"[('a', '<f4')]", b"True", b"False", b"None", b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f"),
        b"\x00\x00\x80\x3f",
    ),
)
