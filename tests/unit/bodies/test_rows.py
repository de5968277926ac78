"""The last step of every parser: shape, dtype, finite values, declared range, number of rows."""

import numpy as np
import pytest

from service.bodies.rows import check_count, expected_shape, shaped, to_rows
from service.errors import InvalidRowsError, MalformedBodyError, TooLargeError
from service.specs import TensorSpec

PAIRS = TensorSpec("float32", (2,))
SQUARES = TensorSpec("float32", (1, 2, 2))
FREE = TensorSpec("float32", (3, None, None))
UNIT = TensorSpec("float32", (2,), range=(0, 1))


@pytest.mark.parametrize("shape", [(5, 1, 2, 2), (5, 4)], ids=["item shape", "flat"])
def test_rows_come_in_item_shape_or_flat(shape):
    assert to_rows(np.zeros(shape, np.float32), SQUARES).shape == (5, 1, 2, 2)


def test_flat_rows_keep_their_order():
    flat = np.arange(8, dtype=np.float32).reshape(2, 4)

    assert to_rows(flat, SQUARES)[1].tolist() == [[[4, 5], [6, 7]]]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 1, 1)])
def test_free_axes_take_any_length(shape):
    assert to_rows(np.zeros(shape, np.float32), FREE).shape == shape


@pytest.mark.parametrize(
    ("shape", "spec", "expected", "received"),
    [
        ((2, 3), SQUARES, "[1, 2, 2] or [4]", "[3]"),
        ((2, 2, 2), SQUARES, "[1, 2, 2] or [4]", "[2, 2]"),
        ((2, 2, 2, 1), SQUARES, "[1, 2, 2] or [4]", "[2, 2, 1]"),
        ((4,), SQUARES, "[1, 2, 2] or [4]", "[]"),
        ((), SQUARES, "[1, 2, 2] or [4]", "a single number"),
        ((2, 3), PAIRS, "[2]", "[3]"),
        ((2, 4, 5, 5), FREE, "[3, ?, ?]", "[4, 5, 5]"),
        ((2, 75), FREE, "[3, ?, ?]", "[75]"),
        ((2, 3, 0, 5), FREE, "[3, ?, ?]", "[3, 0, 5]"),
        ((2, 0), PAIRS, "[2]", "[0]"),
    ],
)
def test_rows_of_another_shape_are_told_the_right_one(shape, spec, expected, received):
    with pytest.raises(InvalidRowsError, match="wrong shape") as caught:
        to_rows(np.zeros(shape, np.float32), spec)

    assert (caught.value.expected, caught.value.received) == (expected, received)


@pytest.mark.parametrize("shape", [(0,), (0, 2), (0, 7, 7)])
def test_an_empty_batch_is_refused_whatever_its_rows_would_be(shape):
    with pytest.raises(InvalidRowsError, match="batch is empty") as caught:
        to_rows(np.zeros(shape, np.float32), PAIRS)

    assert (caught.value.expected, caught.value.received) == ("at least one row", "none")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("float32", "float32"),
        ("float64", "float32"),
        ("float16", "float32"),
        ("float64", "float16"),
        ("int64", "float32"),
        ("uint8", "float64"),
        ("uint8", "float16"),
        ("int64", "uint8"),
        ("uint64", "int8"),
        ("int8", "int64"),
    ],
)
def test_a_dtype_without_overflow_converts(given, wanted):
    rows = to_rows(np.array([[0, 100]], given), TensorSpec(wanted, (2,)))

    assert rows.dtype == wanted
    assert rows.tolist() == [[0, 100]]


@pytest.mark.parametrize("given", ["float16", "float32", "float64", "bool", "complex64", "S4"])
@pytest.mark.parametrize("wanted", ["uint8", "int64"])
def test_a_dtype_that_does_not_convert_to_integers_is_refused(given, wanted):
    with pytest.raises(InvalidRowsError, match="does not convert") as caught:
        to_rows(np.array([[0, 1]]).astype(given), TensorSpec(wanted, (2,)))

    assert caught.value.expected == wanted


@pytest.mark.parametrize("given", ["bool", "complex64", "object", "S4"])
def test_a_dtype_that_holds_no_numbers_does_not_convert_to_floats(given):
    with pytest.raises(InvalidRowsError, match="does not convert"):
        to_rows(np.array([[0, 1]]).astype(given), PAIRS)


@pytest.mark.parametrize(
    ("given", "value", "wanted"),
    [
        ("float64", 3.5e38, "float32"),
        ("float64", -3.5e38, "float32"),
        ("float32", 65520.0, "float16"),
        ("int64", 65520, "float16"),
        ("uint64", 2**64 - 1, "float16"),
        ("int64", 256, "uint8"),
        ("int8", -1, "uint8"),
        ("uint8", 128, "int8"),
        ("int64", -129, "int8"),
        ("int64", 2**31, "int32"),
        ("uint64", 2**63, "int64"),
    ],
)
def test_a_value_that_overflows_is_named_with_its_row(given, value, wanted):
    array = np.array([[1, 1], [2, value], [value, 3]], given)

    with pytest.raises(InvalidRowsError, match=f"does not fit into {wanted}") as caught:
        to_rows(array, TensorSpec(wanted, (2,)))

    assert caught.value.row == 1
    assert caught.value.expected == f"{wanted} without overflow"


