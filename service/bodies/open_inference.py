"""Bodies of the Open Inference Protocol: tensors as JSON, as bytes behind it, or as bytes alone.

Protocol: https://github.com/kserve/open-inference-protocol (REST). Bytes behind the JSON are
Triton's extension "binary tensor data", and a body of bytes alone is its "raw binary request".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from service.bodies import json, raw
from service.bodies.rows import check_count, expected_shape, to_rows
from service.errors import (
    InvalidRowsError,
    MalformedBodyError,
    UnsupportedOperationError,
)
from service.specs import Rows, TensorSpec, shape_text

DATATYPES: Final[Mapping[str, str]] = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
}
"""What the protocol calls NumPy's element types."""

Parameter: TypeAlias = str | float | np.float32
"""What can be told of a tensor beside its values."""

_NUMBERS: Final = frozenset({int, float})

# values that are looked at, converted or written in one go: between two pieces others may run
_PIECE: Final = 1 << 16

_MICROSECONDS: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Source:
    """The one input of a model, and what it can give.

    Attributes:
        name: The input's.
        spec: What a row of it is.
        offered: Names of the outputs, in the order in which all of them are given.
    """

    name: str
    spec: TensorSpec
    offered: tuple[str, ...]


class Wanted(NamedTuple):
    """An output that was asked for.

    Attributes:
        is_binary: As bytes behind the JSON.
        is_bare: Without parameters: Triton's C++ client, which asks for JSON by
            ``"binary_data": false``, takes an output with any for one of bytes.
    """

    name: str
    is_binary: bool
    is_bare: bool = False


class Inquiry(NamedTuple):
    """What a request says.

    Attributes:
        rows: The input.
        outputs: What is wanted, in the order of the answer.
        id: The request's, which the answer repeats.
        timeout_s: Seconds that it may take, where it says so.
    """

    rows: Rows
    outputs: tuple[Wanted, ...]
    id: str | None = None
    timeout_s: float | None = None


class Output(NamedTuple):
    """A tensor of an answer, with what else is told of it."""

    name: str
    rows: Rows
    is_binary: bool
    parameters: Mapping[str, Parameter]


def parse(body: bytes, json_bytes: int | None, source: Source, *, max_rows: int) -> Inquiry:
    """Read a request, whose first *json_bytes* (``None``: all) are JSON and the rest a tensor.

    Raises:
        MalformedBodyError: Not JSON, or the lengths in it are not those of the bytes.
        InvalidRowsError: JSON, but not a request that the model can answer.
        UnsupportedOperationError: An output that the model does not have.
        TooLargeError: More than *max_rows*.
    """
    if json_bytes is not None and json_bytes > len(body):
        raise MalformedBodyError(
            "Inference-Header-Content-Length is longer than the body",
            expected=f"at most {len(body)}",
        )
    document = _document(body if json_bytes is None else body[:json_bytes])
    tail = b"" if json_bytes is None else body[json_bytes:]
    parameters = _parameters(document)
    _refuse(parameters, "sequence_id", "sequences")
    is_binary = _flag(parameters, "binary_data_output")
    # first what costs little: nobody waits for the numbers of a request that cannot be answered
    outputs = _outputs(document.get("outputs"), source.offered, is_binary=is_binary)
    timeout_s = _timeout_s(parameters)
    request_id = document.get("id")
    if not isinstance(request_id, str | None):
        raise InvalidRowsError("'id' must be a text", expected="a text, or no 'id'")
    rows = _rows(document.get("inputs"), tail, source, max_rows)
    return Inquiry(rows, outputs, request_id, timeout_s)


def parse_raw(body: bytes, source: Source, *, shape: str | None, max_rows: int) -> Inquiry:
    """Read a request that is the bytes of its tensor alone; all outputs are wanted as bytes.

    The number of rows follows from the byte count, or from *shape* where axes are free.

    Raises:
        MalformedBodyError: *shape* cannot be read.
        InvalidRowsError: Not rows of the model.
        TooLargeError: More than *max_rows*.
    """
    rows = raw.parse(body, source.spec, shape)
    check_count(len(rows), max_rows)
    return Inquiry(rows, tuple(Wanted(name, is_binary=True) for name in source.offered))


