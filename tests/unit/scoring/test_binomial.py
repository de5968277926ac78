"""Binomial tails and Beta quantiles: by counting, and by drawing."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, strategies as st

from service.scoring.binomial import at_least, at_most, beta_quantile, first_count


def by_counting(n, count, p):
    exact = Fraction(p)
    return float(
        sum(comb(n, k) * exact**k * (1 - exact) ** (n - k) for k in range(max(count, 0), n + 1))
    )


@given(n=st.integers(1, 40), count=st.integers(-1, 42), p=st.sampled_from([0.01, 0.25, 0.5, 0.875]))
def test_a_tail_is_the_sum_of_its_terms(n, count, p):
    assert at_least(n, count, p) == pytest.approx(by_counting(n, count, p), abs=1e-12)
    assert at_most(n, count, p) == pytest.approx(1 - by_counting(n, count + 1, p), abs=1e-12)


@pytest.mark.parametrize(
    ("p", "count", "probability"), [(0.0, 1, 0.0), (1.0, 5, 1.0), (0.0, 0, 1.0), (1.0, 6, 0.0)]
)
def test_what_never_or_always_happens(p, count, probability):
    assert at_least(5, count, p) == probability


@pytest.mark.parametrize(("a", "b"), [(1, 1), (3, 7), (50, 4951), (4951, 50)])
def test_a_beta_quantile_is_what_so_many_draws_stay_below(a, b):
    drawn = np.random.default_rng(0).beta(a, b, 200_000)

    for share in (0.025, 0.5, 0.975):
        assert np.mean(drawn < beta_quantile(share, a, b)) == pytest.approx(share, abs=0.003)


@given(n=st.integers(1, 200), p=st.floats(0.01, 0.99), tail=st.floats(0.001, 0.5))
def test_the_first_count_is_the_first_with_so_small_a_tail(n, p, tail):
    count = first_count(n, p, tail=tail)

    assert at_least(n, count, p) <= tail
    assert at_least(n, count - 1, p) > tail
