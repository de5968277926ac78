"""npy bodies: headers that lie, dtypes that do not fit, arrays that come back as they were."""

import io

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from service.bodies import npy
from service.errors import InvalidRowsError, MalformedBodyError
from service.specs import TensorSpec

PAIRS = TensorSpec("float32", (2,))
ANY_LENGTH = TensorSpec("float32", (None,))
DATA = np.array([[1, 2]], "<f4").tobytes()


def saved(array, version=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), version=version)
    return buffer.getvalue()


def forged(header, data=DATA, version=(1, 0)):
    """An npy file with any header."""
    text = header.encode() if isinstance(header, str) else header
    size = 2 if version == (1, 0) else 4
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(size, "little") + text + data


def header(shape="(1, 2)", descr="'<f4'", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


def test_an_array_of_the_models_dtype_comes_as_it_is():
    rows = npy.parse(saved(np.array([[1.5, -2], [3, 4]], np.float32)), PAIRS)

    assert rows.dtype == np.float32
    assert rows.tolist() == [[1.5, -2.0], [3.0, 4.0]]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_three_versions_of_the_format_are_read(version):
    rows = npy.parse(saved(np.array([[1, 2]], np.float32), version), PAIRS)

    assert rows.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_a_forged_header_that_is_right_is_read(version):
    assert npy.parse(forged(header(), version=version), PAIRS).tolist() == [[1.0, 2.0]]


def test_fortran_order_is_undone():
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)

    parsed = npy.parse(saved(np.asfortranarray(rows)), PAIRS)

    np.testing.assert_array_equal(parsed, rows)
    assert parsed.flags.c_contiguous


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", ">u4"])
def test_big_endian_numbers_are_turned_round(dtype):
    parsed = npy.parse(saved(np.array([[1, 258]], dtype)), PAIRS)

    assert parsed.dtype == np.dtype("=f4")
    assert parsed.tolist() == [[1.0, 258.0]]


def test_flat_rows_take_the_shape_of_the_model():
    spec = TensorSpec("float32", (1, 2, 2))

    assert npy.parse(saved(np.zeros((3, 4), np.float32)), spec).shape == (3, 1, 2, 2)


def test_float64_is_rounded_to_float32():
    assert npy.parse(saved(np.array([[0.1, 1e-60]])), PAIRS).tolist() == [
        [float(np.float32(0.1)), 0.0]
    ]


def test_float64_beyond_float32_is_named_with_its_row():
    with pytest.raises(InvalidRowsError, match="does not fit into float32") as caught:
        npy.parse(saved(np.array([[1, 2], [3, 1e39]])), PAIRS)

    assert caught.value.row == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_row(value):
    with pytest.raises(InvalidRowsError, match="not finite") as caught:
        npy.parse(saved(np.array([[1, 2], [3, value]], np.float32)), PAIRS)

    assert caught.value.row == 1


def test_floats_are_not_taken_for_integers():
    with pytest.raises(InvalidRowsError, match="does not convert") as caught:
        npy.parse(saved(np.array([[1.0, 2.0]])), TensorSpec("int64", (2,)))

    assert (caught.value.expected, caught.value.received) == ("int64", "float64")