@pytest.mark.parametrize(("value", "wanted"), [(65519.0, "float16"), (3.4028235e38, "float32")])
def test_the_largest_value_still_fits(value, wanted):
    rows = to_rows(np.array([[value, -value]]), TensorSpec(wanted, (2,)))

    assert rows[0, 0] == np.finfo(wanted).max


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("spec", [PAIRS, UNIT], ids=["no range", "range"])
@pytest.mark.parametrize("given", ["float32", "float64"])
def test_a_value_that_is_not_finite_is_named_with_its_row(value, spec, given):
    with pytest.raises(InvalidRowsError, match="not finite") as caught:
        to_rows(np.array([[0, 1], [0, value], [value, 0]], given), spec)

    assert caught.value.row == 1
    assert (caught.value.expected, caught.value.received) == ("finite numbers", str(value))


def test_the_ends_of_the_range_belong_to_it():
    assert to_rows(np.array([[0.0, 1.0]]), UNIT).tolist() == [[0.0, 1.0]]


def test_an_end_that_float32_rounds_belongs_to_the_range():
    spec = TensorSpec("float32", (2,), range=(0.1, 0.7))

    assert to_rows(np.array([[0.1, 0.7]]), spec).tolist() == [
        [float(np.float32(0.1)), float(np.float32(0.7))]
    ]


@pytest.mark.parametrize(
    ("value", "received"),
    [
        (np.nextafter(np.float32(1), np.float32(2)), "a larger value"),
        (-1e-30, "a smaller value"),
        (255, "a larger value"),
    ],
)
def test_a_value_out_of_the_range_is_named_with_its_row(value, received):
    with pytest.raises(InvalidRowsError, match="declared range") as caught:
        to_rows(np.array([[0, 1], [1, 0], [0, value]], np.float32), UNIT)

    assert caught.value.row == 2
    assert (caught.value.expected, caught.value.received) == ("0 to 1", received)


@pytest.mark.parametrize(("value", "received"), [(-101, "a smaller value"), (11, "a larger value")])
def test_a_range_holds_for_integers_too(value, received):
    spec = TensorSpec("int64", (2,), range=(-100, 10))

    with pytest.raises(InvalidRowsError, match="declared range") as caught:
        to_rows(np.array([[-100, 10], [0, value]]), spec)

    assert caught.value.row == 1
    assert (caught.value.expected, caught.value.received) == ("-100 to 10", received)


def test_integers_without_a_range_are_all_taken():
    rows = np.array([[-(2**63), 2**63 - 1]])

    assert to_rows(rows, TensorSpec("int64", (2,))) is not None


def test_the_first_fault_counts_whichever_it_is():
    rows = np.array([[0, 1], [0, 2], [np.nan, 0]], np.float32)

    with pytest.raises(InvalidRowsError, match="declared range") as caught:
        to_rows(rows, UNIT)

    assert caught.value.row == 1


def test_rows_lie_in_one_piece_whatever_they_came_in():
    apart = np.zeros((4, 4), np.float32)[::2, ::2]

    assert to_rows(apart, PAIRS).flags.c_contiguous


@pytest.mark.parametrize("rows", [1, 16])
def test_as_many_rows_as_allowed_pass(rows):
    check_count(rows, 16)


def test_one_row_too_many_is_refused():
    with pytest.raises(TooLargeError, match="16 rows") as caught:
        check_count(17, 16)

    assert (caught.value.expected, caught.value.received) == ("at most 16 rows", "17 rows")


@pytest.mark.parametrize(
    ("shape", "text"),
    [((2,), "[2]"), ((1, 2, 2), "[1, 2, 2] or [4]"), ((3, None), "[3, ?]"), ((None,), "[?]")],
)
def test_the_expected_shape_names_the_flat_row_where_there_is_one(shape, text):
    assert expected_shape(TensorSpec("float32", shape)) == text


def test_elements_are_laid_out_in_the_order_of_their_writer():
    flat = np.arange(4)

    assert shaped(flat, (2, 2)).tolist() == [[0, 1], [2, 3]]
    assert shaped(flat, (2, 2), order="F").tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize("shape", [(0, 2**62, 2**62), (0, 2**70), (0,) + (1,) * 64])
def test_a_shape_that_no_array_can_have_is_malformed(shape):
    with pytest.raises(MalformedBodyError, match="no array"):
        shaped(np.zeros(0), shape)


def test_a_range_wider_than_the_dtype_lets_no_infinity_in():
    wide = TensorSpec("float16", (2,), range=(0, 1e6))

    with pytest.raises(InvalidRowsError, match="does not fit"):
        to_rows(np.array([[0, 1e5]], np.float32), wide)
    with pytest.raises(InvalidRowsError, match="not finite"):
        to_rows(np.array([[0, np.inf]], np.float16), wide)
