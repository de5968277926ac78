"""How answers lie in a table: names and types of its columns, and the columns of one answer."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from service.bodies import json
from service.errors import ConfigurationError
from service.offline.chunks import Answer
from service.scoring.calibration import Calibration
from service.scoring.verdicts import Rule, judge
from service.specs import Rows, TensorSpec, shape_text


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring columns of one type.

    Attributes:
        names: Of the columns.
        values: Shape ``(rows, columns)``; ``None`` where nothing is known.
        dtype: Of the values.
    """

    names: Sequence[str]
    values: Rows | None
    dtype: np.dtype[Any]


class Content(Protocol):
    """What the columns hold, beside the names of rows."""

    def parts(self, values: Rows | None) -> list[Part]:
        """Give the columns of some rows; of none, for their names and types."""
        ...


@dataclass(frozen=True, slots=True)
class Values:
    """Codes or reconstructions, a column for each value."""

    names: Sequence[str]
    dtype: np.dtype[Any]

    def parts(self, values: Rows | None) -> list[Part]:
        flat = None if values is None else values.reshape(len(values), len(self.names))
        return [Part(self.names, flat, self.dtype)]


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """Scores and what follows from them."""

    rule: Rule
    calibration: Calibration | None

    def parts(self, values: Rows | None) -> list[Part]:
        scores = np.empty(0, np.float32) if values is None else values
        found = judge(scores, self.rule, self.calibration)
        threshold = None
        if self.rule.threshold is not None:
            threshold = np.full(len(scores), shortest(self.rule.threshold))
        columns: dict[str, tuple[npt.NDArray[Any] | None, type]] = {
            "score": (scores, np.float32),
            "p_value": (found.p_values, np.float64),
            "anomaly": (found.anomalies, np.bool_),
            "threshold": (threshold, np.float64),
        }
        return [
            Part([name], None if column is None else column.reshape(-1, 1), np.dtype(dtype))
            for name, (column, dtype) in columns.items()
        ]


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table.

    Attributes:
        content: What they hold.
        has_numbers: Whether the number of each row stands before them.
        has_names: Whether the name of each row's picture does.
    """

    content: Content
    has_numbers: bool
    has_names: bool

    @property
    def names(self) -> list[str]:
        leading = ["row"] * self.has_numbers + ["picture"] * self.has_names
        return leading + [name for part in self.content.parts(None) for name in part.names]

    def lines(self, answer: Answer) -> Iterator[bytes]:
        """Write an answer as lines of csv; of rows that were left out the values are empty."""
        parts = self.content.parts(answer.values)
        texts = zip(*(_texts(part, len(answer.values)) for part in parts), strict=True)
        commas = sum(len(part.names) for part in parts) - 1
        blank = b"," * commas
        for index in range(answer.chunk.count):
            values = blank if index in answer.chunk.faults else b",".join(next(texts))
            line = b",".join([*self._leading(answer, index), values])
            # an empty line would be passed over by those who read it
            yield (line or b'""') + b"\n"

    def _leading(self, answer: Answer, index: int) -> list[bytes]:
        cells = []
        if self.has_numbers:
            cells.append(b"%d" % (answer.chunk.start + index))
        if self.has_names and answer.chunk.names is not None:
            cells.append(_quoted(answer.chunk.names[index]))
        return cells


def value_names(spec: TensorSpec, letter: str) -> list[str]:
    """Name the columns of a row: the model's feature names, or a letter and a number.

    Raises:
        ConfigurationError: Rows of *spec* have no fixed number of values.
    """
    if spec.features is not None:
        return list(spec.features)
    if not spec.is_fixed:
        raise ConfigurationError(
            f"rows of the shape {shape_text(spec.shape)} do not fit into the columns of a table"
        )
    return [f"{letter}{number}" for number in range(prod(spec.item_shape))]


def shortest(threshold: float) -> float:
    """Give a calibrated threshold, which is a float32 score, the text that scores have."""
    with np.errstate(over="ignore"):  # a user's own threshold may be any number
        single = np.float32(threshold)
    return float(str(single)) if float(single) == threshold else threshold


def _texts(part: Part, rows: int) -> Iterator[bytes]:
    if part.values is None or not rows:
        return iter([b"," * (len(part.names) - 1)] * rows)
    return iter(json.render(np.ascontiguousarray(part.values))[2:-2].split(b"],["))


def _quoted(name: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="").writerow([name])
    return text.getvalue().encode("utf-8", "surrogateescape")
