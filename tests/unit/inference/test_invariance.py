import numpy as np
import pytest

from service.errors import InferenceError, PackageError
from service.inference.invariance import DEPENDENCES, find_dependences, in_fixed_batches

SAMPLE = np.random.default_rng(20).random((3, 4), np.float32)


class Model:
    """Stands for a session: computes a function and remembers its batches."""

    def __init__(self, compute):
        self.compute = compute
        self.batches = []

    def __call__(self, rows):
        self.batches.append(rows)
        return self.compute(rows)

    @property
    def sizes(self):
        return {len(batch) for batch in self.batches}


def doubled(rows):
    return (rows * 2,)


def found(compute, sample=SAMPLE, **options):
    # infinities and the largest numbers are among the neighbours
    with np.errstate(all="ignore"):
        return find_dependences(Model(compute), sample, **options)


def shifted(amount):
    """Doubles its rows and adds what *amount* makes of the batch, one number a row or for all."""
    return lambda rows: (rows * 2 + np.float32(2**-10) * amount(rows),)


def places(rows):
    return np.arange(len(rows), dtype=np.float32)[:, None]


def has_nan_before_last(rows):
    """Only the last row is touched, and only by a NaN right before it."""
    return (places(rows) == len(rows) - 1) & np.isnan(rows[-2:-1]).any()


class TestFinding:
    def test_a_row_that_is_answered_for_itself_depends_on_nothing(self):
        assert found(doubled) == []

    @pytest.mark.parametrize(
        ("amount", "reason"),
        [
            (len, "size"),
            (lambda rows: len(rows) == 1, "size"),
            (lambda rows: len(rows) == 47, "size"),
            (places, "position"),
            (lambda rows: places(rows) == 63, "position"),
            (lambda rows: rows.max(), "neighbours"),
            (lambda rows: np.isnan(rows).any(), "neighbours"),
            (lambda rows: np.isneginf(rows).any(), "neighbours"),
            (lambda rows: (rows == 0).all(axis=1).any(), "neighbours"),
            (lambda rows: np.roll(rows, 1, axis=0), "neighbours"),
            (has_nan_before_last, "neighbours"),
            (lambda rows: len(rows) == np.isnan(rows).all(axis=1).sum() + 1 > 4, "neighbours"),
        ],
        ids=[
            *("the number of rows", "being alone", "one size", "the place", "the last place"),
            *("the largest value", "a NaN", "an infinity", "a row of zeros", "the row before"),
            *("a NaN right before the last row", "nothing but NaN around"),
        ],
    )
    def test_what_bits_depend_on_is_told_by_its_kind(self, amount, reason):
        assert found(shifted(amount)) == [reason]

    def test_every_reason_is_found_beside_others(self):
        everything = shifted(lambda rows: len(rows) + places(rows) + np.isnan(rows).any())

        assert found(everything) == list(DEPENDENCES)

    @pytest.mark.parametrize("end", [0, -1], ids=["first", "last"])
    def test_what_touches_one_end_alone_is_found_beside_what_touches_all(self, end):
        def amount(rows):
            is_nan = np.isnan(rows).all(axis=1)
            is_end = places(rows) == places(rows)[end]
            return len(rows) + 9 * is_end * (is_nan.any() and not is_nan[0] and not is_nan[-1])

        assert found(shifted(amount)) == ["size", "neighbours"]

    def test_every_output_counts(self):
        assert found(lambda rows: (rows * 2, rows.sum(axis=1) + len(rows))) == ["size"]

    def test_an_answer_of_one_number_a_row_will_do(self):
        assert found(lambda rows: (rows.sum(axis=1),)) == []

    def test_the_sign_of_a_zero_is_a_bit(self):
        assert found(lambda rows: (np.copysign(rows * 0, 2 - len(rows)),)) == ["size"]

    def test_an_answer_of_nan_is_itself_again(self):
        assert found(lambda rows: (np.full_like(rows, np.nan),)) == []

    def test_another_shape_is_another_answer(self):
        assert found(lambda rows: (rows[:, : 1 + len(rows) % 2],)) == ["size"]

    @pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int64"])
    def test_rows_of_every_type_can_be_tried(self, dtype):
        sample = (SAMPLE * 100).astype(dtype)

        assert found(lambda rows: (rows[:, ::-1],), sample) == []
        assert found(lambda rows: (rows + rows[:1],), sample) == ["neighbours"]

    def test_equal_models_get_equal_batches(self):
        models = Model(doubled), Model(doubled)

        for model in models:
            with np.errstate(all="ignore"):
                find_dependences(model, SAMPLE, largest=5)

        for first, second in zip(*(model.batches for model in models), strict=True):
            np.testing.assert_array_equal(first, second)


