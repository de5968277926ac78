"""The exact binomial interval, against sums of exact fractions."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, strategies as st

from service.scoring.binomial import clopper_pearson, incomplete_beta


def at_least(counted, trials, share):
    p = Fraction(share)
    return float(
        sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(counted, trials + 1))
    )


@given(st.integers(1, 60), st.data())
def test_at_its_ends_what_was_counted_is_just_as_rare_as_was_asked(trials, data):
    counted = data.draw(st.integers(0, trials))

    low, high = clopper_pearson(counted, trials)

    assert low <= counted / trials <= high
    if counted > 0:
        assert at_least(counted, trials, low) == pytest.approx(0.025, rel=1e-9)
    if counted < trials:
        assert 1 - at_least(counted + 1, trials, high) == pytest.approx(0.025, rel=1e-9)


def test_nothing_and_everything_leave_one_end_open():
    assert clopper_pearson(0, 10)[0] == 0
    assert clopper_pearson(10, 10)[1] == 1
    # 1 - (tail)^(1/n), the closed form of the other end
    assert clopper_pearson(0, 10)[1] == pytest.approx(1 - 0.025 ** (1 / 10), rel=1e-12)


def test_large_counts_are_near_the_normal_interval():
    low, high = clopper_pearson(100_000, 10_000_000)

    spread = 1.959964 * (0.01 * 0.99 / 1e7) ** 0.5
    assert (low, high) == pytest.approx((0.01 - spread, 0.01 + spread), rel=1e-4)


def test_the_incomplete_beta_function_has_its_symmetry():
    assert incomplete_beta(3, 5, 0.3) == pytest.approx(1 - incomplete_beta(5, 3, 0.7), rel=1e-12)
    assert (incomplete_beta(2, 3, 0.0), incomplete_beta(2, 3, 1.0)) == (0, 1)
