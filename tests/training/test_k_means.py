from itertools import permutations

import numpy as np
import pytest

from training.k_means import accuracy, k_means, mutual_information, nearest, settle


@pytest.fixture
def random():
    return np.random.default_rng(2)


def test_centres_lie_in_the_middle_of_clumps(random):
    middles = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], dtype=np.float32)
    clumps = np.repeat(middles, 50, axis=0) + random.normal(size=(200, 2)).astype(np.float32)

    centres = k_means(clumps, 4, seed=0)

    found = nearest(middles, centres)
    assert sorted(found) == [0, 1, 2, 3]
    np.testing.assert_allclose(centres[found], middles, atol=0.5)


def test_equal_seeds_give_equal_centres(random):
    rows = random.random((100, 3), dtype=np.float32)

    np.testing.assert_array_equal(k_means(rows, 5, seed=1), k_means(rows, 5, seed=1))


def test_settled_centres_are_the_means_of_their_rows(random):
    rows = random.random((100, 3), dtype=np.float32)

    centres = settle(rows, rows[:4])

    members = nearest(rows, centres)
    for number, centre in enumerate(centres):
        np.testing.assert_allclose(centre, rows[members == number].mean(axis=0), atol=1e-3)


def test_accuracy_takes_each_cluster_for_the_class_that_is_best_for_all(random):
    clusters, classes = random.integers(5, size=(2, 300))

    found = accuracy(clusters, classes)

    by_hand = max(float((np.array(p)[clusters] == classes).mean()) for p in permutations(range(5)))
    assert found == by_hand


def test_clusters_with_other_numbers_are_as_right():
    classes = np.array([0, 0, 1, 1, 2, 2])

    assert accuracy((classes + 1) % 3, classes) == 1
    assert mutual_information((classes + 1) % 3, classes) == pytest.approx(1)


def test_one_cluster_of_everything_says_nothing():
    clusters, classes = np.zeros(6, dtype=np.int64), np.array([0, 0, 1, 1, 2, 2])

    assert accuracy(clusters, classes) == pytest.approx(1 / 3)
    assert mutual_information(clusters, classes) == pytest.approx(0)


def test_more_clusters_than_classes_leave_some_without_a_class():
    assert accuracy(np.array([0, 1, 2, 2]), np.array([0, 0, 1, 1])) == 3 / 4


def test_mutual_information_of_a_known_table():
    # 2x2 with 3, 1, 1, 3 of 8: shares .375 and .125
    clusters, classes = np.array([0] * 4 + [1] * 4), np.array([0, 0, 0, 1, 0, 1, 1, 1])
    shared = 2 * 0.375 * np.log(0.375 / 0.25) + 2 * 0.125 * np.log(0.125 / 0.25)

    assert mutual_information(clusters, classes) == pytest.approx(shared / np.log(2))
