"""Whether a row is of the kind that the model knows; a score means nothing on any other.

A blank picture is reconstructed well and is no digit all the same. The guard looks at a row from
four sides: statistics of its values, by their distance from the ellipsoid of normal rows and by
their nearest normal neighbours; the nearest neighbours of its code; and its score. Each side is
measured by how far normal rows spread in it, the worst side counts, and the p-value compares it
with the worst sides of calibration rows:

    s_i = (d_i - median) / (quantile 0.98 - median)      T = max over i of s_i
    p = (1 + number of calibration T >= T) / (1 + n)

The distances refer to the first half of the calibration rows, medians and quantiles to the third
quarter, and p counts the T of the last: none of them was fitted on, so a new normal row is
exchangeable with them and p is a conformal p-value. At most a share f of normal rows has p <= f,
whatever the statistics are worth.
"""

from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt

from service.errors import PackageError, UnsupportedOperationError
from service.scoring.codes import CodeDistribution, CodeNeighbours
from service.scoring.measures import Scores
from service.scoring.statistics import Statistics
from service.scoring.thresholds import share_of_one
from service.specs import Rows, TensorSpec

DEFAULT_RATE: Final = 0.01  # of normal rows that are called foreign
FAR: Final = 0.98  # how far normal rows go, in the unit of each side
MIN_ROWS: Final = 40

Domain = Literal["in", "out"]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DomainVerdicts:
    """Whether rows are of the model's kind.

    Attributes:
        p_values: Share of calibration rows that are at least as strange, for each row.
        domains: What follows from it.
    """

    p_values: npt.NDArray[np.float64]
    domains: list[Domain]

    @property
    def counts(self) -> tuple[int, int]:
        """Rows of the model's kind, and rows of another."""
        foreign = self.domains.count("out")
        return len(self.domains) - foreign, foreign


@dataclass(frozen=True, slots=True)
class Sides:
    """What a row is looked at by.

    Attributes:
        statistics: What is taken from the values of a row.
        distribution: Ellipsoid of the statistics.
        neighbours: Statistics to look for neighbours among.
        codes: Codes to look for neighbours among; ``None`` without a code of one length.
    """

    statistics: Statistics
    distribution: CodeDistribution
    neighbours: CodeNeighbours
    codes: CodeNeighbours | None

    def distances(self, rows: Rows, scores: Scores, codes: Rows | None) -> Vectors:
        """Give how far each row is from normal ones by each side, one row a line."""
        vectors = self.statistics.of(rows)
        sides = [self.distribution.scores(vectors), self.neighbours.scores(vectors), scores]
        if self.codes is not None:
            if codes is None:
                raise PackageError("the domain guard was fitted on codes, and there are none")
            sides.append(self.codes.scores(codes))
        return np.stack(sides, axis=1)


@dataclass(frozen=True, slots=True)
class DomainGuard:
    """Says how well a row fits in with the rows that a model knows.

    Attributes:
        sides: What a row is looked at by.
        middle: Median of each side.
        reach: How far normal rows go from there.
        worst_sides: Ascending; of the calibration rows that nothing else was fitted on.
        code_distances: The side of the code alone, ascending, of the same rows.
    """

    sides: Sides
    middle: Vectors
    reach: Vectors
    worst_sides: Scores
    code_distances: Scores | None = None

    def __post_init__(self) -> None:
        sides = 3 if self.sides.codes is None else 4
        if self.middle.shape != (sides,) or self.reach.shape != (sides,):
            raise PackageError("the sides of the domain guard do not fit each other")
        for distances in (self.worst_sides, self.code_distances):
            if distances is not None and (np.diff(distances) < 0).any():
                raise PackageError("the distances of the domain guard are not ascending")
        if not (self.reach > 0).all() or not len(self.worst_sides):
            raise PackageError("the distances of the domain guard are not what they should be")
        if (self.code_distances is None) != (self.sides.codes is None):
            raise PackageError("the sides of the domain guard do not fit each other")

    @classmethod
    def fit(cls, spec: TensorSpec, rows: Rows, scores: Scores, codes: Rows | None = None) -> Self:
        """Learn from calibration rows: references, spread and counts from different parts of them.

        Args:
            spec: What a row looks like.
            rows: Normal rows that the model was not trained on.
            scores: Their scores by one measure, ``mse`` mostly.
            codes: Their codes.

        Raises:
            PackageError: There are too few rows.
        """
        if len(rows) < MIN_ROWS:
            raise PackageError(f"a domain guard needs {MIN_ROWS} calibration rows, not {len(rows)}")
        first, last = len(rows) // 2, 3 * len(rows) // 4
        statistics = Statistics.fit(spec, rows[:first])
        vectors = statistics.of(rows[:first])
        sides = Sides(
            statistics=statistics,
            distribution=CodeDistribution.fit(vectors),
            neighbours=CodeNeighbours.fit(vectors),
            codes=None if codes is None else CodeNeighbours.fit(codes[:first]),
        )
        others = None if codes is None else codes[first:]
        distances = sides.distances(rows[first:], scores[first:], others)
        spread, counted = distances[: last - first], distances[last - first :]
        middle = np.median(spread, axis=0).astype(np.float32)
        reach = np.quantile(spread, FAR, axis=0).astype(np.float32) - middle
        reach[reach <= 0] = 1.0  # a side in which normal rows do not spread at all
        return cls(
            sides,
            middle,
            reach,
            worst_sides=np.sort(_worst(counted, middle, reach)),
            code_distances=None if codes is None else np.sort(counted[:, -1]),
        )

    @property
    def knows_codes(self) -> bool:
        """Whether it can judge a code that comes without its row."""
        return self.code_distances is not None

    @property
    def default_rate(self) -> float:
        """1 %, or the smallest rate that so few rows can show."""
        return max(DEFAULT_RATE, float(share_of_one(len(self.worst_sides) + 1)))

    def p_values(
        self, rows: Rows, scores: Scores, codes: Rows | None = None
    ) -> npt.NDArray[np.float64]:
        """Give for each row the share of calibration rows that are at least as strange.

        Args:
            rows: The rows.
            scores: Their scores by the measure that the guard was fitted with.
            codes: Their codes, if it was fitted with codes.
        """
        worst = _worst(self.sides.distances(rows, scores, codes), self.middle, self.reach)
        return _p_values(self.worst_sides, worst)

    def p_values_of_codes(self, codes: Rows) -> npt.NDArray[np.float64]:
        """Give the same for codes that come without rows: by their nearest neighbours alone.

        Raises:
            UnsupportedOperationError: The guard was fitted without codes.
        """
        if self.sides.codes is None or self.code_distances is None:
            raise UnsupportedOperationError("the model's domain guard does not know codes")
        return _p_values(self.code_distances, self.sides.codes.scores(codes))


def _p_values(reference: Scores, distances: Scores) -> npt.NDArray[np.float64]:
    """Give for each distance (1 + number of ascending *reference* >= it) / (1 + n)."""
    n = len(reference)
    nearer = reference.searchsorted(distances, side="left")
    return (1.0 + (n - nearer).astype(np.float64)) / (1.0 + n)


def domains(p_values: npt.NDArray[np.float64], rate: float) -> list[Domain]:
    """Call a row foreign whose p-value is not above *rate*."""
    return ["out" if p_value <= rate else "in" for p_value in p_values]


def _worst(distances: Vectors, middle: Vectors, reach: Vectors) -> Scores:
    worst: Scores = ((distances - middle) / reach).max(axis=1)
    return worst
