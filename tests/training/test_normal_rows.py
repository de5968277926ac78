"""Which rows a detector learns from, is calibrated on and is judged by."""

import numpy as np
import pytest

from training.data import mnist, shuttle
from training.data.mnist import Digits
from training.normal_rows import OneDigit, Shuttle
from training.recipe import HoldOut

HOLD_OUT = HoldOut(validation=4, calibration=6, stretches=2)


@pytest.fixture
def digits(monkeypatch):
    """Pictures whose brightness is their number, in the order of the files."""
    parts = {}
    for part, count in [("train", 200), ("test", 50)]:
        images = np.tile(np.arange(count, dtype=np.uint8)[:, None, None], (1, 28, 28))
        parts[part] = Digits(images, (np.arange(count) % 10).astype(np.uint8))
    monkeypatch.setattr(mnist, "load", lambda *_, **__: parts)


def numbers(rows):
    """Which pictures these are."""
    return np.rint(255 * rows.reshape(len(rows), -1)[:, 0]).astype(int).tolist()


def test_only_the_normal_digit_is_learned_and_every_row_has_one_use(digits, tmp_path):
    rows = OneDigit(3, others=10).gather(HOLD_OUT, tmp_path)

    used = [numbers(part) for part in (rows.train, rows.validation, rows.calibration)]
    assert [len(part) for part in used] == [10, 4, 6]
    assert sorted(number for part in used for number in part) == list(range(3, 200, 10))


def test_all_test_digits_are_judged_and_the_others_count_as_anomalies(digits, tmp_path):
    rows = OneDigit(3, others=10).gather(HOLD_OUT, tmp_path)

    assert len(rows.test) == 50
    np.testing.assert_array_equal(rows.labels == 0, np.arange(50) % 10 == 3)


def test_a_measure_is_chosen_with_training_images_of_other_digits(digits, tmp_path):
    rows = OneDigit(3, others=10).gather(HOLD_OUT, tmp_path)

    assert rows.others is not None
    chosen = numbers(rows.others)
    assert len(set(chosen)) == 10
    assert all(number % 10 != 3 for number in chosen)


@pytest.fixture
def table(monkeypatch):
    """Forty normal rows and five anomalies, each of one number."""
    rows = np.repeat(np.arange(45, dtype=np.float32)[:, None], 9, axis=1)
    monkeypatch.setattr(shuttle, "load", lambda *_, **__: (rows, np.arange(45) >= 40))


def test_half_of_the_normal_rows_is_learned_and_the_rest_is_judged(table, tmp_path):
    rows = Shuttle(seed=1).gather(HOLD_OUT, tmp_path)

    learned = np.concatenate([rows.train, rows.validation, rows.calibration])[:, 0]
    judged = rows.test[:, 0]
    assert len(learned) == 20
    assert sorted([*learned, *judged]) == list(range(45))
    np.testing.assert_array_equal(rows.labels == 1, judged >= 40)
    assert rows.sizes == {"train": 10, "validation": 4, "calibration": 6, "test": 25}


def test_another_seed_draws_another_half(table, tmp_path):
    first, again, other = (Shuttle(seed).gather(HOLD_OUT, tmp_path).test for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("source", [OneDigit(3), Shuttle()])
def test_photographs_are_refused(source, tmp_path):
    with pytest.raises(ValueError, match="photographs"):
        source.gather(HOLD_OUT, tmp_path, photographs=tmp_path)
