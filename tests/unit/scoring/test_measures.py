"""Measures: by hand, per row, and independent of how pixels are written."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.scoring.measures import (
    as_score,
    excess_cross_entropy,
    feature_errors,
    largest_error,
    mean_absolute_error,
    mean_squared_error,
    top_mean_error,
)


def test_the_score_of_a_row_by_hand():
    x = np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.float32)
    reconstruction = np.array([[1, 2, 3, 2], [1, -1, 2, 0]], np.float32)

    scores = mean_squared_error(x, reconstruction)

    assert scores.dtype == np.float32
    assert scores.tolist() == [1.0, 1.5]


def test_a_perfect_reconstruction_scores_zero():
    x = np.random.default_rng(0).random((3, 2, 2), np.float32)

    assert mean_squared_error(x, x).tolist() == [0.0, 0.0, 0.0]


def test_the_mean_runs_over_all_axes_but_the_batch():
    x = np.zeros((2, 1, 2, 2), np.float32)
    reconstruction = x.copy()
    reconstruction[1, 0, 1, 0] = 2

    assert mean_squared_error(x, reconstruction).tolist() == [0.0, 1.0]


def test_the_errors_of_the_features_by_hand():
    x = np.array([[[1.0, 0.5]], [[0.0, 2.0]]], np.float32)

    errors = feature_errors(x, np.zeros_like(x))

    assert errors.dtype == np.float32
    assert errors.tolist() == [[[1.0, 0.25]], [[0.0, 4.0]]]


def test_neither_rows_nor_reconstructions_are_changed():
    x, reconstruction = np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)

    mean_squared_error(x, reconstruction, width=4.0)

    assert (x.tolist(), reconstruction.tolist()) == ([[1.0, 1.0]], [[0.0, 0.0]])


def test_the_difference_is_divided_by_the_width_of_the_range():
    x, reconstruction = np.array([[255, 0]], np.float32), np.array([[0, 51]], np.float32)

    scores = mean_squared_error(x, reconstruction, width=255.0)

    np.testing.assert_allclose(scores, [(1 + 0.04) / 2], rtol=1e-6)


def test_bytes_are_subtracted_without_wrapping_round():
    x, reconstruction = np.array([[0, 255]], np.uint8), np.array([[1, 0]], np.uint8)

    assert feature_errors(x, reconstruction).tolist() == [[1.0, 65025.0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int64"])
def test_scores_are_float32_whatever_the_rows_are(dtype):
    assert mean_squared_error(np.ones((1, 2), dtype), np.zeros((1, 2), dtype)).dtype == np.float32


@settings(max_examples=50)
@given(
    shape=array_shapes(min_dims=2, max_dims=4, max_side=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_score_of_a_row_has_the_same_bits_alone_and_in_a_batch(shape, seed):
    rng = np.random.default_rng(seed)
    x, reconstruction = rng.random((2, *shape), np.float32)

    scores = mean_squared_error(x, reconstruction)

    for row in range(len(x)):
        alone = mean_squared_error(x[row : row + 1], reconstruction[row : row + 1])
        assert alone.tobytes() == scores[row : row + 1].tobytes()


@settings(max_examples=50)
@given(
    x=arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)),
    y=arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)),
    width=st.sampled_from([2.0, 255.0, 1024.0]),
)
def test_scores_do_not_depend_on_how_pixels_are_written(x, y, width):
    wide = mean_squared_error(x * np.float32(width), y * np.float32(width), width=width)

    np.testing.assert_allclose(wide, mean_squared_error(x, y), rtol=1e-4, atol=1e-12)


def test_the_mean_of_the_feature_errors_is_the_score():
    x, y = np.random.default_rng(3).random((2, 5, 7), np.float32)

    errors = feature_errors(x, y, width=2.0)

    np.testing.assert_array_equal(
        errors.mean(axis=1, dtype=np.float32), mean_squared_error(x, y, width=2.0)
    )


@pytest.mark.parametrize(
    ("number", "score"),
    [(0.1, np.float32(0.1)), (-2.0, -2.0), (1e300, np.inf), (-1e300, -np.inf)],
)
def test_any_number_has_a_nearest_score(number, score):
    assert as_score(number) == score
    assert as_score(number).dtype == np.float32


def test_features_with_units_of_their_own_are_divided_by_their_own_scale():
    rows = np.array([[1.0, 100.0]], np.float32)

    errors = feature_errors(rows, np.zeros_like(rows), width=np.array([1, 100], np.float32))

    assert errors.tolist() == [[1.0, 1.0]]


def test_the_mean_absolute_error_by_hand():
    x, copy = np.array([[1, 2, 3, 4]], np.float32), np.array([[1, 2, 1, 3]], np.float32)

    assert mean_absolute_error(x, copy, width=2.0).tolist() == [0.375]


def test_the_largest_error_by_hand():
    x, copy = np.array([[1, 2, 3], [0, 0, 0]], np.float32), np.array([[0, 2, 5], [0, 0, 0]], "f4")

    assert largest_error(x, copy, width=4.0).tolist() == [0.5, 0.0]


@pytest.mark.parametrize(
    ("share", "score"),
    [
        (0.01, 16.0),  # one of four, rounded up
        (0.25, 16.0),
        (0.26, 12.5),
        (0.5, 12.5),
        (1.0, 7.5),
    ],
)
def test_the_mean_of_the_worst_errors_by_hand(share, score):
    errors = np.sqrt(np.array([[4, 9, 1, 16]], np.float32))

    assert top_mean_error(errors, np.zeros_like(errors), share=share).tolist() == [score]


def test_all_features_together_give_the_mean_squared_error():
    x, y = np.random.default_rng(0).random((2, 4, 9), np.float32)

    np.testing.assert_allclose(top_mean_error(x, y, share=1.0), mean_squared_error(x, y), rtol=1e-6)


def test_the_cross_entropy_above_that_of_a_perfect_copy_by_hand():
    x, copy = np.array([[0.5, 0.25]], np.float32), np.array([[0.25, 0.25]], np.float32)

    # 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75), and nothing
    expected = (0.5 * np.log(2) + 0.5 * np.log(2 / 3)) / 2
    np.testing.assert_allclose(excess_cross_entropy(x, copy), [expected], rtol=1e-6)


@settings(max_examples=50)
@given(pixels=arrays(np.uint8, (2, 6)))
def test_a_perfect_copy_of_any_grey_has_no_cross_entropy_too_much(pixels):
    assert excess_cross_entropy(pixels, pixels, limits=(0, 255)).tolist() == [0.0, 0.0]


def test_a_pixel_that_is_wrong_from_end_to_end_costs_a_finite_number():
    x, copy = np.array([[0.0], [1.0]], np.float32), np.array([[1.0], [0.0]], np.float32)

    np.testing.assert_allclose(excess_cross_entropy(x, copy), 20 * np.log(2), rtol=1e-4)


def test_values_beyond_the_range_count_as_its_ends():
    x, copy = np.array([[0.0, 1.0]], np.float32), np.array([[-0.3, 1.2]], np.float32)

    assert excess_cross_entropy(x, copy).tolist() == [0.0]
