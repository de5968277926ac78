"""Thresholds against theory: what is promised of them happens as often as it should."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from service.errors import InvalidRowsError
from service.scoring.calibration import calibrate
from service.scoring.thresholds import (
    Method,
    _above_median,
    _above_quartiles,
    find_threshold,
    quantile_interval,
)

POOL = np.random.default_rng(0).gamma(2.0, size=400_000).astype(np.float32)


def ascending(values):
    return np.sort(np.asarray(values, np.float32))


def one_to(n):
    return ascending(range(1, n + 1))


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_the_achieved_rate_lies_in_its_interval_in_19_of_20_random_splits(rate):
    """Of 20, below 17 with probability 1.6 % where 95 % is true; on average *rate* is achieved."""
    achieved, inside = [], []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(POOL))
        found = find_threshold(ascending(POOL[order[:5000]]), "conformal", rate)
        rate_of_split = np.mean(POOL[order[5000:]] > np.float32(found.value))
        inside.append(found.rate_interval[0] <= rate_of_split <= found.rate_interval[1])
        achieved.append(rate_of_split)

    assert sum(inside) >= 17
    assert np.mean(achieved) == pytest.approx(rate, rel=5 * np.sqrt(1 / (20 * 5000 * rate)))


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_the_interval_holds_the_threshold_of_endless_rows_in_95_of_100_samples(rate):
    endless = np.quantile(POOL, 1 - rate)
    random = np.random.default_rng(1)
    holds = 0
    for _ in range(400):
        low, high = quantile_interval(ascending(random.choice(POOL, 1000)), rate)
        holds += low <= endless <= high

    assert holds >= 0.93 * 400


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 400), thousandths=st.integers(1, 999))
def test_the_interval_holds_the_threshold_itself(n, thousandths):
    rate = thousandths / 1000
    if rate * (n + 1) < 1:
        return

    found = find_threshold(one_to(n), "conformal", rate)

    expected_rate = (n + 1 - found.value) / (n + 1)
    assert found.interval[0] <= found.value <= found.interval[1]
    assert found.rate_interval[0] < expected_rate < found.rate_interval[1]
    assert not found.extrapolated


def test_an_interval_by_hand():
    # of 10 scores, the quantile 0.5 lies between the 2nd and the 9th with probability
    # 1 - 2 * 11/1024; between the 3rd and the 8th with 1 - 2 * 56/1024, which is less than 95 %
    assert quantile_interval(one_to(10), 0.5) == (2.0, 9.0)


def test_where_the_sample_says_nothing_the_interval_has_no_end():
    assert quantile_interval(one_to(20), 0.05)[1] == np.inf
    assert quantile_interval(one_to(20), 0.95)[0] == -np.inf


def test_the_spread_rules_by_hand():
    scores = ascending([0, 1, 2, 3, 4, 5, 6, 7, 100])

    by_median = find_threshold(scores, "mad")
    by_quartiles = find_threshold(scores, "iqr")

    assert by_median.value == pytest.approx(4 + 3.5 * 1.4826 * 2, rel=1e-6)
    assert by_quartiles.value == 6 + 1.5 * 4
    assert by_median.false_positive_rate == by_quartiles.false_positive_rate == 2 / 10
    assert by_quartiles.rate_interval == pytest.approx((0.0028, 0.4825), abs=1e-4)


@pytest.mark.parametrize("method", ["mad", "iqr"])
def test_the_interval_of_a_spread_rule_holds_the_rule_of_endless_rows(method):
    rule = _above_median if method == "mad" else _above_quartiles
    endless = rule(POOL.astype(np.float64))
    random = np.random.default_rng(2)
    found = [find_threshold(ascending(random.choice(POOL, 500)), method) for _ in range(12)]

    assert sum(one.interval[0] <= endless <= one.interval[1] for one in found) >= 9


def test_the_tail_agrees_with_the_sample_where_both_have_something_to_say():
    scores = ascending(POOL[:20_000])

    by_tail = find_threshold(scores, "tail", 0.005)

    assert by_tail.value == pytest.approx(np.quantile(scores, 0.995), rel=0.02)
    assert not by_tail.extrapolated


def test_the_tail_reaches_rates_that_no_score_shows_and_says_so():
    random = np.random.default_rng(3)
    endless = np.quantile(POOL, 1 - 1e-4)
    found = [find_threshold(ascending(random.choice(POOL, 5000)), "tail", 1e-4) for _ in range(20)]

    assert all(one.extrapolated for one in found)
    assert np.median([one.value for one in found]) == pytest.approx(endless, rel=0.1)
    assert sum(one.interval[0] <= endless <= one.interval[1] for one in found) >= 16
    assert sum(one.rate_interval[0] <= 1e-4 <= one.rate_interval[1] for one in found) == 20


def test_equal_scores_give_equal_answers_whenever_they_are_asked():
    scores = ascending(POOL[:1000])

    asked: list[tuple[Method, float | None]] = [
        ("conformal", 0.01),
        ("tail", 1e-4),
        ("mad", None),
        ("iqr", None),
    ]
    for method, rate in asked:
        assert find_threshold(scores, method, rate) == find_threshold(scores, method, rate)


@pytest.mark.parametrize(
    ("method", "rate", "rows", "message"),
    [
        ("conformal", None, 99, "needs a false_positive_rate"),
        ("tail", None, 99, "needs a false_positive_rate"),
        ("mad", 0.01, 99, "takes no false_positive_rate"),
        ("iqr", 0.01, 99, "takes no false_positive_rate"),
        ("conformal", 0.0, 99, "between 0 and 1"),
        ("tail", 1.0, 99, "between 0 and 1"),
        ("conformal", 0.001, 99, "rarer than 99 calibration rows"),
        ("tail", 0.001, 199, "cannot be fitted to 199"),
        ("tail", 0.4, 200, "begins at a rate of 0.25"),
    ],
)
def test_what_cannot_be_had_is_refused(method, rate, rows, message):
    with pytest.raises(InvalidRowsError, match=message):
        find_threshold(one_to(rows), method, rate)


def test_a_verdict_is_uncertain_where_another_calibration_might_turn_it_round():
    found = find_threshold(one_to(99), "conformal", 0.1)
    low, high = found.interval

    uncertain = found.is_uncertain(
        np.array([low - 1, low, low + 0.5, found.value, high, high + 0.5], np.float32)
    )

    assert uncertain.tolist() == [False, False, True, True, True, False]


def test_p_values_of_normal_rows_are_uniform():
    """Kolmogorov's distance of 20,000 p-values from the uniform distribution."""
    calibration = calibrate(
        {"mse": POOL[:20_000]},
        default_measure="mse",
        errors=np.ones(1, np.float32),
        model_sha256="",
    )

    p_values = np.sort(calibration.p_values("mse", POOL[20_000:40_000]))

    steps = np.arange(1, 20_001) / 20_000
    distance = np.max(np.abs(p_values - steps))
    # both samples vary: the bound of the two-sample test at 0.1 %
    assert distance < 1.95 * np.sqrt(2 / 20_000)
