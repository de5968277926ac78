"""Parquet: a table in columns, read and written by batches of rows."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.errors import ConfigurationError, InvalidRowsError, MalformedBodyError
from service.offline.chunks import MAX_ROWS, Answer, Chunk, admit, chunk_rows
from service.offline.columns import ColumnChoice, check_table, find_columns
from service.offline.part_file import PartFile
from service.offline.tables import Layout, Part
from service.specs import TensorSpec

# a row group of fewer rows or bytes costs its readers more than it saves in memory
_GROUP_ROWS: Final = 65_536
_GROUP_BYTES: Final = 16 * 1024 * 1024

# of each column, where a row group is larger than memory should be
_BUFFER_BYTES: Final = 64 * 1024


class ParquetReader:
    """A Parquet file, as chunks.

    Raises:
        ConfigurationError: pyarrow is not installed, or rows of the model do not lie in a table.
        MalformedBodyError: It is not a Parquet file.
        InvalidRowsError: Its columns are not those of a row.
    """

    unit = "rows"
    has_names = False

    def __init__(
        self, path: Path, spec: TensorSpec, choice: ColumnChoice, *, max_rows: int = MAX_ROWS
    ) -> None:
        check_table(spec, choice)
        self._arrow, parquet = _libraries()
        self._spec = spec
        self._max_rows = max_rows
        try:
            self._file = parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES)
        except (self._arrow.ArrowException, OSError) as error:
            raise MalformedBodyError("the file is not Parquet, or broken") from error
        header = self._file.schema_arrow.names
        self._names = [header[place] for place in find_columns(header, spec, choice)]
        for name in self._names:
            self._check_type(name)

    @property
    def total(self) -> int | None:
        return int(self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[Chunk]:
        start = 0
        size = chunk_rows(self._spec.row_bytes, self._max_rows)
        batches = self._file.iter_batches(size, columns=self._names, use_threads=False)
        try:
            for batch in batches:
                yield self._chunk(start, batch)
                start += batch.num_rows
        except (self._arrow.ArrowException, OSError) as error:
            raise MalformedBodyError(f"the file is broken behind row {start}") from error

    def _check_type(self, name: str) -> None:
        kind = self._file.schema_arrow.field(name).type
        types = self._arrow.types
        if not (types.is_integer(kind) or types.is_floating(kind)):
            raise InvalidRowsError(
                f"column '{name}' does not hold numbers", expected="numbers", received=str(kind)
            )

    def _chunk(self, start: int, batch: Any) -> Chunk:  # noqa: ANN401 - pyarrow has no types
        faults: dict[int, str] = {}
        columns = [self._column(batch, name, faults) for name in self._names]
        kept = np.setdiff1d(np.arange(batch.num_rows), list(faults))
        array = np.column_stack(columns)
        rows, refused = admit(array if not faults else array[kept], self._spec, kept)
        return Chunk(start, batch.num_rows, rows, batch.num_rows, faults | refused)

    def _column(self, batch: Any, name: str, faults: dict[int, str]) -> npt.NDArray[Any]:  # noqa: ANN401
        column = batch.column(name)
        if column.null_count:
            missing = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
            for row in missing.tolist():
                faults.setdefault(row, f"column '{name}' is empty")
            column = column.fill_null(0)
        values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return values


class ParquetWriter:
    """Writes answers as a table; of rows that were left out the values are null.

    Args:
        path: The file that it becomes.
        layout: Which columns there are.
        facts: What a reader may want to know of all rows, as metadata of the file.
    """

    def __init__(self, path: Path, layout: Layout, facts: dict[str, str]) -> None:
        self._arrow, parquet = _libraries()
        self._layout = layout
        self._schema = self._arrow.schema(
            [(name, kind) for name, kind in self._columns()], metadata=facts
        )
        self._part = PartFile(path)
        self._writer = parquet.ParquetWriter(self._part.file, self._schema)
        self._batches: list[Any] = []

    def write(self, answer: Answer) -> None:
        arrays = self._leading(answer)
        for part in self._layout.content.parts(answer.values):
            arrays += [self._array(column, answer) for column in self._of(part)]
        self._batches.append(self._arrow.record_batch(arrays, schema=self._schema))
        rows = sum(batch.num_rows for batch in self._batches)
        if rows >= _GROUP_ROWS or sum(batch.nbytes for batch in self._batches) >= _GROUP_BYTES:
            self._write_group()

    def finish(self) -> None:
        self._write_group()
        self._writer.close()
        self._part.finish()

    def abandon(self) -> None:
        self._writer.close()
        self._part.abandon()

    def _columns(self) -> Iterator[tuple[str, Any]]:
        if self._layout.has_numbers:
            yield "row", self._arrow.int64()
        if self._layout.has_names:
            yield "picture", self._arrow.string()
        for part in self._layout.content.parts(None):
            yield from ((name, self._arrow.from_numpy_dtype(part.dtype)) for name in part.names)

    def _leading(self, answer: Answer) -> list[Any]:
        chunk = answer.chunk
        arrays = []
        if self._layout.has_numbers:
            numbers = np.arange(chunk.start, chunk.start + chunk.count, dtype=np.int64)
            arrays.append(self._arrow.array(numbers))
        if self._layout.has_names:
            arrays.append(self._arrow.array(list(chunk.names or ()), self._arrow.string()))
        return arrays

    def _of(self, part: Part) -> list[npt.NDArray[Any] | None]:
        if part.values is None:
            return [None] * len(part.names)
        return list(part.values.T)

    def _array(self, column: npt.NDArray[Any] | None, answer: Answer) -> Any:  # noqa: ANN401
        chunk = answer.chunk
        if column is None:
            return self._arrow.nulls(chunk.count)
        if not chunk.faults:
            return self._arrow.array(np.ascontiguousarray(column))
        full = np.zeros(chunk.count, column.dtype)
        is_missing = np.ones(chunk.count, np.bool_)
        full[chunk.kept], is_missing[chunk.kept] = column, False
        return self._arrow.array(full, mask=is_missing)

    def _write_group(self) -> None:
        if self._batches:
            self._writer.write_table(self._arrow.Table.from_batches(self._batches))
            self._batches.clear()


def _libraries() -> tuple[Any, Any]:
    """Import pyarrow, which takes 0.2 s and is not installed everywhere."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigurationError(
            "Parquet needs pyarrow: pip install 'hourglass-serve[parquet]'"
        ) from None
