"""Binomial tails, exactly: how sure a counted share is, and what an order statistic says.

The share of normal rows above the k-th smallest of n scores follows Beta(n + 1 - k, k), whatever
the scores' distribution, so long as it has no jumps (David and Nagaraja, "Order Statistics", 2003,
section 2.1; with ties the share is smaller still). For whole numbers the Beta distribution is a
binomial tail: P(Beta(a, b) <= p) = P(Binomial(a + b - 1, p) >= a), https://dlmf.nist.gov/8.17#E5.
"""

from collections.abc import Callable
from math import exp, lgamma, log
from typing import Final

CONFIDENCE: Final = 0.95

# halvings of an interval of length 1, beyond what a double can show
_HALVINGS: Final = 64

# of the continued fraction, see *incomplete_beta*; it takes some sqrt(a + b) steps
_MAX_STEPS: Final = 100_000
_PRECISION: Final = 1e-14
_TINY: Final = 1e-300


def clopper_pearson(
    counted: int, trials: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Give the exact binomial interval of a share.

    The true share lies outside with a probability of at most 1 - *confidence*, half of it on each
    side (Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case
    of the binomial", Biometrika 26, 1934).
    """
    tail = (1 - confidence) / 2
    low = beta_quantile(tail, counted, trials - counted + 1) if counted else 0.0
    high = beta_quantile(1 - tail, counted + 1, trials - counted) if counted < trials else 1.0
    return low, high


def at_least(n: int, count: int, p: float) -> float:
    """Give the probability of *count* or more successes in *n* trials of probability *p*."""
    if count <= 0:
        return 1.0
    return 0.0 if count > n else incomplete_beta(count, n - count + 1, p)


def at_most(n: int, count: int, p: float) -> float:
    """Give the probability of *count* or fewer successes in *n* trials of probability *p*."""
    return at_least(n, n - count, 1.0 - p)


def beta_quantile(share: float, a: int, b: int) -> float:
    """Give the value that Beta(*a*, *b*) stays below with probability *share*; a, b > 0."""
    return _solve(lambda p: incomplete_beta(a, b, p), share)


def first_count(n: int, p: float, *, tail: float) -> int:
    """Give the smallest count with P(Binomial(n, p) >= count) <= *tail*; n + 1 if there is none."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        if at_least(n, middle, p) <= tail:
            high = middle
        else:
            low = middle + 1
    return low


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Give the regularised incomplete beta function I_x(a, b), https://dlmf.nist.gov/8.17.

    By the continued fraction 8.17.22, which converges quickly for x below (a + 1) / (a + b + 2);
    above it by the symmetry 8.17.4.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x))
    return front / a / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """Evaluate 1 + d1/(1 + d2/(1 + ...)) by the modified method of Lentz."""
    value = ratio = 1.0
    inverse = 0.0
    for step in range(1, _MAX_STEPS):
        d = _coefficient(a, b, x, step)
        inverse = 1 / (1 + d * inverse or _TINY)
        ratio = 1 + d / ratio or _TINY
        value *= ratio * inverse
        if abs(ratio * inverse - 1) < _PRECISION:
            break
    return value


def _coefficient(a: float, b: float, x: float, step: int) -> float:
    """Give the d of 8.17.23."""
    m = step // 2
    if step % 2:
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    """Find where a function that rises from 0 to 1 reaches a value."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2
