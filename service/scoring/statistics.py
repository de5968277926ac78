"""What the values of a row look like, in a handful of numbers that do not depend on its size."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from service.scoring.measures import flat
from service.specs import Rows, TensorSpec

BINS: Final = 8  # of the histogram of a row's values
# columns of a table up to which the values are their own statistics
MAX_COLUMNS: Final = 512
# of a share or an energy: below one in ten thousand the logarithm stops to grow
SMALLEST: Final = 1e-4

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Turns rows into short vectors that a foreign row cannot share with normal ones.

    A row of a table (one axis, no common range) is its own vector. Of anything else the vector
    holds mean and deviation; the histogram of the values, which tells a sparse row from a dense and
    ink from paper; and the mean squared step between neighbours along each axis, absolute and in
    units of the variance, which tells noise from shapes. Shares and energies are taken as
    logarithms: half as much is as far away as twice as much.

    Attributes:
        edges: Inner edges of the histogram's bins; empty for a table.
        axes: Along which neighbours are compared, the batch being axis 0.
    """

    edges: Vectors
    axes: tuple[int, ...]

    @classmethod
    def fit(cls, spec: TensorSpec, rows: Rows) -> Self:
        """Choose the bins: equal parts of the declared range, or of the values of normal *rows*."""
        if spec.range is None and len(spec.shape) == 1 and rows[0].size <= MAX_COLUMNS:
            return cls(np.zeros(0, np.float32), ())
        if spec.range is not None:
            edges = np.linspace(*spec.range, BINS + 1)[1:-1]
        else:
            edges = np.quantile(rows, np.arange(1, BINS) / BINS)
        return cls(edges.astype(np.float32), _neighbour_axes(spec))

    def of(self, rows: Rows) -> Vectors:
        """Give the vector of each row."""
        if not len(self.edges):
            return flat(rows).astype(np.float32)
        values = rows.astype(np.float64)
        every = flat(values)
        variance = every.var(axis=1)
        bins = np.searchsorted(self.edges, every, side="right")
        shares = [(bins == one).mean(axis=1) for one in range(len(self.edges) + 1)]
        steps = [_step_energy(values, axis) for axis in self.axes]
        energies = [variance, *steps, *(step / np.maximum(variance, 1e-12) for step in steps)]
        logs = [np.log(np.maximum(each, SMALLEST)) for each in [*shares, *energies]]
        return np.stack([every.mean(axis=1), *logs], axis=1).astype(np.float32)


def _neighbour_axes(spec: TensorSpec) -> tuple[int, ...]:
    """Give the axes along which neighbours belong together: all, but not colours."""
    layout = spec.image.layout if spec.image else "." * len(spec.shape)
    return tuple(1 + place for place, letter in enumerate(layout) if letter != "C")


def _step_energy(values: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    """Give the mean squared difference of neighbours along *axis*; 0 where there are none."""
    if values.shape[axis] == 1:
        return np.zeros(len(values))
    energy: npt.NDArray[np.float64] = flat(np.diff(values, axis=axis) ** 2).mean(axis=1)
    return energy
