"""Verdicts: what a request asks, what the model knows, and what lies above the threshold."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from service.errors import InvalidRowsError, UnsupportedOperationError
from service.scoring.calibration import calibrate
from service.scoring.verdicts import Rule, RuleWish, above, choose_rule, judge


def calibration_of(**scores):
    return calibrate(
        {name: np.array(values, np.float32) for name, values in scores.items()},
        default_measure="mse",
        errors=np.ones(1, np.float32),
        model_sha256="",
    )


HUNDRED = calibration_of(mse=range(1, 100), rapp=range(101, 200))


def test_without_a_wish_the_defaults_hold():
    assert choose_rule(HUNDRED) == Rule("mse", 99.0, 0.01)


def test_a_rate_gives_its_threshold():
    assert choose_rule(HUNDRED, RuleWish(false_positive_rate=0.1)) == Rule("mse", 90.0, 0.1)


def test_a_measure_brings_its_own_scores():
    assert choose_rule(HUNDRED, RuleWish(measure="rapp", false_positive_rate=0.1)) == Rule(
        "rapp", 190.0, 0.1
    )


@pytest.mark.parametrize(
    ("threshold", "rate"),
    [(90.0, 0.1), (90.5, 0.1), (0.0, 1.0), (-5.0, 1.0), (99.0, 0.01), (1e300, 0.01), (-1e300, 1.0)],
)
def test_a_threshold_tells_its_rate(threshold, rate):
    assert choose_rule(HUNDRED, RuleWish(threshold=threshold)) == Rule("mse", threshold, rate)


@given(hundredths=st.integers(1, 99))
def test_a_threshold_and_its_rate_lead_to_each_other(hundredths):
    by_rate = choose_rule(HUNDRED, RuleWish(false_positive_rate=hundredths / 100))

    assert choose_rule(HUNDRED, RuleWish(threshold=by_rate.threshold)) == by_rate


@pytest.mark.parametrize("calibration", [HUNDRED, None], ids=["calibrated", "not calibrated"])
def test_a_rate_and_a_threshold_exclude_each_other(calibration):
    with pytest.raises(InvalidRowsError, match="exclude each other") as caught:
        choose_rule(calibration, RuleWish(false_positive_rate=0.1, threshold=1.0))

    assert caught.value.expected == "one of false_positive_rate and threshold"
    assert caught.value.received == "both"


@pytest.mark.parametrize("measure", ["mae", "MSE", ""])
@pytest.mark.parametrize("wish", [{}, {"threshold": 1.0}, {"false_positive_rate": 0.1}])
def test_a_measure_without_scores_is_refused(measure, wish):
    with pytest.raises(UnsupportedOperationError, match="not calibrated") as caught:
        choose_rule(HUNDRED, RuleWish(measure=measure, **wish))

    assert caught.value.expected == "mse or rapp"


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, 2.0])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(InvalidRowsError, match="between 0 and 1"):
        choose_rule(HUNDRED, RuleWish(false_positive_rate=rate))


def test_a_rate_rarer_than_the_sample_shows_is_refused():
    with pytest.raises(InvalidRowsError, match=r"the smallest is 0\.01"):
        choose_rule(HUNDRED, RuleWish(false_positive_rate=0.009))


def test_a_few_rows_are_enough_for_a_default():
    rule = choose_rule(calibration_of(mse=[1, 2, 3]))

    assert rule == Rule("mse", 3.0, 0.25)


@pytest.mark.parametrize("measure", [None, "mse"])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_without_calibration_only_a_threshold_of_ones_own_counts(measure, threshold):
    assert choose_rule(None, RuleWish(measure=measure, threshold=threshold)) == Rule(
        "mse", threshold, None
    )


@pytest.mark.parametrize("measure", ["rapp", ""])
def test_without_calibration_there_is_one_measure(measure):
    with pytest.raises(UnsupportedOperationError, match="does not have this metric") as caught:
        choose_rule(None, RuleWish(measure=measure))

    assert caught.value.expected == "mse"


def test_without_calibration_no_threshold_follows_from_a_rate():
    with pytest.raises(UnsupportedOperationError, match="no calibration") as caught:
        choose_rule(None, RuleWish(false_positive_rate=0.1))

    assert caught.value.received == "false_positive_rate"


def test_only_what_lies_above_the_threshold_is_anomalous():
    scores = np.array([89, 90, 91], np.float32)

    verdicts = judge(scores, choose_rule(HUNDRED, RuleWish(false_positive_rate=0.1)), HUNDRED)

    assert verdicts.scores is scores
    np.testing.assert_array_equal(verdicts.anomalies, [False, False, True])
    np.testing.assert_array_equal(verdicts.p_values, [0.12, 0.11, 0.1])


def test_p_values_are_those_of_the_measure():
    rule = choose_rule(HUNDRED, RuleWish(measure="rapp"))

    verdicts = judge(np.array([150], np.float32), rule, HUNDRED)

    np.testing.assert_array_equal(verdicts.p_values, [0.51])


def test_without_calibration_and_threshold_nothing_is_judged():
    verdicts = judge(np.ones(2, np.float32), Rule("mse", None, None), None)

    assert (verdicts.p_values, verdicts.anomalies) == (None, None)


def test_without_calibration_a_threshold_judges_alone():
    verdicts = judge(np.array([0.4, 0.5, 0.6], np.float32), Rule("mse", 0.5, None), None)

    assert verdicts.p_values is None
    np.testing.assert_array_equal(verdicts.anomalies, [False, False, True])


@given(score=st.floats(0, 2.0**100, width=32))
def test_a_threshold_given_back_as_its_shortest_text_is_itself(score):
    """A client that sends the text of a score as the threshold finds it not above itself."""
    shortest = json.loads(str(np.float32(score)))

    assert not above(np.array([score], np.float32), shortest)[0]
    assert above(np.nextafter(np.array([score], np.float32), np.float32(np.inf)), shortest)[0]


@pytest.mark.parametrize(("threshold", "is_above"), [(1e300, False), (-1e300, True)])
def test_a_threshold_beyond_all_scores_means_what_it_says(threshold, is_above):
    assert above(np.array([0, 3e38], np.float32), threshold).tolist() == [is_above, is_above]


@given(
    reference=st.lists(st.integers(0, 9), min_size=9, max_size=40),
    tenths=st.integers(1, 9),
)
def test_anomalous_means_a_p_value_within_the_rate(reference, tenths):
    calibration = calibration_of(mse=reference)
    rule = choose_rule(calibration, RuleWish(false_positive_rate=tenths / 10))
    scores = np.arange(-1, 11, dtype=np.float32)

    verdicts = judge(scores, rule, calibration)

    n = len(reference)
    counts = np.array([1 + sum(other >= score for other in reference) for score in scores])
    np.testing.assert_array_equal(verdicts.anomalies, 10 * counts <= tenths * (n + 1))
