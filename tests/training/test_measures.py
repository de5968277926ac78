import numpy as np
import pytest

from training import measures


@pytest.fixture
def random():
    return np.random.default_rng(1)


def test_as_many_components_as_the_rows_have_directions_leave_no_error(random):
    basis, middle = random.normal(size=(3, 20)), random.normal(size=20)
    rows = (random.normal(size=(200, 3)) @ basis + middle).astype(np.float32)

    error = measures.fit_pca(rows[:150], components=3).mse(rows[150:].reshape(-1, 4, 5))

    assert error < 1e-10


def test_a_missing_component_costs_the_variance_along_it():
    # two axes with variances 4 and 1, exactly
    rows = np.array([[2, 1], [2, -1], [-2, 1], [-2, -1]], dtype=np.float32)

    assert measures.fit_pca(rows, components=1).mse(rows) == pytest.approx(1 / 2)


def test_components_are_fitted_on_the_training_rows_alone(random):
    train = np.zeros((50, 4), dtype=np.float32)
    train[:, 0] = random.normal(size=50)
    test = np.array([[0, 0, 0, 2]], dtype=np.float32)

    assert measures.fit_pca(train, components=1).mse(test) == pytest.approx(1, rel=0.1)


def test_distances_along_components_are_in_units_of_the_deviation_there():
    random = np.random.default_rng(2)
    known = (random.normal(size=(4000, 2)) @ [[3, 1], [0, 0.2]]).astype(np.float32)
    known = np.column_stack([known, np.full(4000, 5, np.float32)])  # a column that is still
    middle = known.mean(axis=0)
    along, across = np.array([3, 1, 0], np.float32), np.array([-1, 3, 0], np.float32)

    far, strange = measures.distances_along_components(
        known, np.stack([middle + along, middle + across])
    )

    assert far == pytest.approx(1, rel=0.1)
    assert strange > 100


def test_a_score_at_the_threshold_is_not_above_it():
    scores = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)

    assert measures.share_above(scores, float(scores[2])) == 0.25


def test_detection_counts_what_is_above_and_says_how_bright_the_missed_are():
    rows = np.array([[0.2, 0.4], [1, 1], [0, 0.2]], dtype=np.float32)

    found = measures.detection(rows, np.array([0.1, 0.9, 0.1], dtype=np.float32), 0.5)

    assert found.rows == 3
    assert found.share_above == pytest.approx(1 / 3)
    assert found.missed_brightness == pytest.approx(0.2)


def test_detection_that_misses_nothing_has_no_brightness_to_report():
    rows = np.ones((2, 3), dtype=np.float32)

    found = measures.detection(rows, np.ones(2, dtype=np.float32), 0.5)

    assert found == measures.Detection(rows=2, share_above=1.0, missed_brightness=None)


def test_noise_is_clipped_to_the_range_of_pixels_and_equal_for_equal_seeds():
    rows = np.full((3, 1, 20, 20), 0.9, dtype=np.float32)

    noisy, again, other = (measures.with_noise(rows, 0.5, seed=seed) for seed in [1, 1, 2])

    assert (noisy.min() >= 0, noisy.max()) == (True, 1)
    np.testing.assert_array_equal(noisy, again)
    assert not np.array_equal(noisy, other)
    assert np.std(measures.with_noise(rows * 0 + 0.5, 0.01, seed=1)) == pytest.approx(0.01, rel=0.1)


def test_an_error_of_a_tenth_everywhere_is_twenty_decibels():
    clean = np.full((2, 1, 3, 3), 0.4, dtype=np.float32)

    assert measures.psnr(clean, clean + np.float32(0.1)) == pytest.approx(20, abs=1e-4)


def test_decibels_of_the_mean_error_are_not_the_mean_of_decibels():
    clean = np.zeros((2, 1, 3, 3), dtype=np.float32)
    given = clean + np.array([0.1, 0.01], np.float32).reshape(2, 1, 1, 1)

    assert measures.psnr(clean, given) == pytest.approx((20 + 40) / 2, abs=1e-3)
    # the errors are 0.01 and 0.0001, their mean is 0.00505
    assert measures.psnr_of_mean_error(clean, given) == pytest.approx(22.967, abs=1e-3)


def test_a_median_filter_takes_out_a_single_bright_pixel_and_leaves_an_edge():
    rows = np.zeros((1, 1, 5, 6), dtype=np.float32)
    rows[..., 3:] = 1
    spoilt = rows.copy()
    spoilt[0, 0, 2, 1] = 1

    np.testing.assert_array_equal(measures.median_filtered(spoilt), rows)


def test_values_of_a_code_that_are_nearly_zero_do_not_count_as_active():
    codes = np.array([[0, 1e-4, -0.5, 2], [0, 0, 0, 1]], dtype=np.float32)

    assert measures.share_active(codes) == 3 / 8
