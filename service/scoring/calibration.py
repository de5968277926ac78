"""What scores of normal rows look like, and what follows from it: thresholds and p-values.

Split conformal prediction (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
World", 2005; Angelopoulos and Bates, "A Gentle Introduction to Conformal Prediction", 2021):
with *n* scores of rows that the model was not trained on, a new normal row lies above the
k-th smallest of them with probability at most f when k = ceil((1 - f)(n + 1)).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.archives import read_npz, write_npz
from service.errors import PackageError, UnsupportedOperationError
from service.scoring import fitted as learned, thresholds
from service.scoring.catalogue import Fitted, TopShare
from service.scoring.codes import KNN, MAHALANOBIS, CodeDistribution, CodeNeighbours
from service.scoring.domain import DomainGuard
from service.scoring.measures import TOP_K, Scores
from service.scoring.rapp import NAP, Whitening
from service.scoring.thresholds import Method, Threshold

DEFAULT_FALSE_POSITIVE_RATE = 0.01

# the heat map's upper end: white is an error that one feature in a thousand of normal rows reaches
HEAT_MAP_QUANTILE = 0.999

# 1 had scores alone and did not say its number
FORMAT: Final = 2

_FITTED: Final[Mapping[str, type[Fitted]]] = {
    TOP_K: TopShare,
    NAP: Whitening,
    MAHALANOBIS: CodeDistribution,
    KNN: CodeNeighbours,
}
_SCORES: Final = "scores_"
_KEPT_THRESHOLDS: Final = 256


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scores of normal rows that took no part in training.

    Attributes:
        scores: For each measure its scores in ascending order.
        default_measure: The measure that answers when none is asked for.
        heat_map_high: The feature error that a heat map draws as white.
        model_sha256: Fingerprint of the graphs that gave the scores.
        data_sha256: Fingerprint of the rows that they gave them for; older files have none.
        fitted: What measures have learned from normal rows, by measure.
        domain: Tells rows of the model's kind from others, where it was fitted.
    """

    scores: Mapping[str, Scores]
    default_measure: str
    heat_map_high: float
    model_sha256: str
    data_sha256: str | None = None
    fitted: Mapping[str, Fitted] = field(default_factory=dict)
    domain: DomainGuard | None = None
    _found: dict[tuple[str, Method, float | None], Threshold] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def measures(self) -> list[str]:
        return sorted(self.scores)

    @property
    def rows(self) -> int:
        return len(self.scores[self.default_measure])

    @property
    def default_false_positive_rate(self) -> float:
        """That of the default measure, see *default_rate*."""
        return self.default_rate(self.default_measure)

    def default_rate(self, measure: str) -> float:
        """Give 1 %, or the smallest rate that the rows behind a measure can show."""
        rows = len(self._of(measure))
        return max(DEFAULT_FALSE_POSITIVE_RATE, float(thresholds.share_of_one(rows + 1)))

    def threshold(self, measure: str, false_positive_rate: float) -> float:
        """Give the score that a normal row exceeds with probability *false_positive_rate*.

        Raises:
            InvalidRowsError: The rate is not between 0 and 1, or rarer than the sample shows.
        """
        scores = self._of(measure)
        return float(scores[thresholds.conformal_rank(len(scores), false_positive_rate) - 1])

    def find_threshold(
        self, measure: str, method: Method = "conformal", false_positive_rate: float | None = None
    ) -> Threshold:
        """Give a threshold with its interval; see ``service.scoring.thresholds``.

        It takes 5 to 70 ms of a core to find, so those that were asked for lately are kept.

        Raises:
            InvalidRowsError: The rate is missing, not wanted, or not one that can be had.
        """
        key = (measure, method, false_positive_rate)
        if key not in self._found:
            found = thresholds.find_threshold(self._of(measure), method, false_positive_rate)
            if len(self._found) >= _KEPT_THRESHOLDS:
                self._found.clear()
            self._found[key] = found
        return self._found[key]

    def p_values(self, measure: str, scores: Scores) -> npt.NDArray[np.float64]:
        """Give for each score (1 + number of calibration scores >= it) / (1 + n)."""
        reference = self._of(measure)
        return _p_values(len(reference))[reference.searchsorted(scores, side="left")]

    def rate_above(self, measure: str, threshold: float) -> float:
        """Give the share of normal rows expected above *threshold*, the reverse of *threshold*.

        (1 + number of calibration scores > *threshold*) / (1 + n): at a calibration score, a row
        lies above it if and only if its p-value is not greater than this.
        """
        return thresholds.rate_above(self._of(measure), threshold)

    def _of(self, measure: str) -> Scores:
        try:
            return self.scores[measure]
        except KeyError:
            raise UnsupportedOperationError(
                "the model is not calibrated for this metric",
                expected=" or ".join(self.measures),
            ) from None

    def to_bytes(self) -> bytes:
        """Write the calibration as an npz file."""
        arrays: dict[str, npt.NDArray[Any]] = {
            f"{_SCORES}{measure}": scores for measure, scores in self.scores.items()
        }
        arrays["format"] = np.array(FORMAT)
        arrays["default_measure"] = np.array(self.default_measure)
        arrays["heat_map_high"] = np.array(self.heat_map_high)
        arrays["model_sha256"] = np.array(self.model_sha256)
        if self.data_sha256 is not None:
            arrays["data_sha256"] = np.array(self.data_sha256)
        for measure, what in self.fitted.items():
            arrays |= learned.to_arrays(what, f"fitted.{measure}")
        if self.domain is not None:
            arrays |= learned.to_arrays(self.domain, "domain")
        return write_npz(arrays)


