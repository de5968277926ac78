"""Tails: what distributions with known tails make of them."""

import numpy as np
import pytest

from service.scoring.tails import Tail, excesses, fit_tail, moments, resampled_tails


def ascending(values):
    return np.sort(np.asarray(values, np.float32))


def tail(shape, scale=2.0, start=1.0, share=0.1):
    return Tail(start, np.array([share]), np.array([shape]), np.array([scale]))


@pytest.mark.parametrize(
    ("shape", "score"),
    [
        (0.0, 1 + 2 * np.log(10)),  # exponential
        (0.5, 1 + 4 * (np.sqrt(10) - 1)),  # Pareto
        (-1.0, 1 + 2 * 0.9),  # uniform
    ],
)
def test_a_quantile_by_hand(shape, score):
    assert tail(shape).quantile(0.01)[0] == pytest.approx(score)


@pytest.mark.parametrize("shape", [-1.0, -0.2, 0.0, 1e-9, 0.3])
@pytest.mark.parametrize("rate", [0.09, 0.001, 1e-7])
def test_quantile_and_rate_lead_to_each_other(shape, rate):
    made = tail(shape)

    assert made.rate_above(float(made.quantile(rate)[0]))[0] == pytest.approx(rate)


def test_nothing_lies_beyond_the_end_of_a_short_tail():
    assert tail(-1.0).rate_above(3.1).tolist() == [0.0]


def test_a_rate_below_the_tail_gives_its_beginning():
    assert tail(0.2).quantile(0.5).tolist() == [1.0]


@pytest.mark.parametrize(
    ("draw", "shape", "scale"),
    [
        pytest.param(lambda random, n: random.exponential(3, n), 0.0, 3.0, id="exponential"),
        pytest.param(lambda random, n: random.random(n), -1.0, 1.0, id="uniform"),
        pytest.param(lambda random, n: random.pareto(5, n), 0.2, 0.2, id="pareto"),
    ],
)
def test_moments_find_shape_and_scale(draw, shape, scale):
    over = np.sort(draw(np.random.default_rng(0), 100_000))

    found = moments(over[np.newaxis])

    assert found[0][0] == pytest.approx(shape, abs=0.02)
    assert found[1][0] == pytest.approx(scale, rel=0.02)


@pytest.mark.parametrize(("rows", "count"), [(200, 50), (1000, 50), (2500, 50), (5000, 100)])
def test_the_tail_is_one_row_in_fifty_and_never_less_than_fifty(rows, count):
    start, over = excesses(ascending(np.arange(rows)))

    assert len(over) == count
    assert (start, over[0]) == (rows - count - 1, 1.0)


def test_the_tail_of_exponential_scores_reaches_beyond_the_sample():
    errors = []
    for seed in range(10):
        scores = ascending(np.random.default_rng(seed).exponential(size=5000))
        errors.append(fit_tail(scores).quantile(1e-4)[0] / -np.log(1e-4))

    assert np.median(errors) == pytest.approx(1.0, abs=0.1)


def test_equal_scores_have_a_tail_that_is_a_step():
    made = fit_tail(ascending(np.ones(100)))

    assert made.quantile(1e-6).tolist() == [1.0]
    assert made.rate_above(1.5)[0] < 1e-100


def test_another_sample_of_the_tail_has_another_shape_by_chance_alone():
    made = tail(0.2, share=0.02)

    others = resampled_tails(made, 5000)

    assert np.median(others.shape) == pytest.approx(0.2, abs=0.05)
    assert np.median(others.share) == pytest.approx(0.02, rel=0.05)
    assert others.shape.std() == pytest.approx(0.12, abs=0.06)
    assert others.shape.tobytes() == resampled_tails(made, 5000).shape.tobytes()
