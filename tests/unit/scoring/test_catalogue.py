"""The catalogue: every measure by name, what it needs, and that no row sees another."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from service.errors import PackageError, UnsupportedOperationError
from service.scoring import catalogue
from service.scoring.catalogue import MEASURES, Evidence, TopShare, fit_and_score, suitable
from service.scoring.codes import CodeNeighbours
from service.specs import ImageSpec, TensorSpec

PICTURE = TensorSpec("float32", (2, 8, 7), range=(0.0, 2.0), image=None)
GREY = TensorSpec("float32", (1, 8, 7), range=(0.0, 2.0), image=ImageSpec("L", "CHW"))
TABLE = TensorSpec("float32", (5,), scale=(1.0, 10.0, 0.1, 2.0, 3.0))
EVERYTHING = frozenset[catalogue.Need]({"reconstruction", "code", "layers"})


def evidence(spec, rows, seed=0):
    rng = np.random.default_rng(seed)

    def made(*shape):
        return rng.random((rows, *shape), np.float32) * 2

    layers = [made(4, 3), made(6)]
    again = [layer + made(*layer.shape[1:]) / 9 for layer in layers]
    return Evidence(made(*spec.item_shape), made(*spec.item_shape), made(3), layers, again)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("spec", [GREY, TABLE], ids=["picture", "table"])
@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_the_score_of_a_row_has_the_same_bits_alone_and_among_others(name, spec, rows, seed):
    if name not in suitable(spec, EVERYTHING):
        assert spec is TABLE
        return
    learned = catalogue.fit(name, evidence(spec, 40), spec)
    given_rows = evidence(spec, rows, seed)

    scores = catalogue.score(name, given_rows, spec, learned)
    reversed_scores = catalogue.score(name, given_rows.part(slice(None, None, -1)), spec, learned)

    assert scores.dtype == np.float32
    assert scores.shape == (rows,)
    assert np.isfinite(scores).all()
    assert reversed_scores[::-1].tobytes() == scores.tobytes()
    for row in range(rows):
        alone = catalogue.score(name, given_rows.part(slice(row, row + 1)), spec, learned)
        assert alone.tobytes() == scores[row : row + 1].tobytes()


@pytest.mark.parametrize("name", ["mse", "mae", "bce", "max", "top_k", "ssim", "sap"])
def test_a_perfect_copy_scores_zero(name):
    seen = evidence(GREY, 3)
    copied = Evidence(seen.rows, seen.rows, seen.codes, seen.layers, seen.layers)

    assert catalogue.score(name, copied, GREY).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", sorted(set(MEASURES) - {"mahalanobis", "knn"}))
def test_a_worse_copy_scores_higher(name):
    rng = np.random.default_rng(1)
    seen, learned = evidence(GREY, 1), catalogue.fit(name, evidence(GREY, 40), GREY)
    noise = rng.normal(size=seen.rows.shape).astype(np.float32)
    scores = [
        catalogue.score(
            name,
            Evidence(
                seen.rows,
                np.clip(seen.rows + size * noise, 0, 2),
                None,
                seen.layers,
                [layer + np.float32(50 * size) for layer in seen.layers],
            ),
            GREY,
            learned,
        ).item()
        for size in (np.float32(0.1), np.float32(0.3), np.float32(0.9))
    ]

    assert scores == sorted(set(scores))


@pytest.mark.parametrize(
    ("spec", "given_by_model", "names"),
    [
        (GREY, EVERYTHING, list(MEASURES)),
        (TABLE, EVERYTHING, ["mse", "mae", "max", "top_k", "sap", "rapp", "mahalanobis", "knn"]),
        (PICTURE, {"reconstruction"}, ["mse", "mae", "bce", "max", "top_k"]),
        (TABLE, {"code"}, ["mahalanobis", "knn"]),
        (TABLE, set(), []),
    ],
)
def test_a_model_can_have_the_measures_that_it_gives_enough_for(spec, given_by_model, names):
    assert suitable(spec, frozenset(given_by_model)) == names


def test_a_measure_that_nobody_knows_is_refused():
    with pytest.raises(UnsupportedOperationError, match="no such metric") as caught:
        catalogue.score("median", evidence(TABLE, 1), TABLE)

    assert "mse or mae or bce" in str(caught.value.expected)


@pytest.mark.parametrize("name", ["rapp", "mahalanobis", "knn"])
def test_a_measure_that_has_to_learn_does_not_score_before(name):
    with pytest.raises(UnsupportedOperationError, match=f"{name} needs a calibration"):
        catalogue.score(name, evidence(TABLE, 1), TABLE)


def test_measures_learn_from_the_first_half_of_the_rows_and_are_calibrated_on_the_second():
    seen = evidence(TABLE, 21)

    scores, learned = fit_and_score(["mse", "top_k", "knn"], seen, TABLE)

    assert {name: len(values) for name, values in scores.items()} == {
        "mse": 21,
        "top_k": 21,
        "knn": 11,
    }
    assert learned.keys() == {"top_k", "knn"}
    half = CodeNeighbours.fit(seen.codes[:10])
    assert scores["knn"].tobytes() == half.scores(seen.codes[10:]).tobytes()


def test_where_other_rows_teach_all_rows_calibrate():
    seen, teachers = evidence(TABLE, 21), evidence(TABLE, 30, seed=1)

    scores, learned = fit_and_score(["knn"], seen, TABLE, learned_from=teachers)

    assert len(scores["knn"]) == 21
    assert isinstance(learned["knn"], CodeNeighbours)
    assert len(learned["knn"].references) == 30


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_of_features_that_is_none_is_refused(share):
    with pytest.raises(PackageError, match="share of top_k"):
        TopShare(share)
