"""Projection pathways: sums by hand, whitening against its definition."""

import numpy as np
import pytest

from service.errors import PackageError
from service.scoring import rapp
from service.scoring.rapp import (
    Whitening,
    layer_differences,
    simple_aggregation,
)


def normal(rows, size, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)


def test_differences_of_layers_stand_side_by_side():
    layers = [np.array([[[5.0], [1.0]]], np.float32), np.array([[2.0]], np.float32)]
    again = [np.array([[[8.0], [1.0]]], np.float32), np.array([[4.0]], np.float32)]

    differences = layer_differences(layers, again)

    assert differences.tolist() == [[-3.0, 0.0, -2.0]]


def test_the_simple_sum_is_of_input_and_layers():
    errors, differences = np.array([[[4.0, 0.5]]], np.float32), np.array([[1.0, -3.0]], np.float32)

    assert simple_aggregation(errors, differences).tolist() == [14.5]


def test_layers_that_are_missing_in_one_of_both_are_a_fault():
    with pytest.raises(ValueError, match="shorter"):
        layer_differences([np.zeros((1, 2), np.float32)], [])


def test_whitened_differences_of_normal_rows_score_about_one():
    mixing = np.diag(np.array([100, 3, 1, 2], np.float32)) + np.float32(0.5)

    scores = Whitening.fit(normal(5000, 4) @ mixing + 7).scores(normal(5000, 4, 1) @ mixing + 7)

    assert scores.dtype == np.float32
    assert scores.mean() == pytest.approx(1.0, rel=0.05)


def test_the_score_is_the_squared_distance_in_units_of_the_covariance():
    differences, others = normal(60, 5), normal(4, 5, seed=1)

    scores = Whitening.fit(differences).scores(others)

    exact = differences.astype(float)
    inverse = np.linalg.inv(np.cov(exact, rowvar=False, bias=True))
    centred = others - exact.mean(axis=0)
    np.testing.assert_allclose(scores, [row @ inverse @ row / 5 for row in centred], rtol=1e-4)


def test_a_layer_that_always_differs_says_no_more_than_one_that_hardly_does():
    differences = normal(4000, 2) * np.array([30, 1], np.float32)
    steps = np.array([[60, 0], [0, 2]], np.float32)

    scores = Whitening.fit(differences).scores(steps)

    assert scores[0] == pytest.approx(scores[1], rel=0.1)


def test_the_directions_beyond_the_most_that_a_file_holds_count_as_the_rest(monkeypatch):
    monkeypatch.setattr(rapp, "MAX_DIRECTIONS", 2)
    differences = normal(9000, 4) * np.array([8, 4, 2, 1], np.float32)

    whitening = Whitening.fit(differences)

    assert whitening.deviations == pytest.approx([8, 4], rel=0.05)
    assert whitening.rest == pytest.approx(2, rel=0.05)
    scores = whitening.scores(np.array([[0, 4, 0, 0], [0, 0, 2, 0], [0, 0, 0, 2]], np.float32))
    assert scores == pytest.approx([0.5, 0.5, 0.5], rel=0.1)


def test_where_normal_rows_do_not_differ_at_all_a_small_difference_counts_much():
    differences = normal(500, 3) * np.array([1, 1, 0], np.float32)

    scores = Whitening.fit(differences).scores(np.array([[1, 0, 0], [0, 0, 1]], np.float32))

    assert scores[1] == pytest.approx(1 / 0.003**2 / 2, rel=0.2)
    assert scores[0] == pytest.approx(0.5, rel=0.4)


def test_rows_that_never_differ_are_no_fault():
    whitening = Whitening.fit(np.ones((5, 2), np.float32))

    assert whitening.scores(np.ones((1, 2), np.float32)).tolist() == [0.0]


def test_fewer_rows_than_differences_give_the_directions_that_they_show():
    shape = normal(3, 50)
    few, many = normal(40, 3) @ shape, normal(60, 3) @ shape
    others = normal(5, 3, seed=2) @ shape

    wide, tall = Whitening.fit(few), Whitening.fit(np.concatenate([few, many]))

    assert len(wide.directions) == len(tall.directions) == 3
    np.testing.assert_allclose(wide.scores(others), tall.scores(others), rtol=1.0)
    exact = few.astype(float) - few.mean(axis=0)
    _, lengths, _ = np.linalg.svd(exact)
    np.testing.assert_allclose(wide.deviations, lengths[:3] / np.sqrt(40), rtol=1e-4)


def test_differences_of_another_model_are_refused():
    with pytest.raises(PackageError, match="fitted on 3 differences a row, not 4"):
        Whitening.fit(normal(10, 3)).scores(normal(1, 4))