def read_calibration(data: bytes) -> Calibration:
    """Read what *to_bytes* wrote, now or in an older format.

    Raises:
        PackageError: The file is not a calibration, or holds impossible numbers.
    """
    arrays = read_npz(data, "the calibration")
    try:
        calibration = _calibration(arrays)
    except (ValueError, TypeError, LookupError) as error:
        raise PackageError("the calibration cannot be read") from error
    _check(calibration)
    return calibration


def _calibration(arrays: Mapping[str, npt.NDArray[Any]]) -> Calibration:
    if int(arrays.get("format", np.array(1))) > FORMAT:
        raise PackageError("the calibration was written by a newer version")
    has_domain = any(name.startswith("domain.") for name in arrays)
    return Calibration(
        scores={
            name.removeprefix(_SCORES): values.astype(np.float32, casting="safe")
            for name, values in arrays.items()
            if name.startswith(_SCORES)
        },
        default_measure=str(arrays["default_measure"]),
        heat_map_high=float(arrays["heat_map_high"]),
        model_sha256=str(arrays["model_sha256"]),
        data_sha256=str(arrays["data_sha256"]) if "data_sha256" in arrays else None,
        fitted={
            measure: learned.from_arrays(kind, arrays, f"fitted.{measure}")
            for measure, kind in _FITTED.items()
            if any(name.startswith(f"fitted.{measure}.") for name in arrays)
        },
        domain=learned.from_arrays(DomainGuard, arrays, "domain") if has_domain else None,
    )


def calibrate(
    scores: Mapping[str, Scores],
    *,
    default_measure: str,
    errors: npt.NDArray[np.float32],
    model_sha256: str,
    data_sha256: str | None = None,
    fitted: Mapping[str, Fitted] | None = None,
    domain: DomainGuard | None = None,
) -> Calibration:
    """Make a calibration from scores and feature errors of clean rows.

    Args:
        scores: For each measure one score a row, in any order.
        default_measure: One of them.
        errors: Feature errors of the same rows, any shape.
        model_sha256: Fingerprint of the graphs that gave the scores.
        data_sha256: Fingerprint of the rows, the sha-256 of their bytes, row after row.
        fitted: What measures have learned, from other rows than those of *scores*.
        domain: Tells rows of the model's kind from others.
    """
    with np.errstate(invalid="ignore"):  # infinite errors give NaN, which is refused below
        heat_map_high = float(np.quantile(errors, HEAT_MAP_QUANTILE))
    calibration = Calibration(
        scores={name: np.sort(values.astype(np.float32)) for name, values in scores.items()},
        default_measure=default_measure,
        heat_map_high=heat_map_high,
        model_sha256=model_sha256,
        data_sha256=data_sha256,
        fitted=fitted or {},
        domain=domain,
    )
    _check(calibration)
    return calibration


def _check(calibration: Calibration) -> None:
    if calibration.default_measure not in calibration.scores:
        raise PackageError("the calibration lacks its default measure")
    if not (np.isfinite(calibration.heat_map_high) and calibration.heat_map_high > 0):
        raise PackageError("the calibration's heat map scale is not a positive number")
    for measure, scores in calibration.scores.items():
        usable = scores.ndim == 1 and len(scores) > 0 and bool(np.isfinite(scores).all())
        if not usable or bool((np.diff(scores) < 0).any()):
            raise PackageError(f"the calibration scores of '{measure}' are not ascending numbers")


@lru_cache(maxsize=64)
def _p_values(rows: int) -> npt.NDArray[np.float64]:
    """List the p-values of scores that lie above 0, 1, ... *rows* of so many calibration scores."""
    above = rows - np.arange(rows + 1, dtype=np.float64)
    return (1.0 + above) / (1.0 + rows)
