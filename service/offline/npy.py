"""NumPy's own format, in slices: an array need not fit into memory."""

import mmap
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from service.bodies.npy import MAX_HEAD_BYTES, Head, parse_head
from service.bodies.rows import shaped
from service.errors import ConfigurationError, InvalidRowsError
from service.offline.chunks import MAX_ROWS, Answer, Chunk, admit, chunk_rows
from service.offline.part_file import PartFile
from service.specs import Rows, TensorSpec


class NpyReader:
    """An npy file, as chunks.

    Raises:
        MalformedBodyError: It is not one, or its header does not fit its length.
        InvalidRowsError: It does not hold numbers, or has no axis of rows.
    """

    unit = "rows"
    has_names = False

    def __init__(self, path: Path, spec: TensorSpec, *, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._path = path
        self._spec = spec
        with path.open("rb") as file:
            self._head = parse_head(file.read(MAX_HEAD_BYTES), path.stat().st_size, spec)
        if not self._head.shape:
            raise InvalidRowsError("the array is a single number, not rows")

    @property
    def total(self) -> int | None:
        return self._head.shape[0]

    def __iter__(self) -> Iterator[Chunk]:
        rows = self._head.shape[0]
        size = chunk_rows(prod(self._head.shape[1:]) * self._head.dtype.itemsize, self._max_rows)
        slices = _columns_first if self._head.is_fortran else _rows_first
        with self._path.open("rb") as file:
            for start, array in slices(file, self._head, size):
                native = array.astype(array.dtype.newbyteorder("="), copy=False)
                good, faults = admit(native, self._spec)
                yield Chunk(start, min(size, rows - start), good, len(array), faults)


class NpyWriter:
    """Writes answers as one array; rows that were left out are NaN.

    Args:
        path: The file that it becomes.
        dtype: Of the values.
        row: The shape of a row, where it is known before the first.
        fills: Whether rows may be left out.

    Raises:
        ConfigurationError: Rows may be left out, and integers have nothing to say so.
    """

    def __init__(
        self, path: Path, dtype: np.dtype[Any], row: tuple[int, ...] | None, *, fills: bool
    ) -> None:
        if fills and dtype.kind != "f":
            raise ConfigurationError(
                f"an npy file of {dtype} cannot show which rows were skipped; write csv or parquet"
            )
        self._part = PartFile(path)
        self._dtype = dtype
        self._row = row
        self._rows = 0
        self._data_at: int | None = None
        if row is not None:
            self._write_header()

    def write(self, answer: Answer) -> None:
        self._settle_shape(answer)
        self._part.file.write(np.ascontiguousarray(self._filled(answer)).data)
        self._rows += answer.chunk.count

    def finish(self) -> None:
        self._part.file.seek(0)
        self._write_header()
        self._part.finish()

    def abandon(self) -> None:
        self._part.abandon()

    def _settle_shape(self, answer: Answer) -> None:
        shape = answer.values.shape[1:]
        if self._row is None and len(answer.values):
            self._row = shape
            self._write_header()
        if self._row is None or (len(answer.values) and shape != self._row):
            raise InvalidRowsError(
                "all rows of an npy file have one shape", expected=str(self._row or "rows first")
            )

    def _filled(self, answer: Answer) -> Rows:
        if not answer.chunk.faults:
            return answer.values
        full = np.full((answer.chunk.count, *(self._row or ())), np.nan, self._dtype)
        full[answer.chunk.kept] = answer.values
        return full

    def _write_header(self) -> None:
        """Write a header; NumPy leaves room in it for any number of rows."""
        descr = npy_format.dtype_to_descr(self._dtype.newbyteorder("<"))
        shape = (self._rows, *(self._row or ()))
        fields = {"descr": descr, "fortran_order": False, "shape": shape}
        npy_format.write_array_header_1_0(self._part.file, fields)
        end = self._part.file.tell()
        if self._data_at not in {None, end}:
            raise AssertionError("the header has outgrown its room")
        self._data_at = end


def _rows_first(file: BinaryIO, head: Head, size: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    elements = prod(head.shape[1:])
    file.seek(head.offset)
    for start in range(0, head.shape[0], size):
        rows = min(size, head.shape[0] - start)
        flat = np.fromfile(file, head.dtype, rows * elements)
        yield start, shaped(flat, (rows, *head.shape[1:]))


def _columns_first(file: BinaryIO, head: Head, size: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Gather rows from all over the file; the kernel drops what was mapped when it needs room."""
    if not prod(head.shape):
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        flat: npt.NDArray[Any] = np.frombuffer(mapped, head.dtype, offset=head.offset)
        array = shaped(flat, head.shape, order="F")
        for start in range(0, head.shape[0], size):
            yield start, np.array(array[start : start + size], order="C")
        del flat, array
