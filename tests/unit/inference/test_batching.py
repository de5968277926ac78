import numpy as np
import pytest
from hypothesis import given, strategies as st

from service.inference.batching import allot, bucket, first_non_finite, join, pad


def test_a_large_job_alone_fills_the_batch():
    assert allot([100], 64) == [64]


def test_whoever_fits_is_taken_whole():
    assert allot([1, 2, 3], 64) == [1, 2, 3]


def test_a_large_job_leaves_room_for_the_small_ones_behind_it():
    assert allot([100, 1, 1, 1], 8) == [5, 1, 1, 1]


def test_what_is_kept_for_the_oldest_it_gets_however_many_small_ones_come():
    assert allot([100, 1, 2, 4], 8) == [1, 1, 2, 4]
    assert allot([100, 1, 2, 4], 8, kept=2) == [2, 1, 2, 3]
    assert allot([100, 1, 2, 4], 8, kept=9) == [8, 0, 0, 0]


def test_equal_jobs_end_one_after_the_other():
    assert allot([64, 64, 64], 16) == [16, 0, 0]
    assert allot([8, 64, 64], 16) == [8, 8, 0]


def test_who_has_less_left_passes_who_has_more():
    assert allot([100, 50, 20], 16, kept=4) == [4, 0, 12]


def test_whoever_does_not_fit_gets_nothing():
    assert allot([1, 1, 1, 1, 1, 1], 4) == [1, 1, 1, 1, 0, 0]


def test_a_batch_of_one_row_goes_to_whom_it_is_enough_for():
    assert allot([3, 1], 1) == [0, 1]


WAITING = st.lists(st.integers(1, 100), min_size=1)


@given(WAITING, st.integers(1, 64), st.integers(0, 64))
def test_shares_fill_the_batch_and_exceed_nobody(waiting, capacity, kept):
    shares = allot(waiting, capacity, kept)

    assert sum(shares) == min(sum(waiting), capacity)
    assert all(0 <= share <= rows for share, rows in zip(shares, waiting, strict=True))


@given(WAITING, st.integers(1, 64), st.integers(0, 64))
def test_the_first_in_line_gets_at_least_what_is_kept_for_it(waiting, capacity, kept):
    assert allot(waiting, capacity, kept)[0] >= min(waiting[0], capacity, kept)


def test_joined_rows_keep_their_order():
    parts = [np.array([[1], [2]]), np.array([[3]])]

    assert join(parts).tolist() == [[1], [2], [3]]


def test_a_single_part_is_not_copied():
    rows = np.ones((2, 2))

    assert join([rows]) is rows


@pytest.mark.parametrize(("rows", "size"), [(1, 2), (2, 2), (3, 8), (8, 8), (9, 9)], ids=str)
def test_the_smallest_bucket_that_holds_the_rows_is_taken(rows, size):
    assert bucket(rows, [2, 8]) == size


def test_without_buckets_a_batch_keeps_its_size():
    assert bucket(5, []) == 5


def test_padding_appends_zero_rows_of_the_same_type():
    padded = pad(np.ones((1, 2), np.float16), 3)

    assert padded.tolist() == [[1, 1], [0, 0], [0, 0]]
    assert padded.dtype == np.float16


def test_rows_that_fit_are_not_padded():
    rows = np.ones((2, 2))

    assert pad(rows, 2) is rows


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_the_first_row_with_a_value_that_is_not_finite_is_named(value):
    rows = np.zeros((4, 2, 2), np.float32)
    rows[2, 1, 0] = rows[3, 0, 0] = value

    assert first_non_finite(rows) == 2


def test_finite_rows_have_no_culprit():
    assert first_non_finite(np.zeros((2, 2), np.float32)) is None


def test_scores_have_no_axis_but_the_batch():
    assert first_non_finite(np.array([0, np.nan])) == 1


def test_integers_are_always_finite():
    assert first_non_finite(np.zeros((2, 2), np.int64)) is None
