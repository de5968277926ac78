"""Reconstruction along the projection pathway: every inner layer is asked, not the input alone.

Kim et al., "RaPP: Novelty Detection with Reconstruction along Projection Pathway", ICLR 2020. The
reconstruction is encoded again, and what the layers make of it is compared with what they made
of the row. With h_0 the row itself and h_1, ..., h_l the layers,

    SAP = sum over i of |h_i(x) - h_i(x')|^2

and NAP does the same after the vector of all differences was whitened: its mean over normal rows
is taken off, and every principal direction is divided by its deviation there, so a layer that
always differs a lot says no more than one that hardly ever does.

Two things are unlike the paper's NAP. The row's own difference is left out, which ``mse`` measures
anyway: a few thousand rows do not tell how 784 pixels vary together, and with one digit of MNIST
as the normal one the AUROC falls by a point with it. And no direction is divided by less than
0.003 of the largest deviation, so that directions in which normal rows do not differ at all
still count without rounding errors deciding; the paper leaves those out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from service.errors import PackageError
from service.scoring.codes import spread
from service.scoring.measures import Scores, flat
from service.specs import Rows

SAP: Final = "sap"
NAP: Final = "rapp"

# of the largest deviation. Of 0.1, 0.03, 0.01 and 0.003 the smaller found more anomalies both in
# tables and among digits, and the last two found the same
SMALLEST_DEVIATION: Final = 0.003
MAX_DIRECTIONS: Final = 512
MAX_WIDE_ROWS: Final = 2000  # rows that directions of longer vectors are found from, in seconds
_NOTHING: Final = 1e-12  # a deviation that a float32 score can still be divided by

Vectors = npt.NDArray[np.float32]


def layer_differences(layers: Sequence[Rows], layers_again: Sequence[Rows]) -> Vectors:
    """Put side by side what all layers say of a row and of its reconstruction, one vector a row.

    Args:
        layers: Inner layers and code for the rows, in any fixed order.
        layers_again: The same layers for the reconstructions.
    """
    pairs = zip(layers, layers_again, strict=True)
    parts = [flat(a).astype(np.float32) - flat(b).astype(np.float32) for a, b in pairs]
    return np.concatenate(parts, axis=1)


def simple_aggregation(errors: Rows, differences: Vectors) -> Scores:
    """Give SAP: the sum of the squared differences of input and layers.

    Args:
        errors: Squared errors of the features, see ``measures.feature_errors``.
        differences: Of the layers.
    """
    inner = np.square(differences).sum(axis=1, dtype=np.float32)
    sums: Scores = flat(errors).sum(axis=1, dtype=np.float32) + inner
    return sums


@dataclass(frozen=True, slots=True)
class Whitening:
    """What NAP knows of normal rows.

    Attributes:
        middle: Mean vector of differences.
        directions: Orthonormal principal directions, one a line.
        deviations: Of normal rows along each of them.
        rest: Deviation by which everything else is divided.
    """

    middle: Vectors
    directions: Vectors
    deviations: Vectors
    rest: float

    def __post_init__(self) -> None:
        if self.middle.ndim != 1 or self.directions.shape[1:] != self.middle.shape:
            raise PackageError("mean and directions of differences do not fit each other")
        if self.deviations.shape != self.directions.shape[:1]:
            raise PackageError("directions and deviations of differences do not fit each other")
        if not ((self.deviations > 0).all() and self.rest > 0):
            raise PackageError("the deviations of differences must be positive")

    @classmethod
    def fit(cls, differences: Vectors) -> Self:
        """Find the directions from the vectors of normal rows."""
        exact = differences.astype(np.float64)
        middle = exact.mean(axis=0)
        deviations, directions = _principal(exact - middle)
        beyond = deviations[MAX_DIRECTIONS] if len(deviations) > MAX_DIRECTIONS else 0.0
        rest = max(SMALLEST_DEVIATION * float(deviations[0]), float(beyond), _NOTHING)
        kept = int((deviations > rest).sum())
        return cls(
            middle.astype(np.float32),
            directions[:kept].astype(np.float32),
            deviations[:kept].astype(np.float32),
            rest,
        )

    def scores(self, differences: Vectors) -> Scores:
        """Give NAP, divided by the number of directions: about 1 for normal rows."""
        if differences.shape[1] != len(self.middle):
            raise PackageError(
                f"the measure was fitted on {len(self.middle)} differences a row,"
                f" not {differences.shape[1]}"
            )
        # one row after the other: for a batch, BLAS would choose its way by the number of rows
        return np.array([self._score(vector) for vector in differences - self.middle], np.float32)

    def _score(self, vector: Vectors) -> float:
        along = self.directions @ vector
        left = vector - along @ self.directions
        inside = np.square(along / self.deviations).sum(dtype=np.float64)
        outside = np.square(left).sum(dtype=np.float64) / self.rest**2
        return float(inside + outside) / max(len(along), 1)


def _principal(
    centred: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give deviations, largest first, and directions, one a line.

    By the eigenvectors of whichever is smaller, the products of columns or those of rows.
    """
    rows, size = centred.shape
    if rows >= size:
        squares, vectors = np.linalg.eigh(centred.T @ centred / rows)
        return np.sqrt(np.maximum(squares[::-1], 0.0)), vectors.T[::-1]
    chosen = centred[spread(rows, MAX_WIDE_ROWS)]
    squares, vectors = np.linalg.eigh(chosen @ chosen.T / len(chosen))
    deviations = np.sqrt(np.maximum(squares[::-1], 0.0))
    directions = vectors.T[::-1] @ chosen
    # those of no length have no direction; they are never kept
    return deviations, directions / np.maximum(
        np.linalg.norm(directions, axis=1, keepdims=True), _NOTHING
    )
