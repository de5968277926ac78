"""How far a code is from the codes of normal rows: two distances, fitted on normal rows.

A row that the model reconstructs well may still lie where no normal row lies. Both measures here
look at the code alone, so a model needs no decoder for them.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from service.errors import PackageError
from service.scoring.measures import Scores, flat
from service.specs import Rows

MAHALANOBIS: Final = "mahalanobis"
KNN: Final = "knn"

NEIGHBOURS: Final = 5
# reference rows that are kept: a search costs a pass over them, 75 us a row with 32 values
MAX_REFERENCES: Final = 2000
MAX_REFERENCE_VALUES: Final = 1 << 18  # of all of them together, 1 MiB; fewer rows of long codes

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CodeDistribution:
    """Where the codes of normal rows lie, as an ellipsoid.

    Mahalanobis distance sqrt((c - m)' S^-1 (c - m)), with the covariance S shrunk towards a
    multiple of the identity by the share that Ledoit and Wolf derive ("A well-conditioned
    estimator for large-dimensional covariance matrices", Journal of Multivariate Analysis 88,
    2004). So S can be inverted with fewer rows than code values, too.

    Attributes:
        middle: Mean code.
        whitening: Matrix W with W' W = S^-1.
    """

    middle: Vectors
    whitening: Vectors

    def __post_init__(self) -> None:
        if self.middle.ndim != 1 or self.whitening.shape != 2 * self.middle.shape:
            raise PackageError("mean and covariance of codes do not fit each other")

    @classmethod
    def fit(cls, codes: Rows) -> Self:
        """Estimate the ellipsoid from the codes of normal rows."""
        vectors = flat(codes).astype(np.float64)
        middle = vectors.mean(axis=0)
        values, vectors_ = np.linalg.eigh(shrunk_covariance(vectors - middle))
        # codes that never move have no length to measure by; whatever moves there is far away
        values = np.maximum(values, np.finfo(np.float32).eps * max(values[-1], 1e-30))
        whitening = vectors_.T / np.sqrt(values)[:, np.newaxis]
        return cls(middle.astype(np.float32), whitening.astype(np.float32))

    def scores(self, codes: Rows) -> Scores:
        """Score each row by the distance of its code from the mean code."""
        vectors = _like(flat(codes), self.middle) - self.middle
        return np.array([np.linalg.norm(self.whitening @ vector) for vector in vectors], np.float32)


def shrunk_covariance(centred: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Estimate a covariance after Ledoit and Wolf (2004), lemma 3.3, from centred rows."""
    rows, size = centred.shape
    sample = centred.T @ centred / rows
    scale = np.trace(sample) / size
    distance = np.sum((sample - scale * np.eye(size)) ** 2)
    squares = np.sum((centred**2).T @ centred**2) / rows - np.sum(sample**2)
    share = 0.0 if distance == 0 else min(squares / rows / distance, 1.0)
    shrunk: npt.NDArray[np.float64] = (1 - share) * sample + share * scale * np.eye(size)
    return shrunk


@dataclass(frozen=True, slots=True)
class CodeNeighbours:
    """Codes of normal rows to look for neighbours among.

    The score is the Euclidean distance to the k-th nearest of them (Ramaswamy, Rastogi and Shim,
    "Efficient Algorithms for Mining Outliers from Large Data Sets", SIGMOD 2000), after every
    value of a code was divided by its deviation, for a code's values have no common unit.

    Attributes:
        references: Codes in units of *scale*, one a line.
        scale: Deviation of each value.
        neighbours: k.
    """

    references: Vectors
    scale: Vectors
    neighbours: int = NEIGHBOURS

    def __post_init__(self) -> None:
        if self.references.ndim != 2 or self.scale.shape != self.references.shape[1:]:  # noqa: PLR2004
            raise PackageError("reference codes and their scale do not fit each other")
        if not 1 <= self.neighbours <= len(self.references) or not (self.scale > 0).all():
            raise PackageError("reference codes need a positive scale and enough neighbours")

    @classmethod
    def fit(cls, codes: Rows, *, neighbours: int = NEIGHBOURS) -> Self:
        """Keep the codes of normal rows, at most 2000 of them and 1 MiB, spread evenly."""
        vectors = flat(codes).astype(np.float32)
        most = min(MAX_REFERENCES, max(MAX_REFERENCE_VALUES // vectors.shape[1], neighbours))
        kept = vectors[spread(len(vectors), most)]
        scale = deviations(vectors)
        return cls(kept / scale, scale, min(neighbours, len(kept)))

    def scores(self, codes: Rows) -> Scores:
        """Score each row by the distance of its code to the k-th nearest reference."""
        vectors = _like(flat(codes), self.scale) / self.scale
        return np.array([self._distance(vector) for vector in vectors], np.float32)

    def _distance(self, vector: Vectors) -> float:
        # differences and not |a|^2 - 2ab + |b|^2, which loses near neighbours to rounding
        apart = self.references - vector
        squares = np.einsum("ij,ij->i", apart, apart)  # half the time of square and sum
        return float(np.sqrt(np.partition(squares, self.neighbours - 1)[self.neighbours - 1]))


def deviations(vectors: npt.NDArray[np.float32]) -> Vectors:
    """Give the deviation of every column; of one that never moves, 1."""
    found = vectors.std(axis=0, dtype=np.float64)
    return np.where(found > 0, found, 1.0).astype(np.float32)


def spread(rows: int, most: int) -> npt.NDArray[np.int64]:
    """Choose at most *most* row numbers, evenly over all."""
    return np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64)


def _like(vectors: Rows, fitted: Vectors) -> Vectors:
    if vectors.shape[1] != len(fitted):
        raise PackageError(
            f"the measure was fitted on codes of {len(fitted)} values, not {vectors.shape[1]}"
        )
    return vectors.astype(np.float32)
