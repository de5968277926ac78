"""Golden rows: a few rows with the answers that the model gave when it was packed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.archives import read_npz, write_npz
from service.errors import PackageError
from service.specs import Rows

INPUT = "input"


@dataclass(frozen=True, slots=True)
class GoldenRows:
    """Rows and the stored answers, by the tensor's public name (``code``, ``score``, ...)."""

    rows: Rows
    answers: Mapping[str, Rows]

    def agrees(self, name: str, answer: Rows, tolerance: float) -> bool:
        """Whether *answer* is the stored one, if there is one; whole numbers must be the same."""
        wanted = self.answers.get(name)
        if wanted is None:
            return True
        if answer.shape != wanted.shape:
            return False
        if answer.dtype.kind != "f":
            return np.array_equal(answer, wanted)
        error = np.abs(answer.astype(np.float64) - wanted)
        return bool((error <= tolerance * (1 + np.abs(wanted))).all())

    def to_bytes(self) -> bytes:
        """Write them as an npz file."""
        return write_npz({INPUT: self.rows, **self.answers})


def read_golden_rows(data: bytes) -> GoldenRows:
    """Read what *to_bytes* wrote.

    Raises:
        PackageError: The file is not that, or its answers are not finite numbers for each row.
    """
    arrays = read_npz(data, "the golden rows")
    rows = arrays.pop(INPUT, None)
    if rows is None:
        raise PackageError("the golden rows cannot be read: they have no input")
    for name, answer in arrays.items():
        if rows.ndim == 0 or answer.ndim == 0 or len(answer) != len(rows):
            raise PackageError(f"the golden rows do not have one {name} each")
        if answer.dtype.kind not in "fiu" or not np.isfinite(answer).all():
            raise PackageError(f"a golden {name} is not a finite number")
    if rows.ndim == 0 or not len(rows):
        raise PackageError("there are no golden rows")
    return GoldenRows(rows, arrays)
