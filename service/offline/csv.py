"""Comma-separated values: one row a line, with or without a header.

As RFC 4180 has it, with what programs do beside it: any end of line, empty lines, a byte order
mark. Numbers are read as JSON's are, so a file gives the bits that the same numbers give over HTTP.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRowsError, MalformedBodyError
from service.offline.chunks import MAX_ROWS, Answer, Chunk, admit, chunk_rows
from service.offline.columns import ColumnChoice, check_table, check_width, find_columns
from service.offline.part_file import PartFile
from service.offline.tables import Layout
from service.specs import TensorSpec

# Python's float() and int() take more than numbers of a file should look like: digits of every
# script, underscores between them
_PLAIN: Final = re.compile(r"[0-9eE+\-. \t\n]*")
_FLOAT: Final = re.compile(
    r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)\s*", re.ASCII | re.IGNORECASE
)
_INTEGER: Final = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)

_Record: TypeAlias = tuple[int, list[str] | str]
"""The line it begins on; its cells, or what is wrong with it."""


class CsvReader:
    """A csv file, as chunks.

    Args:
        stream: Its bytes; read once, so it may be a pipe.
        spec: What a row of the model looks like.
        choice: Which columns make a row.
        max_rows: Of a chunk.

    Raises:
        ConfigurationError: Rows of the model do not lie in a table.
    """

    unit = "B"
    has_names = False

    def __init__(
        self,
        stream: BinaryIO,
        spec: TensorSpec,
        choice: ColumnChoice,
        *,
        max_rows: int = MAX_ROWS,
    ) -> None:
        check_table(spec, choice)
        self._stream = stream
        self._spec = spec
        self._choice = choice
        self._header: list[str] | None = None
        self._places: list[int] | None = None
        self._width = spec.size
        self._max_rows = max_rows
        self._read = 0

    @property
    def total(self) -> int | None:
        return os.fstat(self._stream.fileno()).st_size if self._stream.seekable() else None

    def __iter__(self) -> Iterator[Chunk]:
        records = self._data(_records(self._stream))
        size = chunk_rows(
            self._spec.size * 64, self._max_rows
        )  # bytes of a number as a Python text
        start = 0
        while some := list(islice(records, size)):
            yield self._chunk(start, some)
            start += len(some)

    def _data(self, records: Iterator[_Record]) -> Iterator[_Record]:
        """Take the header off, if there is one."""
        first = next(records, None)
        if first is None:
            return
        if isinstance(first[1], list) and self._is_header(first[1]):
            self._header, self._width = first[1], len(first[1])
            self._places = find_columns(first[1], self._spec, self._choice)
        else:
            self._check_without_header(first[1])
            records = chain([first], records)
        yield from records

    def _is_header(self, cells: list[str]) -> bool:
        """Names that are numbers are a header when the model has them."""
        wanted = self._choice.wanted(self._spec)
        if wanted is not None and set(wanted) <= set(cells):
            return True
        return not any(_FLOAT.fullmatch(cell) for cell in cells)

    def _check_without_header(self, cells: list[str] | str) -> None:
        if self._choice.names is not None:
            raise InvalidRowsError("--columns needs a header, and the first line is none")
        if isinstance(cells, list):
            check_width(len(cells), self._spec)

    def _chunk(self, start: int, records: list[_Record]) -> Chunk:
        faults = {
            index: fault
            for index, (_, cells) in enumerate(records)
            if (fault := self._wrong_form(cells)) is not None
        }
        good = {i: self._picked(cells) for i, (_, cells) in enumerate(records) if i not in faults}
        array = self._numbers(good, faults)
        rows, refused = admit(array, self._spec, np.array(list(good), np.intp))
        lines = [line for line, _ in records]
        return Chunk(start, len(records), rows, self._progress(), faults | refused, lines=lines)

    def _wrong_form(self, cells: list[str] | str) -> str | None:
        if isinstance(cells, str):
            return cells
        if len(cells) != self._width:
            return f"{len(cells)} columns instead of {self._width}"
        return None

    def _picked(self, cells: list[str] | str) -> Sequence[str]:
        return cells if self._places is None else [cells[place] for place in self._places]

    def _numbers(self, good: dict[int, Sequence[str]], faults: dict[int, str]) -> npt.NDArray[Any]:
        """Read all numbers at once; where that fails, move the culprits to the faults."""
        number, dtype = _kind(self._spec)
        quick = _all_numbers(good.values(), number, dtype)
        if quick is None:
            for index, cells in list(good.items()):
                fault = self._fault_of(cells)
                if fault is not None:
                    faults[index] = fault
                    del good[index]
            quick = np.array([[number(cell) for cell in cells] for cells in good.values()], dtype)
        return quick.reshape(len(good), self._spec.size)

    def _fault_of(self, cells: Sequence[str]) -> str | None:
        is_float = self._spec.numpy_dtype.kind == "f"
        form, what = (_FLOAT, "number") if is_float else (_INTEGER, "integer")
        for place, cell in enumerate(cells):
            if not form.fullmatch(cell):
                return f"column {self._column(place)} is {'empty' if not cell else f'no {what}'}"
            if not is_float and not -(2**63) <= int(cell) < 2**63:
                return f"column {self._column(place)} does not fit into {self._spec.dtype}"
        return None

    def _column(self, place: int) -> str:
        if self._places is None or self._header is None:
            return str(place + 1)
        return f"'{self._header[self._places[place]]}'"

    def _progress(self) -> int:
        """Tell how many bytes were read since the last time."""
        if not self._stream.seekable():
            return 0
        before, self._read = self._read, self._stream.tell()
        return self._read - before


class CsvWriter:
    """Writes answers as lines; the numbers look as they do in JSON over HTTP.

    Args:
        file: Where to.
        layout: Which columns there are.
        part: What gives the file its name at the end, where it has one.
    """

    def __init__(self, file: BinaryIO, layout: Layout, part: PartFile | None = None) -> None:
        self._file = file
        self._layout = layout
        self._part = part
        self._has_header = False

    def write(self, answer: Answer) -> None:
        if not self._has_header:
            self._file.write(_line(self._layout.names))
            self._has_header = True
        self._file.writelines(self._layout.lines(answer))
        if self._part is None:
            self._file.flush()

    def finish(self) -> None:
        if self._part is not None:
            self._part.finish()

    def abandon(self) -> None:
        if self._part is not None:
            self._part.abandon()


def _records(stream: BinaryIO) -> Iterator[_Record]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    line = 1
    try:
        while True:
            line = reader.line_num + 1
            try:
                cells: list[str] | str = next(reader)
            except csv.Error as error:
                cells = f"not a line of csv: {error}"
            if cells:  # an empty line has none
                yield line, cells
    except StopIteration:
        return
    except UnicodeDecodeError:
        raise MalformedBodyError(f"the file is not UTF-8 from about line {line} on") from None
    finally:
        if not stream.closed:
            text.detach()  # the stream is not ours to close


def _kind(spec: TensorSpec) -> tuple[Callable[[str], float], type[np.number[Any]]]:
    """Choose how a number is read; integers never pass through floats."""
    return (float, np.float64) if spec.numpy_dtype.kind == "f" else (int, np.int64)


def _all_numbers(
    rows: Iterable[Sequence[str]], number: Callable[[str], float], dtype: type[np.number[Any]]
) -> npt.NDArray[Any] | None:
    cells = list(chain.from_iterable(rows))
    if not _PLAIN.fullmatch("\n".join(cells)):
        return None
    try:
        return np.fromiter(map(number, cells), dtype, len(cells))
    except (ValueError, OverflowError):
        return None


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
