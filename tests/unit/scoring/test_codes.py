"""Distances of codes: against the formulas written out, and where numbers run short."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from service.errors import PackageError
from service.scoring.codes import (
    MAX_REFERENCES,
    CodeDistribution,
    CodeNeighbours,
    shrunk_covariance,
    spread,
)


def normal(rows, size, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)


def test_the_mahalanobis_distance_is_that_of_mean_and_covariance():
    mixing = np.array([[2, 1, 0], [0, 1, 1], [0, 0, 1]], np.float32)
    codes = normal(20_000, 3) @ mixing
    far = np.array([[1.0, -2.0, 4.0]], np.float32)

    scores = CodeDistribution.fit(codes).scores(far)

    middle, inverse = codes.mean(axis=0), np.linalg.inv(mixing.T @ mixing)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(
        scores, np.sqrt((far - middle)[0] @ inverse @ (far - middle)[0]), rtol=0.03
    )


def test_normal_rows_are_as_far_away_as_their_code_has_values():
    scores = CodeDistribution.fit(normal(5000, 16)).scores(normal(5000, 16, seed=1))

    assert np.mean(scores.astype(float) ** 2) == pytest.approx(16, rel=0.05)


def shrunk_by_sums(centred):
    """Ledoit and Wolf's estimate with the sums of lemma 3.3 written out, a row at a time."""
    rows, size = centred.shape
    sample = sum(np.outer(row, row) for row in centred) / rows
    scale = np.trace(sample) / size
    target = scale * np.eye(size)
    distance = ((sample - target) ** 2).sum() / size
    spread_of_rows = sum(((np.outer(row, row) - sample) ** 2).sum() for row in centred) / size
    share = min(spread_of_rows / rows**2, distance) / distance
    return share * target + (1 - share) * sample


@pytest.mark.parametrize(("rows", "size"), [(6, 10), (50, 4), (3, 2)])
def test_the_covariance_is_shrunk_as_ledoit_and_wolf_derive(rows, size):
    centred = normal(rows, size).astype(float)
    centred -= centred.mean(axis=0)

    np.testing.assert_allclose(shrunk_covariance(centred), shrunk_by_sums(centred), rtol=1e-10)


def test_fewer_rows_than_code_values_are_enough():
    distribution = CodeDistribution.fit(normal(10, 50))

    assert np.isfinite(distribution.scores(normal(5, 50, seed=1))).all()


def test_what_moves_where_normal_codes_never_move_is_far_away():
    codes = normal(500, 2) * np.array([1, 0], np.float32)
    moved = np.array([[0, 1], [5, 0]], np.float32)

    scores = CodeDistribution.fit(codes).scores(moved)

    assert scores[0] > 2 * scores[1]


def test_codes_of_a_single_value_that_never_moves_are_no_fault():
    codes = np.ones((9, 1), np.float32)

    assert CodeDistribution.fit(codes).scores(codes).tolist() == [0.0] * 9


@settings(max_examples=30)
@given(rows=st.integers(5, 60), size=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_score_is_the_distance_of_the_fifth_neighbour(rows, size, seed):
    references, codes = normal(rows, size, seed), normal(3, size, seed + 1)

    scores = CodeNeighbours.fit(references).scores(codes)

    scale = references.std(axis=0)
    distances = np.linalg.norm((references - codes[:, np.newaxis]) / scale, axis=2)
    np.testing.assert_allclose(scores, np.sort(distances, axis=1)[:, 4], rtol=1e-4)


def test_with_fewer_references_than_neighbours_the_farthest_counts():
    neighbours = CodeNeighbours.fit(np.array([[0.0], [2.0]], np.float32))

    assert neighbours.scores(np.array([[0.0]], np.float32)).tolist() == [2.0]


def test_a_value_that_never_moves_keeps_its_own_unit():
    references = np.array([[0, 7], [2, 7]], np.float32)
    neighbours = CodeNeighbours.fit(references, neighbours=1)

    assert neighbours.scores(np.array([[0, 9]], np.float32)).tolist() == [2.0]


def test_no_more_references_are_kept_than_a_search_can_afford():
    codes = np.arange(3 * MAX_REFERENCES, dtype=np.float32)[:, np.newaxis]

    kept = CodeNeighbours.fit(codes)

    assert len(kept.references) == MAX_REFERENCES
    assert (kept.references * kept.scale)[[0, -1], 0] == pytest.approx([0, 5999])


@given(rows=st.integers(1, 50), most=st.integers(1, 50))
def test_rows_are_chosen_once_and_evenly(rows, most):
    chosen = spread(rows, most)

    assert len(set(chosen.tolist())) == min(rows, most)
    assert set(chosen.tolist()) <= set(range(rows))


@pytest.mark.parametrize("kind", [CodeDistribution, CodeNeighbours])
def test_codes_of_another_size_are_refused(kind):
    with pytest.raises(PackageError, match="codes of 3 values, not 4"):
        kind.fit(normal(10, 3)).scores(normal(1, 4))


@pytest.mark.parametrize("kind", [CodeDistribution, CodeNeighbours])
def test_codes_with_several_axes_are_laid_flat(kind):
    codes, others = normal(40, 6), normal(3, 6, seed=1)

    scores = kind.fit(codes.reshape(40, 2, 3)).scores(others.reshape(3, 2, 3))

    assert scores.tolist() == kind.fit(codes).scores(others).tolist()
