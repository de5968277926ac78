"""Folders of pictures: one picture a row, in the order of their names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from service.bodies import picture
from service.errors import ConfigurationError, RequestError
from service.offline.chunks import MAX_ROWS, Answer, Chunk, Writer, chunk_rows, told
from service.offline.part_file import write_whole
from service.specs import Rows, TensorSpec

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")

# of a free axis, to bound what a chunk holds before the first picture is known
_USUAL_LENGTH: Final = 512


class PictureReader:
    """The pictures of a folder, as chunks; other files in it are passed over.

    Args:
        folder: Where they lie.
        spec: What a row of the model looks like.
        max_pixels: Of one picture, by its header.
        resize: Bring them to the model's size.

    Raises:
        ConfigurationError: The model takes no pictures, or there are none.
    """

    unit = "rows"
    has_names = True

    def __init__(
        self,
        folder: Path,
        spec: TensorSpec,
        *,
        max_pixels: int,
        resize: bool,
        max_rows: int = MAX_ROWS,
    ) -> None:
        if spec.image is None:
            raise ConfigurationError("this model takes no pictures, and the input is a folder")
        names = (path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        self._names = sorted(name for name in names if not name.startswith("."))
        if not self._names:
            raise ConfigurationError(f"there is no picture ({', '.join(SUFFIXES)}) in {folder}")
        self._folder = folder
        self._spec = spec
        self._max_rows = max_rows
        self._max_pixels = max_pixels
        self._resize = resize

    @property
    def total(self) -> int | None:
        return len(self._names)

    def __iter__(self) -> Iterator[Chunk]:
        """Give chunks of pictures that have one size."""
        start = end = 0
        rows: list[Rows] = []
        faults: dict[int, str] = {}
        for name in self._names:
            row = self._row(name)
            is_full = end > start and end - start >= self._chunk_rows(rows)
            is_other = isinstance(row, np.ndarray) and rows and row.shape != rows[0].shape
            if is_full or is_other:
                yield self._chunk(start, end, rows, faults)
                start, rows, faults = end, [], {}
            if isinstance(row, str):
                faults[end - start] = row
            else:
                rows.append(row)
            end += 1
        yield self._chunk(start, end, rows, faults)

    def _row(self, name: str) -> Rows | str:
        """Read one picture, or say what is wrong with it."""
        budget = picture.PixelBudget(self._max_pixels)
        try:
            data = (self._folder / name).read_bytes()
            return picture.parse(data, self._spec, budget=budget, resize=self._resize)
        except RequestError as error:
            return told(error)
        except OSError:
            return "the file cannot be read"

    def _chunk_rows(self, rows: list[Rows]) -> int:
        return chunk_rows(rows[0].nbytes if rows else 0, self._max_rows)

    def _chunk(self, start: int, end: int, rows: list[Rows], faults: dict[int, str]) -> Chunk:
        shape = [_USUAL_LENGTH if axis is None else axis for axis in self._spec.shape]
        together = np.concatenate(rows) if rows else np.empty((0, *shape), self._spec.numpy_dtype)
        return Chunk(
            start, end - start, together, end - start, faults, names=self._names[start:end]
        )


class PictureWriter:
    """Writes each reconstruction as a PNG of its own.

    Args:
        folder: Where to; new or empty.
        spec: What a row of the output looks like.
    """

    def __init__(self, folder: Path, spec: TensorSpec) -> None:
        self._folder = folder
        self._spec = spec

    def write(self, answer: Answer) -> None:
        for index, row in zip(answer.chunk.kept.tolist(), answer.values, strict=True):
            data = picture.render(row[np.newaxis], self._spec)
            write_whole(self._folder / file_name(answer.chunk, index), data)

    def finish(self) -> None:
        """Each picture is whole already."""

    def abandon(self) -> None:
        """Those that are there are whole."""


class HeatMapWriter:
    """Writes each row's heat map as a PNG of its own, and the scores as another writer does.

    Args:
        folder: Where to; new or empty.
        spec: What a row of the input looks like.
        high: The error that is white, see *Calibration*.
        scores: Takes the scores.
    """

    def __init__(self, folder: Path, spec: TensorSpec, high: float, scores: Writer) -> None:
        self._folder = folder
        self._spec = spec
        self._high = high
        self._scores = scores

    def write(self, answer: Answer) -> None:
        if answer.errors is None:
            raise AssertionError("heat maps are drawn from the errors of features")
        for index, errors in zip(answer.chunk.kept.tolist(), answer.errors, strict=True):
            data = picture.render_heat_map(errors[np.newaxis], self._spec, self._high)
            write_whole(self._folder / file_name(answer.chunk, index), data)
        self._scores.write(answer)

    def finish(self) -> None:
        self._scores.finish()

    def abandon(self) -> None:
        self._scores.abandon()


def file_name(chunk: Chunk, index: int) -> str:
    """Name the picture of a row after its own, or by its number, so that names keep the order."""
    if chunk.names is None:
        return f"{chunk.start + index:09d}.png"
    name = chunk.names[index]
    return name if name.lower().endswith(".png") else f"{name}.png"
