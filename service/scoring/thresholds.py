"""Where normal ends: four ways from the scores of normal rows to a threshold, and how sure it is.

| method | threshold | from |
|---|---|---|
| conformal | the k-th smallest score, k = ceil((1 - f)(n + 1)) | Vovk, Gammerman and Shafer 2005 |
| tail | quantile 1 - f of a generalised Pareto tail | Siffer et al., KDD 2017 |
| mad | median + 3.5 * 1.4826 * median of abs(score - median) | Iglewicz and Hoaglin 1993 |
| iqr | third quartile + 1.5 * (third - first quartile) | Tukey 1977 |

Only the conformal one keeps a promise whatever the distribution. The tail reaches rates that no
score of the sample shows, and says so; *mad* and *iqr* ask for no rate and have the one that the
sample shows above them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from fractions import Fraction
from math import floor, inf
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRowsError
from service.scoring import binomial, tails
from service.scoring.measures import Scores, as_score

Method: TypeAlias = Literal["conformal", "tail", "mad", "iqr"]

CONFIDENCE: Final = 0.95  # of every interval
_HALF: Final = (1.0 - CONFIDENCE) / 2

MAD_MULTIPLE: Final = 3.5
MAD_TO_DEVIATION: Final = 1.4826  # of a normal distribution: 1 / its quantile 0.75
IQR_MULTIPLE: Final = 1.5
MIN_TAIL_ROWS: Final = 4 * tails.MIN_EXCESSES

Interval: TypeAlias = tuple[float, float]
Values: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score that normal rows seldom exceed.

    Attributes:
        value: Anomalous is what lies above it.
        method: How it was found.
        false_positive_rate: Share of normal rows expected above it.
        interval: Where endless calibration rows would put it, with 95 % confidence; infinite
            ends where the sample says nothing.
        rate_interval: The share of normal rows that is really above *value*, with 95 % confidence.
        extrapolated: The rate is rarer than any that the sample shows.
    """

    value: float
    method: Method
    false_positive_rate: float
    interval: Interval
    rate_interval: Interval
    extrapolated: bool = False

    def is_uncertain(self, scores: Scores) -> npt.NDArray[np.bool_]:
        """Tell whose verdict another calibration might turn round: low < score <= high."""
        low, high = self.interval
        return (scores > as_score(low)) & (scores <= as_score(high))


def find_threshold(
    scores: Scores, method: Method, false_positive_rate: float | None = None
) -> Threshold:
    """Find the threshold for ascending *scores* of normal rows.

    Args:
        scores: Ascending.
        method: How.
        false_positive_rate: For *conformal* and *tail*, which need one; the others take none.

    Raises:
        InvalidRowsError: The rate is missing, not wanted, not between 0 and 1, or not one that
            the method and so many scores can give.
    """
    if method in {"mad", "iqr"}:
        if false_positive_rate is not None:
            raise InvalidRowsError(
                f"the method {method} takes no false_positive_rate",
                expected="one of false_positive_rate and method",
                received="both",
            )
        return _from_spread(scores, "mad" if method == "mad" else "iqr")
    if false_positive_rate is None:
        raise InvalidRowsError(
            f"the method {method} needs a false_positive_rate", expected="false_positive_rate"
        )
    check_rate(false_positive_rate)
    find = _conformal if method == "conformal" else _from_tail
    return find(scores, false_positive_rate)


def check_rate(false_positive_rate: float) -> None:
    """See that a rate is a share of rows.

    Raises:
        InvalidRowsError: It is not between 0 and 1.
    """
    if not 0.0 < false_positive_rate < 1.0:
        raise InvalidRowsError(
            "false_positive_rate must lie between 0 and 1",
            expected="0 < false_positive_rate < 1",
        )


def conformal_rank(n: int, false_positive_rate: float) -> int:
    """Give k = ceil((1 - f)(n + 1)): the threshold is the k-th smallest of *n* scores.

    Raises:
        InvalidRowsError: The rate is not between 0 and 1, or rarer than the sample shows.
    """
    check_rate(false_positive_rate)
    # exactly: in floats (1 - 0.1) * 10 is already more than 9
    k = n + 1 - floor(Fraction(repr(false_positive_rate)) * (n + 1))
    if k > n:
        raise InvalidRowsError(
            f"false_positive_rate is rarer than {n} calibration rows can show;"
            f" the smallest is {share_of_one(n + 1)}",
            expected=f"false_positive_rate >= {share_of_one(n + 1)}",
            received="a smaller one",
        )
    return k


