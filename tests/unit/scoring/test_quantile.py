"""A quantile in bounded memory."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from service.scoring.quantile import Quantile

NUMBERS = arrays(
    np.float32,
    st.integers(1, 200),
    elements={"min_value": 0, "allow_nan": False, "allow_infinity": False},
)


def of(numbers, share, *, pieces=1, exact_max=1 << 20):
    quantile = Quantile(share, exact_max=exact_max)
    for piece in np.array_split(numbers, pieces):
        quantile.take(piece)
    return quantile


@given(NUMBERS, st.sampled_from([0.5, 0.9, 0.999]), st.integers(1, 7))
def test_few_numbers_give_the_bits_of_numpy(numbers, share, pieces):
    quantile = of(numbers, share, pieces=pieces)

    assert quantile.is_exact
    assert quantile.value() == np.float32(np.quantile(numbers, share))


@given(NUMBERS, st.sampled_from([0.5, 0.9, 0.999]), st.integers(1, 7))
def test_of_many_it_is_not_below_and_hardly_above(numbers, share, pieces):
    quantile = of(numbers, share, pieces=pieces, exact_max=0)

    higher = np.quantile(numbers, share, method="higher")
    assert not quantile.is_exact
    assert higher <= quantile.value()
    # denormal numbers have fewer bits than a bin is wide
    assert float(quantile.value()) <= float(higher) * (1 + 2.0**-11) + 1e-41


def test_it_stays_exact_up_to_the_size_that_was_said():
    numbers = np.random.default_rng(0).random(100, np.float32)

    assert of(numbers, 0.9, pieces=10, exact_max=100).is_exact
    assert not of(numbers, 0.9, pieces=10, exact_max=99).is_exact


def test_what_was_taken_may_change_afterwards():
    numbers = np.ones(10, np.float32)
    quantile = of(numbers, 0.5)
    numbers[:] = 2

    assert quantile.value() == 1


def test_nothing_is_kept_of_many():
    quantile = Quantile(0.999, exact_max=1000)
    numbers = np.random.default_rng(0).random(100_000, np.float32)
    for _ in range(3):
        quantile.take(numbers)

    assert quantile.numbers == 300_000
    assert quantile.value() == pytest.approx(np.quantile(numbers, 0.999), rel=1e-3)