@pytest.mark.parametrize(("dtype", "value"), [("<u8", 2**63), (">u8", 2**64 - 1)])
def test_unsigned_integers_beyond_int64_do_not_fit(dtype, value):
    with pytest.raises(InvalidRowsError, match="does not fit into int64") as caught:
        npy.parse(saved(np.array([[1, 2], [value, 0]], dtype)), TensorSpec("int64", (2,)))

    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("descr", "item_bytes", "received"),
    [
        pytest.param("'|O'", 8, "objects", id="objects"),
        pytest.param("'|b1'", 1, "dtype kind 'b'", id="booleans"),
        pytest.param("'<c8'", 8, "dtype kind 'c'", id="complex"),
        pytest.param("'<U4'", 16, "dtype kind 'U'", id="text"),
        pytest.param("'|S4'", 4, "dtype kind 'S'", id="bytes"),
        pytest.param("'<M8[s]'", 8, "dtype kind 'M'", id="dates"),
        pytest.param("'<m8[s]'", 8, "dtype kind 'm'", id="durations"),
        pytest.param("[('a', '<f4')]", 4, "dtype kind 'V'", id="records"),
        pytest.param("[('a', '|O')]", 8, "objects", id="records of objects"),
        pytest.param("('<f4', (2,))", 8, "dtype kind 'V'", id="arrays in arrays"),
        pytest.param("'|V4'", 4, "dtype kind 'V'", id="bytes without meaning"),
        pytest.param("'|V0'", 0, "dtype kind 'V'", id="elements of no size"),
        pytest.param("{}", 0, "dtype kind 'V'", id="records of nothing"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(descr, item_bytes, received):
    with pytest.raises(InvalidRowsError, match="does not hold numbers") as caught:
        npy.parse(forged(header(descr=descr), b"\0" * 2 * item_bytes), PAIRS)

    assert (caught.value.expected, caught.value.received) == ("float32", received)


def test_a_pickle_is_never_read():
    array = np.array([[{"a": 1}, 2]], object)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)

    with pytest.raises(InvalidRowsError, match="does not hold numbers"):
        npy.parse(buffer.getvalue(), PAIRS)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x93NUMPY", id="magic alone"),
        pytest.param(b"\x93NUMPY\x01", id="half a version"),
        pytest.param(b"\x93NUMPY\x01\x00", id="no header length"),
        pytest.param(b"\x93NUMPY\x01\x00\x10", id="half a header length"),
        pytest.param(b"\x93NUMPY\x01\x00\xff\xff", id="header of 64 KiB"),
        pytest.param(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", id="header of 4 GiB"),
        pytest.param(forged(header(), version=(4, 0)), id="version 4"),
        pytest.param(forged(header(), version=(0, 0)), id="version 0"),
        pytest.param(forged(header(), version=(1, 1)), id="version 1.1"),
        pytest.param(b"PK\x03\x04" + b"\0" * 100, id="npz"),
        pytest.param(b"\x80\x04]\x94." + b"\0" * 100, id="pickle"),
        pytest.param(forged(header() + " " * 1024), id="header over 1 KiB"),
        pytest.param(forged(header())[:30], id="header cut off"),
    ],
)
def test_what_is_no_npy_file_is_malformed(body):
    with pytest.raises(MalformedBodyError, match=r"not an npy file|cut off or too long"):
        npy.parse(body, PAIRS)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{'descr': (", id="bracket left open"),
        pytest.param("{'descr': '", id="text left open"),
        pytest.param("'''", id="long text left open"),
        pytest.param("(" * 1000, id="1,000 brackets"),
        pytest.param("-" * 1000 + "1", id="1,000 minus signs"),
        pytest.param("{}", id="no keys"),
        pytest.param("[]", id="a list"),
        pytest.param("1", id="a number"),
        pytest.param("{1: 2, 'a': 3}", id="keys of several types"),
        pytest.param("__import__('os').abort()", id="code"),
        pytest.param("\0\0", id="null bytes"),
        pytest.param("  \n x\n y", id="indentation"),
        pytest.param("\\", id="backslash"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(header(fortran="0"), id="order that is no boolean"),
        pytest.param(header(shape="[1, 2]"), id="shape that is a list"),
        pytest.param(header(shape="(1.0, 2)"), id="axis that is a float"),
        pytest.param(header(shape="('1', 2)"), id="axis that is text"),
        pytest.param(header(shape="None"), id="no shape"),
        pytest.param(header(descr="5"), id="dtype that is a number"),
        pytest.param(header(descr="None"), id="no dtype"),
        pytest.param(header(descr="()"), id="dtype of nothing"),
        pytest.param(header(descr="('<f4',)"), id="dtype of half a pair"),
        pytest.param(header(descr="'<f3'"), id="dtype that does not exist"),
        pytest.param(header(descr="'float'*9"), id="dtype to be computed"),
        pytest.param(header()[:-1] + ", 'more': 1}", id="one key too many"),
    ],
)
def test_a_broken_header_is_malformed(text, version):
    with pytest.raises(MalformedBodyError, match="header"):
        npy.parse(forged(text, version=version), PAIRS)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param("(2, 2)", id="one row more"),
        pytest.param("(1, 1)", id="less than there is"),
        pytest.param("(0, 2)", id="nothing, but there is data"),
        pytest.param("(1000000000000, 2)", id="terabytes"),
        pytest.param("(4611686018427387905, 4)", id="wraps round at 64 bits"),
        pytest.param(f"({'9' * 900},)", id="number of 900 digits"),
    ],
)
def test_a_header_that_does_not_fit_the_data_is_malformed(shape):
    with pytest.raises(MalformedBodyError, match="does not fit the data"):
        npy.parse(forged(header(shape)), PAIRS)


