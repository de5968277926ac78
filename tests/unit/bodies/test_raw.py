"""Raw bodies: the byte count and ``X-Shape`` are all there is to go by."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from service.bodies import raw
from service.errors import InvalidRowsError, MalformedBodyError
from service.specs import TensorSpec

PAIRS = TensorSpec("float32", (2,))
SQUARES = TensorSpec("float32", (1, 2, 2))
FREE = TensorSpec("float32", (1, None, None))


def zeros(count):
    return bytes(4 * count)


def test_the_number_of_rows_follows_from_the_bytes():
    rows = raw.parse(np.arange(6, dtype="<f4").tobytes(), PAIRS)

    assert rows.dtype == np.float32
    assert rows.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


def test_rows_take_the_shape_of_the_model():
    assert raw.parse(zeros(12), SQUARES).shape == (3, 1, 2, 2)


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("uint8", b"\x01\xff"),
        ("int8", b"\x01\xff"),
        ("int32", b"\x01\0\0\0\xff\xff\xff\xff"),
        ("int64", b"\x01" + bytes(7) + b"\xff" * 8),
        ("float16", b"\x00\x3c\x00\xbc"),
        ("float64", bytes(6) + b"\xf0\x3f" + bytes(6) + b"\xf0\xbf"),
    ],
)
def test_bytes_are_little_endian_in_the_models_dtype(dtype, data):
    rows = raw.parse(data, TensorSpec(dtype, (2,)))

    assert rows.dtype == dtype
    assert rows.tolist() == [[1, 255 if dtype == "uint8" else -1]]


@pytest.mark.parametrize("count", [1, 7, 9, 15])
def test_bytes_that_are_no_whole_number_of_rows_are_refused(count):
    with pytest.raises(InvalidRowsError, match="whole number of rows") as caught:
        raw.parse(bytes(count), PAIRS)

    assert caught.value.expected == "a multiple of 8 bytes ([2] float32)"
    assert caught.value.received == f"{count} bytes"


@pytest.mark.parametrize("shape", [None, "0,2"])
def test_no_bytes_are_an_empty_batch(shape):
    with pytest.raises(InvalidRowsError, match="batch is empty"):
        raw.parse(b"", PAIRS, shape)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("2,1,2,3", (2, 1, 2, 3)),
        ("1,1,4,3", (1, 1, 4, 3)),
        ("12,1,1,1", (12, 1, 1, 1)),
        (" 2 , 1, 2 ,3 ", (2, 1, 2, 3)),
    ],
)
def test_free_axes_come_from_the_header(shape, wanted):
    assert raw.parse(zeros(12), FREE, shape).shape == wanted


def test_rows_with_free_axes_need_the_header():
    with pytest.raises(InvalidRowsError, match="X-Shape") as caught:
        raw.parse(zeros(12), FREE)

    assert caught.value.expected == "X-Shape: n,1,?,?"


@pytest.mark.parametrize(("shape"), ["3,4", "3,1,2,2"])
def test_the_header_may_be_given_where_the_shape_is_fixed(shape):
    assert raw.parse(zeros(12), SQUARES, shape).shape == (3, 1, 2, 2)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param("", id="empty"),
        pytest.param(",", id="comma"),
        pytest.param("1,2,", id="trailing comma"),
        pytest.param("a", id="a letter"),
        pytest.param("-1,2", id="negative"),
        pytest.param("1.0,2", id="float"),
        pytest.param("1e3,2", id="exponent"),
        pytest.param("0x1,2", id="hexadecimal"),
        pytest.param("1_0,2", id="underscore"),
        pytest.param("1 2", id="no comma"),
        pytest.param("(1, 2)", id="brackets"),
        pytest.param("1;2", id="semicolon"),
        pytest.param("\xb2,2", id="superscript"),
        pytest.param("1,1,1,1,1,1,1,1,1", id="nine axes"),
        pytest.param("1" * 12, id="twelve digits"),
        pytest.param("2\x1f,2", id="a blank of Unicode"),
        pytest.param("9" * 5000, id="five thousand digits"),
    ],
)
def test_a_header_that_cannot_be_read_is_malformed(shape):
    with pytest.raises(MalformedBodyError, match="X-Shape must be") as caught:
        raw.parse(zeros(2), PAIRS, shape)

    assert caught.value.expected == "2,3,64"


@pytest.mark.parametrize("shape", ["2,2", "1,1", "0,2", "99999999999,99999999999"])
def test_bytes_that_are_not_of_their_shape_are_refused(shape):
    with pytest.raises(InvalidRowsError, match="bytes of its shape") as caught:
        raw.parse(zeros(2), PAIRS, shape)

    assert caught.value.received == "8 bytes"


def test_bytes_that_are_not_of_their_shape_are_told_how_many_it_takes():
    with pytest.raises(InvalidRowsError) as caught:
        raw.parse(zeros(2), PAIRS, "3,2")

    assert caught.value.expected == "24 bytes for [3, 2] float32"


@pytest.mark.parametrize("shape", ["2", "2,1", "1,1,2"])
def test_a_shape_that_is_not_the_models_is_refused(shape):
    with pytest.raises(InvalidRowsError, match="wrong shape"):
        raw.parse(zeros(2), PAIRS, shape)


def test_pictures_without_pixels_are_refused():
    with pytest.raises(InvalidRowsError, match="wrong shape") as caught:
        raw.parse(b"", FREE, "2,1,0,4")

    assert (caught.value.expected, caught.value.received) == ("[1, ?, ?]", "[1, 0, 4]")


def test_a_shape_that_no_array_can_have_is_malformed():
    with pytest.raises(MalformedBodyError, match="no array"):
        raw.parse(b"", FREE, "0,1,99999999999,99999999999")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_row(value):
    with pytest.raises(InvalidRowsError, match="not finite") as caught:
        raw.parse(np.array([1, 2, 3, value], "<f4").tobytes(), PAIRS)

    assert caught.value.row == 1


def test_big_endian_rows_are_rendered_little_endian():
    assert raw.render(np.array([[1, 258]], ">u2")) == b"\x01\x00\x02\x01"


def test_rows_that_lie_apart_in_memory_are_rendered_in_order():
    assert raw.render(np.arange(6, dtype=np.uint8).reshape(2, 3).T) == b"\0\3\1\4\2\5"


@settings(max_examples=50)
@given(
    dtype=st.sampled_from(["float32", "float64", "uint8", "int64"]),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    data=st.data(),
)
def test_what_is_rendered_parses_to_the_same_bits(dtype, shape, data):
    elements = st.floats(-1, 1, width=16) if dtype[0] == "f" else st.integers(0, 100)
    rows = data.draw(arrays(dtype, shape, elements=elements))

    fixed = raw.parse(raw.render(rows), TensorSpec(dtype, shape[1:]))
    free = raw.parse(raw.render(rows), TensorSpec(dtype, (None, None)), ",".join(map(str, shape)))

    assert fixed.tobytes() == free.tobytes() == rows.tobytes()
    assert fixed.shape == free.shape == shape