def share_of_one(parts: int) -> str:
    """Write 1 / *parts*, rounded up so that it may be asked for."""
    return f"{Context(prec=3, rounding=ROUND_CEILING).divide(1, parts):g}"


def rate_above(scores: Scores, threshold: float) -> float:
    """Give (1 + number of *scores*, ascending, above *threshold*) / (1 + n)."""
    return (1 + _count_above(scores, threshold)) / (1 + len(scores))


def quantile_interval(scores: Scores, false_positive_rate: float) -> Interval:
    """Enclose the quantile 1 - f of the distribution of ascending *scores*, with 95 % confidence.

    Between the l-th and the u-th smallest of n scores lies the quantile with a probability that
    follows from binomial tails alone (David and Nagaraja 2003, section 7.1), so the interval holds
    for every distribution.
    """
    n, below = len(scores), 1.0 - false_positive_rate
    # the l-th smallest lies above the quantile if fewer than l scores lie below it
    lower = n + 1 - binomial.first_count(n, false_positive_rate, tail=_HALF)
    upper = binomial.first_count(n, below, tail=_HALF)
    low = float(scores[lower - 1]) if lower >= 1 else -inf
    high = float(scores[upper - 1]) if upper <= n else inf
    return low, high


def _conformal(scores: Scores, rate: float) -> Threshold:
    n = len(scores)
    k = conformal_rank(n, rate)
    return Threshold(
        value=float(scores[k - 1]),
        method="conformal",
        false_positive_rate=rate,
        interval=quantile_interval(scores, rate),
        rate_interval=(
            binomial.beta_quantile(_HALF, n + 1 - k, k),
            binomial.beta_quantile(1.0 - _HALF, n + 1 - k, k),
        ),
    )


def _from_tail(scores: Scores, rate: float) -> Threshold:
    if len(scores) < MIN_TAIL_ROWS:
        raise InvalidRowsError(
            f"a tail cannot be fitted to {len(scores)} calibration rows",
            expected=f"at least {MIN_TAIL_ROWS} calibration rows",
            received=str(len(scores)),
        )
    tail = tails.fit_tail(scores)
    share = float(tail.share[0])
    if rate > share:
        raise InvalidRowsError(
            f"the tail of {len(scores)} calibration rows begins at a rate of {share:g}",
            expected=f"false_positive_rate <= {share:g}, or the method conformal",
            received="a larger one",
        )
    others = tails.resampled_tails(tail, len(scores))
    value = float(as_score(float(tail.quantile(rate)[0])))
    return Threshold(
        value=value,
        method="tail",
        false_positive_rate=rate,
        interval=_middle(others.quantile(rate)),
        rate_interval=_middle(others.rate_above(value)),
        extrapolated=rate * (len(scores) + 1) < 1,
    )


def _above_median(values: Values) -> float:
    middle = np.median(values)
    spread = np.median(np.abs(values - middle))
    return float(middle + MAD_MULTIPLE * MAD_TO_DEVIATION * spread)


def _above_quartiles(values: Values) -> float:
    first, third = np.quantile(values, [0.25, 0.75])
    return float(third + IQR_MULTIPLE * (third - first))


def _from_spread(scores: Scores, method: Literal["mad", "iqr"]) -> Threshold:
    rule = _above_median if method == "mad" else _above_quartiles
    values = scores.astype(np.float64)
    value = float(as_score(rule(values)))
    return Threshold(
        value=value,
        method=method,
        false_positive_rate=rate_above(scores, value),
        interval=_middle(_resampled(values, rule)),
        rate_interval=binomial.clopper_pearson(_count_above(scores, value), len(scores)),
    )


def _resampled(values: Values, rule: Callable[[Values], float]) -> Values:
    """Apply *rule* to samples drawn from *values* with a fixed seed (Efron's bootstrap, 1979)."""
    random = np.random.default_rng(0)
    return np.array([rule(random.choice(values, len(values))) for _ in range(tails.RESAMPLES)])


def _middle(values: Values) -> Interval:
    low, high = np.quantile(values, [_HALF, 1.0 - _HALF])
    return float(low), float(high)


def _count_above(scores: Scores, threshold: float) -> int:
    return len(scores) - int(np.searchsorted(scores, as_score(threshold), side="right"))