def test_a_header_that_does_not_fit_the_data_is_told_both_lengths():
    with pytest.raises(MalformedBodyError) as caught:
        npy.parse(forged(header("(1000000000000, 2)")), PAIRS)

    assert (caught.value.expected, caught.value.received) == (
        "8000000000000 bytes of data",
        "8 bytes",
    )


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_data_that_is_cut_off_is_malformed(cut):
    with pytest.raises(MalformedBodyError, match="does not fit the data"):
        npy.parse(saved(np.zeros((1, 2), np.float32))[:-cut], PAIRS)


def test_data_after_the_end_is_malformed():
    with pytest.raises(MalformedBodyError, match="does not fit the data"):
        npy.parse(saved(np.zeros((1, 2), np.float32)) + b"\0", PAIRS)


@pytest.mark.parametrize("shape", ["(-1, 2)", "(-1, -2)", "(True, 2)"])
def test_an_axis_that_is_no_length_is_malformed(shape):
    with pytest.raises(MalformedBodyError, match="no length"):
        npy.parse(forged(header(shape)), PAIRS)


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        pytest.param(f"(0, {10**30})", b"", id="axis beyond 64 bits"),
        pytest.param(f"(0, {2**62}, {2**62})", b"", id="product beyond 64 bits"),
        pytest.param(f"({'1, ' * 65})", DATA[:4], id="65 axes"),
    ],
)
def test_a_shape_that_no_array_can_have_is_malformed(shape, data):
    with pytest.raises(MalformedBodyError, match="no array"):
        npy.parse(forged(header(shape), data), PAIRS)


@pytest.mark.parametrize(
    ("array", "received"),
    [
        pytest.param(np.float32(1), "a single number", id="a number"),
        pytest.param(np.zeros(2, np.float32), "[]", id="numbers"),
        pytest.param(np.zeros((1, 3), np.float32), "[3]", id="too many features"),
        pytest.param(np.zeros((1, 2, 1), np.float32), "[2, 1]", id="too many axes"),
        pytest.param(np.zeros((1, 0), np.float32), "[0]", id="no features"),
    ],
)
def test_rows_of_another_shape_are_refused(array, received):
    with pytest.raises(InvalidRowsError, match="wrong shape") as caught:
        npy.parse(saved(array), PAIRS)

    assert (caught.value.expected, caught.value.received) == ("[2]", received)


@pytest.mark.parametrize("spec", [PAIRS, ANY_LENGTH], ids=["fixed", "free"])
def test_an_empty_batch_is_refused(spec):
    with pytest.raises(InvalidRowsError, match="batch is empty"):
        npy.parse(saved(np.zeros((0, 2), np.float32)), spec)


def test_rows_without_values_are_refused_where_the_axis_is_free():
    with pytest.raises(InvalidRowsError, match="wrong shape"):
        npy.parse(saved(np.zeros((2, 0), np.float32)), ANY_LENGTH)


def test_no_message_repeats_the_header():
    with pytest.raises(MalformedBodyError) as caught:
        npy.parse(forged("{'descr': 'SECRET'"), PAIRS)

    assert "SECRET" not in f"{caught.value.detail} {caught.value.expected} {caught.value.received}"


numbers = st.sampled_from(["<f2", "<f4", ">f4", "<f8", "|u1", "|i1", "<i4", "<i8"])


@settings(max_examples=60)
@given(
    dtype=numbers,
    rows=st.integers(1, 5),
    axes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    data=st.data(),
)
def test_what_is_rendered_parses_to_the_same_bits(dtype, rows, axes, data):
    elements = st.floats(-1, 1, width=16) if np.dtype(dtype).kind == "f" else st.integers(0, 100)
    array = data.draw(arrays(dtype, (rows, *axes), elements=elements))
    native = np.dtype(dtype).newbyteorder("=")

    parsed = npy.parse(npy.render(array), TensorSpec(native.name, tuple(axes)))

    assert parsed.dtype == native
    np.testing.assert_array_equal(parsed, array)


@settings(max_examples=75)
@given(position=st.integers(0, 63), junk=st.binary(min_size=1, max_size=4))
def test_a_damaged_header_is_refused_or_harmless(position, junk):
    body = bytearray(forged(header(shape="(1, 2,)")))
    body[10 + position : 10 + position + len(junk)] = junk

    try:
        rows = npy.parse(bytes(body), PAIRS)
    except (MalformedBodyError, InvalidRowsError):
        return

    assert rows.shape == (1, 2)


def test_a_rendered_array_can_be_read_by_numpy():
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)

    np.testing.assert_array_equal(np.load(io.BytesIO(npy.render(rows))), rows)


def test_rows_that_lie_apart_in_memory_are_rendered_in_order():
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)[::2].T

    np.testing.assert_array_equal(np.load(io.BytesIO(npy.render(rows))), rows)
