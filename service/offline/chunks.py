"""Pieces of a file on their way in, and what the model gave for them on their way out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from service.bodies.rows import to_rows
from service.errors import InvalidRowsError, RequestError
from service.scoring.catalogue import Evidence
from service.specs import Rows, TensorSpec

# what a chunk holds at most: several runs of the largest batch, and little beside a model
MAX_ROWS: Final = 512
MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a file, one after another.

    Attributes:
        start: Zero-based place of its first row in the file.
        count: Rows of the file that it stands for, faulty ones included.
        rows: Those that the model takes.
        faults: What is wrong with the others, by their place in the chunk.
        lines: The line of each row, in a file that has lines.
        names: The file of each row, in a folder.
        done: How far the file is read with it, in the reader's unit.
    """

    start: int
    count: int
    rows: Rows
    done: int
    faults: dict[int, str]
    lines: Sequence[int] | None = None
    names: Sequence[str] | None = None

    @property
    def kept(self) -> npt.NDArray[np.intp]:
        """The places of *rows* in the chunk."""
        return np.setdiff1d(np.arange(self.count), list(self.faults), assume_unique=True)

    def told_faults(self) -> list[str]:
        """Name every faulty row, and say what is wrong with it."""
        return [f"{self.place(index)}{self.faults[index]}" for index in sorted(self.faults)]

    def place(self, index: int) -> str:
        """Say where a row stands, for people."""
        if self.names is not None:
            return f"{self.names[index]}: "
        if self.lines is not None:
            return f"line {self.lines[index]}: "
        return f"row {self.start + index}: "

    def without(self, row: int, fault: str) -> "Chunk":
        """Leave out one of *rows*, which the model failed on."""
        faults = {**self.faults, int(self.kept[row]): fault}
        return replace(self, rows=np.delete(self.rows, row, axis=0), faults=faults)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model gave for a chunk.

    Attributes:
        chunk: With the rows that the model failed on among its faults.
        values: Scores, codes or reconstructions of the chunk's rows.
        errors: The error of every feature, where it was asked for.
        evidence: All that the scores come from, where it was asked for.
    """

    chunk: Chunk
    values: Rows
    errors: Rows | None = None
    evidence: Evidence | None = None


class Reader(Protocol):
    """A file, chunk by chunk.

    Attributes:
        total: Its length in *unit*, where it is known.
        unit: ``rows`` or ``B``, for the progress bar.
        has_names: Whether its rows are files of their own.
    """

    @property
    def total(self) -> int | None: ...
    @property
    def unit(self) -> str: ...
    @property
    def has_names(self) -> bool: ...
    def __iter__(self) -> Iterator[Chunk]: ...


class Writer(Protocol):
    """A file that takes answers in the order of the rows."""

    def write(self, answer: Answer) -> None: ...
    def finish(self) -> None:
        """Make the file whole and give it its name."""
        ...

    def abandon(self) -> None:
        """Leave nothing behind that could be taken for a whole file."""
        ...


def chunk_rows(row_bytes: int, max_rows: int = MAX_ROWS) -> int:
    """Say how many rows of so many bytes make a chunk."""
    return max(1, min(max_rows, MAX_BYTES // max(1, row_bytes)))


def admit(
    array: npt.NDArray[Any], spec: TensorSpec, places: npt.NDArray[np.intp] | None = None
) -> tuple[Rows, dict[int, str]]:
    """Convert rows as those of a request, and leave out the ones that the model does not take.

    Args:
        array: The rows as they were read.
        spec: What the model takes.
        places: The place of each row in its chunk.

    Returns:
        The rows that are right, and what is wrong with the others by their place.

    Raises:
        InvalidRowsError: All rows have the wrong shape or dtype.
    """
    kept = np.arange(len(array)) if places is None else places
    faults: dict[int, str] = {}
    while len(array):
        try:
            return to_rows(array, spec), faults
        except InvalidRowsError as error:
            bad = [(one.row, told(one)) for one in (error, *error.others) if one.row is not None]
            if not bad:
                raise
        faults |= {int(kept[row]): text for row, text in bad}
        rows = [row for row, _ in bad]
        array, kept = np.delete(array, rows, axis=0), np.delete(kept, rows)
    return np.empty((0, *array.shape[1:]), spec.numpy_dtype), faults


def told(error: RequestError) -> str:
    """Put what a client would read in three fields into one line."""
    more = [
        f"{word} {text}"
        for word, text in (("expected", error.expected), ("received", error.received))
        if text is not None
    ]
    # a query parameter over HTTP is a flag here
    detail = error.detail.replace("?resize=true", "--resize")
    return f"{detail} ({', '.join(more)})" if more else detail
