import numpy as np
import pytest

from training import evaluate


@pytest.fixture
def random():
    return np.random.default_rng(1)


def test_as_many_components_as_the_rows_have_directions_leave_no_error(random):
    basis, middle = random.normal(size=(3, 20)), random.normal(size=20)
    rows = (random.normal(size=(200, 3)) @ basis + middle).astype(np.float32)

    error = evaluate.pca_mse(rows[:150], rows[150:].reshape(-1, 4, 5), components=3)

    assert error < 1e-10


def test_a_missing_component_costs_the_variance_along_it():
    # two axes with variances 4 and 1, exactly
    rows = np.array([[2, 1], [2, -1], [-2, 1], [-2, -1]], dtype=np.float32)

    assert evaluate.pca_mse(rows, rows, components=1) == pytest.approx(1 / 2)


def test_components_are_fitted_on_the_training_rows_alone(random):
    train = np.zeros((50, 4), dtype=np.float32)
    train[:, 0] = random.normal(size=50)
    test = np.array([[0, 0, 0, 2]], dtype=np.float32)

    assert evaluate.pca_mse(train, test, components=1) == pytest.approx(1, rel=0.1)


def test_a_score_at_the_threshold_is_not_above_it():
    scores = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)

    assert evaluate.share_above(scores, float(scores[2])) == 0.25


def test_detection_counts_what_is_above_and_says_how_bright_the_missed_are():
    rows = np.array([[0.2, 0.4], [1, 1], [0, 0.2]], dtype=np.float32)

    found = evaluate.detection(rows, np.array([0.1, 0.9, 0.1], dtype=np.float32), 0.5)

    assert found.rows == 3
    assert found.share_above == pytest.approx(1 / 3)
    assert found.missed_brightness == pytest.approx(0.2)


def test_detection_that_misses_nothing_has_no_brightness_to_report():
    rows = np.ones((2, 3), dtype=np.float32)

    found = evaluate.detection(rows, np.ones(2, dtype=np.float32), 0.5)

    assert found == evaluate.Detection(rows=2, share_above=1.0, missed_brightness=None)
