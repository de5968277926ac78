"""The domain guard: rows of the model's kind pass as often as promised, others do not."""

import numpy as np
import pytest

from service.errors import PackageError
from service.scoring.domain import DomainGuard, domains
from service.scoring.statistics import Statistics
from service.specs import ImageSpec, TensorSpec

PICTURE = TensorSpec("float32", (1, 12, 12), range=(0.0, 1.0), image=ImageSpec("L", "CHW"))
TABLE = TensorSpec("float32", (4,))


def crosses(rows, seed=0):
    """Bright crosses at changing places on a dark ground: what the model of these tests knows."""
    random = np.random.default_rng(seed)
    pictures = random.random((rows, 1, 12, 12)) * 0.05
    for picture in pictures:
        line, column = random.integers(2, 10, 2)
        picture[0, line] = picture[0, :, column] = random.uniform(0.8, 1.0)
    return pictures.astype(np.float32)


def codes_of(rows):
    return rows.reshape(len(rows), -1)[:, ::13]


def scores_of(rows):
    return rows.std(axis=(1, 2, 3)) if rows.ndim == 4 else np.abs(rows).max(axis=1)


def guard(with_codes=True, rows=2400):
    known = crosses(rows)
    return DomainGuard.fit(
        PICTURE, known, scores_of(known), codes_of(known) if with_codes else None
    )


GUARD = guard()


def share_out(rows, made=GUARD):
    codes = None if made.sides.codes is None else codes_of(rows)
    found = domains(made.p_values(rows, scores_of(rows), codes), made.default_rate)
    return found.count("out") / len(found)


def test_of_normal_rows_one_in_a_hundred_is_out():
    assert 0.0 < share_out(crosses(3000, seed=1)) < 0.025


FOREIGN = {
    "blank": np.zeros((5, 1, 12, 12), np.float32),
    "white": np.ones((5, 1, 12, 12), np.float32),
    "grey": np.full((5, 1, 12, 12), 0.5, np.float32),
    "inverted": 1 - crosses(50, seed=2),
    "noise": np.random.default_rng(3).random((50, 1, 12, 12), np.float32),
    "dim": crosses(50, seed=4) * np.float32(0.4),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("with_codes", [True, False])
def test_pictures_of_another_kind_are_out(kind, with_codes):
    made = GUARD if with_codes else guard(with_codes=False)

    assert share_out(FOREIGN[kind], made) == 1.0


def test_p_values_of_normal_rows_are_uniform():
    rows = crosses(3000, seed=5)

    p_values = np.sort(GUARD.p_values(rows, scores_of(rows), codes_of(rows)))

    # the bound of the two-sample test at 0.1 %, with 600 rows counted in the guard
    assert np.max(np.abs(p_values - np.arange(1, 3001) / 3000)) < 1.95 * np.sqrt(1 / 3000 + 1 / 600)


def test_the_p_value_of_a_row_has_the_same_bits_alone_and_in_a_batch():
    rows = np.concatenate([crosses(9, seed=6), FOREIGN["noise"][:3]])

    p_values = GUARD.p_values(rows, scores_of(rows), codes_of(rows))

    for row in range(len(rows)):
        one = rows[row : row + 1]
        alone = GUARD.p_values(one, scores_of(rows)[row : row + 1], codes_of(one))
        assert alone.tobytes() == p_values[row : row + 1].tobytes()


def test_a_table_is_known_by_its_values():
    random = np.random.default_rng(7)
    mixing = np.array([[100, 0, 0, 1], [0, 1, 0, 0], [0, 1, 0.1, 0], [0, 0, 0, 1]], np.float32)

    def rows(count):
        return random.normal(size=(count, 4)).astype(np.float32) @ mixing

    known = rows(2000)
    made = DomainGuard.fit(TABLE, known, scores_of(known))
    swapped = rows(200)[:, ::-1].copy()

    normal = rows(1000)
    assert share_out_of_table(made, normal) < 0.03
    assert share_out_of_table(made, swapped) > 0.95


def share_out_of_table(made, rows):
    return np.mean(made.p_values(rows, scores_of(rows)) <= 0.01)


def test_a_row_is_out_up_to_the_rate_and_in_above_it():
    p_values = np.array([0.001, 0.01, 0.0101, 0.9])

    assert domains(p_values, rate=0.01) == ["out", "out", "in", "in"]
    assert domains(p_values, rate=0.001) == ["out", "in", "in", "in"]


@pytest.mark.parametrize(("rows", "rate"), [(40, 0.091), (80, 0.0477), (400, 0.01)])
def test_with_few_rows_a_row_is_out_when_none_of_them_was_as_strange(rows, rate):
    made = guard(rows=rows)

    assert made.default_rate == rate
    assert share_out(FOREIGN["noise"], made) == 1.0


def test_few_rows_make_no_guard():
    known = crosses(39)

    with pytest.raises(PackageError, match="needs 40 calibration rows, not 39"):
        DomainGuard.fit(PICTURE, known, scores_of(known))


def test_a_guard_of_codes_asks_for_codes():
    rows = crosses(1)

    with pytest.raises(PackageError, match="fitted on codes"):
        GUARD.p_values(rows, scores_of(rows))


def test_the_statistics_of_a_picture_by_hand():
    statistics = Statistics.fit(PICTURE, crosses(3))
    checks = np.indices((12, 12)).sum(axis=0) % 2

    (found,) = statistics.of(checks[None, None].astype(np.float32))

    half, none = np.log(0.5), np.log(1e-4)
    expected = [
        0.5,  # mean
        *[half, *[none] * 6, half],  # histogram of eight bins
        np.log(0.25),  # variance
        *[0.0, 0.0],  # squared steps of 1 down and to the right
        *[np.log(4), np.log(4)],  # in units of the variance
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        pytest.param(TensorSpec("float32", (6,), range=(0, 1)), 1 + 8 + 3, id="values of one kind"),
        pytest.param(TensorSpec("float32", (2, 3)), 1 + 8 + 5, id="a series without range"),
        pytest.param(TensorSpec("float32", (6,)), 6, id="a table"),
        pytest.param(
            TensorSpec("float32", (1, 2, 1), range=(0, 1), image=ImageSpec("L", "HWC")),
            1 + 8 + 5,
            id="a picture one pixel high",
        ),
    ],
)
def test_rows_of_every_sort_have_statistics(spec, values):
    rows = np.random.default_rng(0).random((20, *spec.item_shape), np.float32)

    found = Statistics.fit(spec, rows).of(rows)

    assert found.shape == (20, values)
    assert np.isfinite(found).all()
