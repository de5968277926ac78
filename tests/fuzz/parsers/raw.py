"""Raw bodies behind a line with ``X-Shape`` (``-`` for none), beside ``numpy.frombuffer``."""

import re
from math import prod
from typing import Any

import numpy as np

from service.bodies import raw
from service.specs import TensorSpec
from tests.fuzz.harness import Harness, always, call
from tests.fuzz.reference import SPECS, RefusedError, check_rows, read

_NUMBERS = re.compile(r"[ \t]*[0-9]{1,11}[ \t]*(,[ \t]*[0-9]{1,11}[ \t]*){0,7}")
_NONE = "-"


def check(data: bytes) -> None:
    line, _, body = data.partition(b"\n")
    shape = None if line == _NONE.encode() else line.decode("latin-1")
    for spec in SPECS:
        rows = call(raw.parse, body, spec, shape).value
        try:
            inputs = read_lists(body, shape, spec)
            read(inputs, spec)
        except RefusedError:
            assert rows is None, "was taken"
        else:
            assert rows is not None, "was refused"
            check_rows(rows, inputs, spec)


def read_lists(body: bytes, shape: str | None, spec: TensorSpec) -> list[Any]:
    dtype = np.dtype(spec.dtype).newbyteorder("<")
    if len(body) % dtype.itemsize:
        raise RefusedError
    values = np.frombuffer(body, dtype)
    if shape is None:
        if not spec.is_fixed or len(values) % spec.size:
            raise RefusedError
        axes = [len(values) // spec.size, spec.size]
    elif _NUMBERS.fullmatch(shape):
        axes = [int(axis) for axis in shape.split(",")]
    else:
        raise RefusedError
    if prod(axes) != len(values) or not values.size:
        raise RefusedError
    lists = values.reshape(axes).tolist()
    if not isinstance(lists, list):
        raise RefusedError
    return lists


HARNESS = Harness(
    always(check),
    (
        *(b"-\n", b"1,4\n", b"1,1,2,2\n", b"2,3,2\n", b"1,2\n"),
        *(b"0,4\n", b"4\n", b",", b" ", b"-1"),
        *(b"00000000001", b"99999999999", b"\xb2", b"\xa0", b"1,1,1,1,1,1,1,1,1"),
        *(b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\x00\x00\x80\x3f"),
        *(b"\x00\x00\x00\x80", b"\x01\x00\x80\x3f", b"\x00\x7c", b"\x00\x3c", b"\xff", b"\x05"),
    ),
)
