"""Explanations: shares that sum to one, and the features behind a score."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.scoring.explanations import FeatureShare, error_shares, explain
from service.scoring.measures import feature_errors, mean_squared_error

ERRORS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=4, max_side=6),
    elements=st.floats(0, 2.0**127, width=32),
)


@settings(max_examples=150)
@given(errors=ERRORS)
def test_the_shares_of_a_row_sum_to_one(errors):
    shares = error_shares(errors)

    assert shares.dtype == np.float64
    assert shares.shape == errors.shape
    assert (shares >= 0).all()
    sums = shares.reshape(len(shares), -1).sum(axis=1)
    np.testing.assert_allclose(sums, 1.0, rtol=0, atol=1e-12)


def test_the_shares_of_a_million_features_sum_to_one():
    errors = np.random.default_rng(0).random((1, 1_000_000), np.float32)

    assert abs(error_shares(errors).sum() - 1) < 1e-12


def test_shares_by_hand():
    assert error_shares(np.array([[1, 3], [0, 5]], np.float32)).tolist() == [[0.25, 0.75], [0, 1]]


def test_a_row_without_error_has_no_feature_that_stands_out():
    assert error_shares(np.zeros((1, 2, 2), np.float32)).tolist() == [[[0.25] * 2] * 2]


def test_errors_too_small_to_be_divided_by_have_shares_all_the_same():
    errors = np.array([[1e-45, 0, 3e-45]], np.float32)

    assert error_shares(errors).tolist() == [pytest.approx([1 / 3, 0, 2 / 3])]


def test_the_features_of_a_table_by_hand():
    rows = np.array([[1.0, 20.0, 3.0]], np.float32)
    expected = np.array([[3.0, 10.0, 3.0]], np.float32)
    scale = np.array([1.0, 10.0, 1.0], np.float32)
    errors = feature_errors(rows, expected, width=scale)

    (found,) = explain(rows, expected, errors, most=2, names=("speed", "heat", "noise"))

    assert found == [
        FeatureShare((0,), "speed", 4.0, 0.8, observed=1.0, expected=3.0, residual=-2.0),
        FeatureShare((1,), "heat", 1.0, 0.2, observed=20.0, expected=10.0, residual=10.0),
    ]


def test_equal_errors_come_in_the_order_of_the_row():
    errors = np.array([[[1, 2], [2, 1]], [[5, 5], [5, 5]]], np.float32)

    found = explain(errors, errors, errors, most=3)

    assert [[one.index for one in row] for row in found] == [
        [(0, 1), (1, 0), (0, 0)],
        [(0, 0), (0, 1), (1, 0)],
    ]
    assert found[0][0].name is None


def test_there_are_never_more_features_than_the_row_has():
    errors = np.ones((2, 3), np.float32)

    assert [len(row) for row in explain(errors, errors, errors, most=99)] == [3, 3]


def test_bytes_have_signed_residuals():
    rows, expected = np.array([[0, 255]], np.uint8), np.array([[255, 0]], np.uint8)

    (found,) = explain(rows, expected, feature_errors(rows, expected), most=2)

    assert [one.residual for one in found] == [-255.0, 255.0]


@given(
    x=arrays(np.float32, (2, 3, 4), elements=st.floats(0, 1, width=32)),
    y=arrays(np.float32, (2, 3, 4), elements=st.floats(0, 1, width=32)),
)
def test_all_features_together_explain_the_whole_score(x, y):
    errors = feature_errors(x, y)

    found = explain(x, y, errors, most=12)

    for row, score in zip(found, mean_squared_error(x, y), strict=True):
        assert sum(one.share for one in row) == pytest.approx(1, abs=1e-12)
        assert sum(one.error for one in row) / 12 == pytest.approx(float(score), rel=1e-5)
