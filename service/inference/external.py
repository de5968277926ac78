"""Weights that a foreign ONNX file keeps in other files: taken in, from its own folder only.

A path in a file that somebody else made can point anywhere. So every part of it is opened
relative to its folder without following a link, and no more is read than is there.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest
from math import prod
from pathlib import Path, PurePosixPath
from typing import Final

from onnx import ModelProto, TensorProto, helper

from service.errors import PackageError
from service.inference.dataflow import node_tensors, tensors

# protobuf writes no longer message, and the weights are to lie inside one
MAX_BYTES: Final = (1 << 31) - 1

_SHOWN_MAX: Final = 160

_OPENING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Beside:
    """A file that weights were taken from."""

    file: str
    sha256: str
    bytes: int


def fold_in(model: ModelProto, folder: Path) -> list[Beside]:
    """Take weights from files beside a model into it.

    Returns:
        The files that they came from.

    Raises:
        PackageError: A path leads out of *folder*, or a file is missing, a link or too short.
    """
    found = [each for each in _every_tensor(model) if _is_outside(each)]
    if sum(_bytes(tensor) for tensor in found) > MAX_BYTES:
        raise PackageError("the weights are larger than 2 GiB, which no single file can hold")
    names: dict[str, None] = {}
    for tensor in found:
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        names[location] = None
        tensor.raw_data = _read(tensor, folder)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
    return [_beside(folder, name) for name in names]


def _beside(folder: Path, location: str) -> Beside:
    with os.fdopen(_open(folder, _parts(location)), "rb") as file:
        return Beside(
            shown(location)[1:-1],
            file_digest(file, "sha256").hexdigest(),
            os.fstat(file.fileno()).st_size,
        )


def _every_tensor(model: ModelProto) -> Iterator[TensorProto]:
    yield from tensors(model.graph)
    for function in model.functions:
        yield from node_tensors(function.node)


def _is_outside(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


def _bytes(tensor: TensorProto) -> int:
    if any(length < 0 for length in tensor.dims):
        raise PackageError("a weight has an axis of negative length")
    try:
        itemsize = int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError) as error:
        raise PackageError("a weight outside the file has no known element type") from error
    return int(prod(tensor.dims)) * itemsize


def _read(tensor: TensorProto, folder: Path) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, wanted = entries.get("location", ""), _bytes(tensor)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", wanted))
    except ValueError as error:
        raise PackageError("a weight outside the file has no whole offset and length") from error
    if offset < 0 or length != wanted:
        raise PackageError(f"a weight of {wanted} bytes is said to have {length} in another file")
    with os.fdopen(_open(folder, _parts(location)), "rb") as file:
        there = os.fstat(file.fileno()).st_size
        if offset + length > there:
            raise PackageError(
                f"{shown(location)} has {there} bytes, and a weight ends at {offset + length}"
            )
        file.seek(offset)
        return file.read(length)


def _parts(location: str) -> tuple[str, ...]:
    parts = PurePosixPath(location).parts
    strange = "\\" in location or "\0" in location or location.startswith("/")
    if not parts or strange or ".." in parts:
        raise PackageError(f"weights at {shown(location)} lie outside the folder of the file")
    return parts


def _open(folder: Path, parts: tuple[str, ...]) -> int:
    """Open a regular file below *folder*, going through no link on the way."""
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    name = shown("/".join(parts))
    try:
        for part in parts:
            last, here = here, os.open(part, _OPENING, dir_fd=here)
            os.close(last)
    except FileNotFoundError as error:
        os.close(here)
        raise PackageError(f"{name}, which holds weights, is missing beside the file") from error
    except OSError as error:
        os.close(here)
        raise PackageError(f"{name} cannot be opened, or is a link") from error
    if not stat.S_ISREG(os.fstat(here).st_mode):
        os.close(here)
        raise PackageError(f"{name} is not a regular file")
    return here


def shown(text: str) -> str:
    """Write what a foreign file says as one short line without control characters."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"'{plain[:_SHOWN_MAX]}...'" if len(plain) > _SHOWN_MAX else f"'{plain}'"
