"""Requests of the Open Inference Protocol, beside a plain reading of the same bytes.

The first line says where the JSON ends: ``-`` for nowhere, a number of bytes, or ``raw`` and
perhaps a shape for a request that is a tensor alone.
"""

from math import prod
from typing import Any

import numpy as np

from service.bodies import open_inference
from service.bodies.open_inference import DATATYPES, Inquiry, Source
from service.errors import MalformedBodyError
from service.specs import TensorSpec
from tests.fuzz.harness import Harness, always, call
from tests.fuzz.parsers import json, raw
from tests.fuzz.reference import SPECS, check_rows

MAX_ROWS = 8
OUTPUTS = ("code", "reconstruction", "score")


def check(data: bytes) -> None:
    line, _, body = data.partition(b"\n")
    for spec in SPECS:
        source = Source("input", spec, OUTPUTS)
        if line.startswith(b"raw"):
            _check_raw(body, line[3:].decode("latin-1").strip() or None, source)
        else:
            _check_json(body, int(line) if line.isdigit() and len(line) < 9 else None, source)


def _check_raw(body: bytes, shape: str | None, source: Source) -> None:
    found = call(open_inference.parse_raw, body, source, shape=shape, max_rows=MAX_ROWS).value
    if found is not None:
        check_rows(found.rows, raw.read_lists(body, shape, source.spec), source.spec)
        assert [output[:2] for output in found.outputs] == [(name, True) for name in OUTPUTS]


def _check_json(body: bytes, length: int | None, source: Source) -> None:
    outcome = call(open_inference.parse, body, length, source, max_rows=MAX_ROWS)
    head, tail = (body, b"") if length is None else (body[:length], body[length:])
    try:
        document = json.read_document(head)
    except json.NotJSONError:
        assert isinstance(outcome.error, MalformedBodyError)
        return
    except RecursionError:
        return
    if outcome.value is not None:
        _check_inquiry(outcome.value, document, tail, source)


def _check_inquiry(found: Inquiry, document: dict[str, Any], tail: bytes, source: Source) -> None:
    (tensor,) = document["inputs"]
    assert tensor["name"] == source.name
    assert tensor["datatype"] == DATATYPES[source.spec.dtype]
    shape = tensor["shape"]
    assert 1 <= shape[0] <= MAX_ROWS
    check_rows(found.rows, _nested(_numbers(tensor, tail, source.spec), shape), source.spec)
    assert found.id == document.get("id")
    default = (document.get("parameters") or {}).get("binary_data_output", False)
    wanted = [
        (output["name"], (output.get("parameters") or {}).get("binary_data", default))
        for output in document.get("outputs") or [{"name": name} for name in OUTPUTS]
    ]
    assert [output[:2] for output in found.outputs] == wanted


def _numbers(tensor: dict[str, Any], tail: bytes, spec: TensorSpec) -> list[Any]:
    size = (tensor.get("parameters") or {}).get("binary_data_size")
    if size is None:
        assert not tail
        return _flat(tensor["data"])
    assert "data" not in tensor
    assert len(tail) == size
    numbers: list[Any] = np.frombuffer(tail, np.dtype(spec.dtype).newbyteorder("<")).tolist()
    return numbers


def _flat(values: Any) -> list[Any]:
    if not isinstance(values, list):
        return [values]
    return [number for value in values for number in _flat(value)]


def _nested(numbers: list[Any], shape: list[int]) -> list[Any]:
    """The numbers, of which there are as many as the shape has, in lists of it."""
    assert len(numbers) == prod(shape)
    for length in reversed(shape[1:]):
        numbers = [numbers[at : at + length] for at in range(0, len(numbers), length)]
    return numbers


HARNESS = Harness(
    always(check),
    (
        *(b"-\n", b"raw\n", b"raw 1,4\n", b"100\n", b'{"inputs": [', b'{"name": "input"', b"}]}"),
        *(b', "datatype": "FP32"', b', "datatype": "INT64"', b', "datatype": "UINT8"', b'"FP16"'),
        *(b', "shape": [1, 4]', b', "shape": [1, 1, 2, 2]', b', "shape": [2, 2, 2]', b"[8, 1]"),
        *(b', "data": [0, 1, 0, 1]', b', "data": [[0, 1], [1, 0]]', b"null", b"true", b"1.0"),
        *(b', "outputs": [{"name": "code"', b'"binary_data": true', b'"id": "a"', b'"timeout": 9'),
        *(b', "parameters": {"binary_data_size": 16}', b'"classification": 1', b"1e400", b"-1"),
        *(b', "parameters": {"binary_data_output": true}', b"\x00\x00\x80\x3f", b"{}", b"[]"),
        b"\x00\x00\xc0\x7f",
    ),
)
