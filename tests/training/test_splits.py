import numpy as np
import pytest

from training.splits import in_stretches


def test_every_row_has_exactly_one_use():
    split = in_stretches(1000, validation=100, calibration=50, stretches=10)

    used = np.concatenate([split.train, split.validation, split.calibration])
    np.testing.assert_array_equal(np.sort(used), np.arange(1000))
    assert split.sizes == {"train": 850, "validation": 100, "calibration": 50}


def test_held_out_rows_are_neighbours_so_that_writers_stay_together():
    split = in_stretches(20, validation=4, calibration=6, stretches=2)

    assert split.validation.tolist() == [5, 6, 15, 16]
    assert split.calibration.tolist() == [7, 8, 9, 17, 18, 19]


def test_rows_that_do_not_divide_into_parts_of_equal_length_keep_the_numbers_asked_for():
    split = in_stretches(103, validation=9, calibration=6, stretches=3)

    assert split.sizes == {"train": 88, "validation": 9, "calibration": 6}


def test_held_out_rows_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiples of 3"):
        in_stretches(100, validation=10, calibration=9, stretches=3)


def test_a_split_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="no rows are left"):
        in_stretches(10, validation=5, calibration=5, stretches=5)