def render(fields: Mapping[str, object], outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """Write an answer: *fields* and *outputs*, and the length of its JSON where bytes follow it."""
    tensors: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, rows, is_binary, parameters in outputs:
        told = dict(parameters)
        kind = DATATYPES[rows.dtype.name]
        tensor: dict[str, Any] = {"name": name, "datatype": kind, "shape": rows.shape}
        if is_binary:
            data = raw.render(rows)
            tail.append(data)
            told["binary_data_size"] = len(data)
        if told:
            tensor["parameters"] = told
        if not is_binary:
            tensor["data"] = _written(rows.reshape(-1))
        tensors.append(tensor)
    head = json.render({**fields, "outputs": tensors})
    return b"".join((head, *tail)), len(head) if tail else None


def _written(values: Rows) -> Rows | orjson.Fragment:
    """Write many values in pieces; a few are left to be written with the rest."""
    if values.size <= _PIECE:
        return values
    pieces = (values[start : start + _PIECE] for start in range(0, values.size, _PIECE))
    option = orjson.OPT_SERIALIZE_NUMPY
    texts = [orjson.dumps(piece, option=option)[1:-1] for piece in pieces]
    return orjson.Fragment(b"[" + b",".join(texts) + b"]")


def datatype(spec: TensorSpec) -> str:
    """Name the element type of *spec*."""
    return DATATYPES[spec.dtype]


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(
            f"the request is not JSON: it cannot be read at character {error.pos}",
            expected="JSON; the header Inference-Header-Content-Length says where bytes begin",
        ) from None
    if type(document) is not dict:
        raise InvalidRowsError("the request must be an object", expected='{"inputs": [...]}')
    return document


def _parameters(owner: Mapping[str, Any]) -> dict[str, Any]:
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise InvalidRowsError("'parameters' must be an object", expected='{"name": value}')
    return parameters


def _refuse(parameters: Mapping[str, Any], name: str, what: str) -> None:
    """Refuse what would change the meaning of the request; 0 and nothing ask for nothing."""
    if parameters.get(name) not in (None, 0, ""):
        raise InvalidRowsError(f"{what} are not supported here", expected=f"no '{name}'")


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    flag = parameters.get(name, default)
    if type(flag) is not bool:
        raise InvalidRowsError(f"'{name}' must be true or false", expected="true or false")
    return flag


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """Read Triton's parameter, in microseconds; 0 asks for the server's own deadline."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) is not int or timeout < 0:
        raise InvalidRowsError("'timeout' must be a whole number", expected="microseconds")
    return timeout * _MICROSECONDS or None


def _outputs(
    outputs: Any,  # noqa: ANN401 - any JSON value
    offered: tuple[str, ...],
    *,
    is_binary: bool,
) -> tuple[Wanted, ...]:
    """Read which outputs are wanted; none named are all."""
    if outputs is None or outputs == []:
        return tuple(Wanted(name, is_binary) for name in offered)
    if type(outputs) is not list or not all(type(output) is dict for output in outputs):
        raise InvalidRowsError("'outputs' must be a list of objects", expected='[{"name": "..."}]')
    wanted = tuple(_wanted(output, offered, is_binary=is_binary) for output in outputs)
    if len({each.name for each in wanted}) < len(wanted):
        raise InvalidRowsError("an output is asked for twice", expected="each output once")
    return wanted


def _wanted(output: dict[str, Any], offered: tuple[str, ...], *, is_binary: bool) -> Wanted:
    name = output.get("name")
    if name not in offered:
        raise UnsupportedOperationError(
            "the model does not have an output of this name", expected=" or ".join(offered)
        )
    parameters = _parameters(output)
    _refuse(parameters, "classification", "classifications")
    _refuse(parameters, "shared_memory_region", "regions of shared memory")
    is_binary = _flag(parameters, "binary_data", default=is_binary)
    return Wanted(name, is_binary, is_bare="binary_data" in parameters and not is_binary)


def _rows(inputs: Any, tail: bytes, source: Source, max_rows: int) -> Rows:  # noqa: ANN401
    if type(inputs) is not list or len(inputs) != 1 or type(inputs[0]) is not dict:
        raise InvalidRowsError(
            "'inputs' must be a list of one tensor", expected=f'[{{"name": "{source.name}", ...}}]'
        )
    tensor: dict[str, Any] = inputs[0]
    spec = source.spec
    if tensor.get("name") != source.name:
        raise InvalidRowsError("the model has no input of this name", expected=source.name)
    if tensor.get("datatype") != datatype(spec):
        raise InvalidRowsError("the datatype is not that of the input", expected=datatype(spec))
    shape = _shape(tensor.get("shape"), spec, max_rows)
    parameters = _parameters(tensor)
    _refuse(parameters, "shared_memory_region", "regions of shared memory")
    size = parameters.get("binary_data_size")
    if size is not None:
        return _from_bytes(size, tail, shape, spec, has_data=tensor.get("data") is not None)
    if tail:
        raise MalformedBodyError(
            "bytes follow the JSON that no tensor claims",
            expected=f'"parameters": {{"binary_data_size": {len(tail)}}}',
        )
    if tensor.get("data") is None:
        raise InvalidRowsError("the tensor has no data", expected="'data' or 'binary_data_size'")
    return to_rows(_array(tensor["data"], shape, spec), spec)


def _shape(shape: Any, spec: TensorSpec, max_rows: int) -> tuple[int, ...]:  # noqa: ANN401
    """Read a shape that rows of *spec* can have; nothing may be computed from any other."""
    if type(shape) is not list or not all(type(axis) is int and axis >= 0 for axis in shape):
        raise InvalidRowsError("'shape' must be a list of lengths", expected=_expected(spec))
    if not shape or not spec.fits(tuple(shape[1:])):
        raise InvalidRowsError("the shape is not that of the input", expected=_expected(spec))
    if shape[0] == 0:
        raise InvalidRowsError("the batch is empty", expected="at least one row", received="none")
    check_count(shape[0], max_rows)
    return tuple(shape)


def _expected(spec: TensorSpec) -> str:
    return f"[rows, ...] with rows of {expected_shape(spec)}"


def _from_bytes(
    size: Any,  # noqa: ANN401 - any JSON value
    tail: bytes,
    shape: tuple[int, ...],
    spec: TensorSpec,
    *,
    has_data: bool,
) -> Rows:
    if has_data:
        raise InvalidRowsError(
            "the tensor has data twice", expected="'data' or 'binary_data_size', not both"
        )
    if type(size) is not int or size != len(tail):
        raise MalformedBodyError(
            "binary_data_size is not the number of bytes behind the JSON",
            expected=f"{len(tail)}",
        )
    promised = prod(shape) * spec.numpy_dtype.itemsize
    if promised != size:
        raise InvalidRowsError(
            "the tensor does not have the bytes of its shape",
            expected=f"{promised} bytes for {shape_text(shape)} {datatype(spec)}",
            received=f"{size} bytes",
        )
    if spec.is_fixed:
        return raw.parse(tail, spec)
    array = np.frombuffer(tail, spec.wire_dtype).reshape(shape)
    return to_rows(array.astype(spec.numpy_dtype, copy=False), spec)


def _array(data: Any, shape: tuple[int, ...], spec: TensorSpec) -> npt.NDArray[Any]:  # noqa: ANN401
    """Make an array of JSON numbers; integers never pass through floats."""
    values = _flat(data, shape)
    dtype = spec.numpy_dtype
    if dtype.kind == "f":
        dtype = np.dtype(np.float64)  # which holds them all, so that what is too large is seen
    else:
        _check_integers(values, shape, spec)
    array = np.empty(len(values), dtype)
    for start in range(0, len(values), _PIECE):
        array[start : start + _PIECE] = values[start : start + _PIECE]
    return array.reshape(shape)


def _flat(data: Any, shape: tuple[int, ...]) -> list[Any]:  # noqa: ANN401 - any JSON value
    """Give the numbers of *data* in their order, which come flat, in flat rows, or nested."""
    level, found = [data], []
    while (kinds := _kinds(level)) == {list}:
        lengths = set(map(len, level))
        if len(lengths) > 1:
            uneven = next(n for n, each in enumerate(level) if len(each) != len(level[0]))
            raise _ragged(uneven, len(level), len(data))
        found.append(len(level[0]))
        if len(found) > len(shape):
            break
        level = list(chain.from_iterable(level))
    if tuple(found) not in {(prod(shape),), (shape[0], prod(shape[1:])), shape}:
        if list in kinds and len(kinds) > 1:
            uneven = next(n for n, each in enumerate(level) if type(each) is not type(level[0]))
            raise _ragged(uneven, len(level), len(data))
        raise InvalidRowsError(
            "the data does not have the shape of the tensor",
            expected=f"{prod(shape)} numbers, flat or nested as {shape_text(shape)}",
            received=f"a list of {shape_text(tuple(found))}" if found else "no list",
        )
    if not kinds <= _NUMBERS:
        wrong = next(n for n, each in enumerate(level) if type(each) not in _NUMBERS)
        raise InvalidRowsError(
            "a row holds something else than numbers",
            row=wrong // (len(level) // shape[0]),
            expected="numbers",
        )
    return level


def _kinds(values: list[Any]) -> set[type]:
    """Give the types among *values*, in pieces as *_PIECE* says."""
    pieces = (values[start : start + _PIECE] for start in range(0, len(values), _PIECE))
    return set().union(*(set(map(type, piece)) for piece in pieces))


def _ragged(index: int, among: int, rows: int) -> InvalidRowsError:
    """Blame the row of the list at *index*, of which there are equally many in every row."""
    row = index // (among // rows)
    return InvalidRowsError("a row is ragged", row=row, expected="lists of one length")


def _check_integers(values: list[Any], shape: tuple[int, ...], spec: TensorSpec) -> None:
    limits = np.iinfo(spec.numpy_dtype)
    low, high = int(limits.min), int(limits.max)
    if float in _kinds(values) or min(values) < low or max(values) > high:
        wrong = next(
            n for n, each in enumerate(values) if type(each) is float or not low <= each <= high
        )
        raise InvalidRowsError(
            f"a value is not a whole number that fits into {spec.dtype}",
            row=wrong // (len(values) // shape[0]),
            expected=spec.dtype,
        )