class TestTrying:
    @pytest.mark.parametrize(
        ("largest", "sizes"),
        [(1, {1}), (8, {*range(1, 9)}), (64, {*range(1, 65)}), (200, {*range(1, 65), 128, 200})],
    )
    def test_every_size_is_tried_and_beyond_64_some(self, largest, sizes):
        model = Model(doubled)

        with np.errstate(all="ignore"):
            find_dependences(model, SAMPLE, largest=largest)

        assert model.sizes == sizes

    @pytest.mark.parametrize("size", [2, 3, 64])
    def test_a_row_stands_at_every_place_beside_nan(self, size):
        model = Model(doubled)

        with np.errstate(all="ignore"):
            find_dependences(model, SAMPLE)

        batches = [np.isnan(each).all(axis=1) for each in model.batches if len(each) == size]
        among_nan = [~is_nan for is_nan in batches if is_nan.any()]
        assert np.any(among_nan, axis=0).all()

    def test_a_batch_that_a_neighbour_makes_fail_says_nothing(self):
        def compute(rows):
            if not np.isfinite(rows).all():
                raise InferenceError("a value is not finite")
            return (rows * 2,)

        assert found(compute) == []

    def test_a_made_up_row_that_the_model_refuses_is_left_out(self):
        def compute(rows):
            known = (rows[:, None] == SAMPLE).all(axis=2).any(axis=1)
            if not known.all():
                raise InferenceError("a row is unknown")
            return (rows + len(rows),)

        assert found(compute) == ["size"]

    def test_a_model_that_refuses_everything_is_not_called_invariant(self):
        def compute(_):
            raise InferenceError("no")

        with pytest.raises(InferenceError, match="every row"):
            found(compute)

    def test_a_model_that_refuses_batches_is_not_called_invariant(self):
        def compute(rows):
            if len(rows) > 1:
                raise InferenceError("one at a time")
            return (rows,)

        with pytest.raises(InferenceError, match="one at a time"):
            found(compute)

    def test_a_model_that_miscounts_its_rows_is_refused(self):
        with pytest.raises(PackageError, match="does not give 2 rows for 2 rows"):
            found(lambda rows: (rows[:1],))


class TestFixedBatches:
    @pytest.mark.parametrize("rows", [1, 7, 8, 9, 20])
    def test_every_run_has_the_same_size_and_every_row_its_answer(self, rows):
        model = Model(doubled)
        batch = np.random.default_rng(21).random((rows, 4), np.float32)

        (answer,) = in_fixed_batches(model, 8)(batch)

        assert model.sizes == {8}
        np.testing.assert_array_equal(answer, batch * 2)

    def test_what_depends_on_the_size_alone_is_cured(self):
        fixed = in_fixed_batches(shifted(len), 16)

        assert found(fixed, largest=16) == []

    @pytest.mark.parametrize(
        ("amount", "reason"),
        [(places, "position"), (lambda rows: np.isnan(rows).any(), "neighbours")],
        ids=["position", "neighbours"],
    )
    def test_what_depends_on_the_other_rows_is_not(self, amount, reason):
        fixed = in_fixed_batches(shifted(amount), 16)

        assert found(fixed, largest=16) == [reason]

    def test_one_row_a_run_cures_everything(self):
        alone = in_fixed_batches(shifted(lambda rows: places(rows) + rows.max() + len(rows)), 1)

        assert found(alone, largest=16) == []
