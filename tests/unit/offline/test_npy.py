"""NumPy's files in slices."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from service.errors import ConfigurationError, InvalidRowsError, MalformedBodyError
from service.offline.chunks import Answer, Chunk
from service.offline.npy import NpyReader, NpyWriter
from service.specs import TensorSpec

SPEC = TensorSpec("float32", (2, 3))
FLOAT32 = np.dtype(np.float32)


def rows(count, seed=0):
    return np.random.default_rng(seed).random((count, 2, 3), np.float32)


def saved(folder, array):
    path = folder / "rows.npy"
    np.save(path, array)
    return path


def read(path, spec=SPEC, max_rows=100):
    return list(NpyReader(path, spec, max_rows=max_rows))


@pytest.mark.parametrize("order", ["C", "F"])
@given(count=st.integers(1, 20), size=st.integers(1, 21))
def test_it_does_not_matter_where_chunks_begin(tmp_path_factory, order, count, size):
    given_rows = rows(count)
    path = saved(tmp_path_factory.mktemp("npy"), np.asarray(given_rows, order=order))

    chunks = read(path, max_rows=size)
    assert [chunk.start for chunk in chunks] == list(range(0, count, size))
    assert [chunk.count for chunk in chunks] == [len(chunk.rows) for chunk in chunks]
    np.testing.assert_array_equal(np.concatenate([c.rows for c in chunks]), given_rows)


@pytest.mark.parametrize(
    "array",
    [rows(5).astype(np.float64), rows(5).astype(">f4"), rows(5).reshape(5, 6)],
    ids=["wider", "other byte order", "flat"],
)
def test_what_converts_over_http_converts_here(tmp_path, array):
    chunks = read(saved(tmp_path, array))

    assert chunks[0].rows.dtype == FLOAT32
    np.testing.assert_array_equal(chunks[0].rows, rows(5))


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.zeros((3, 5), np.float32), "wrong shape"),
        (np.array(1.0, np.float32), "single number"),
        (np.array(["a"]), "does not hold numbers"),
        (np.array([None], object), "does not hold numbers"),
    ],
)
def test_an_array_that_holds_no_such_rows_is_refused(tmp_path, array, what):
    with pytest.raises(InvalidRowsError, match=what):
        read(saved(tmp_path, array))


def test_floats_for_integers_are_refused(tmp_path):
    with pytest.raises(InvalidRowsError, match="float32 does not convert to uint8"):
        read(saved(tmp_path, rows(2)), TensorSpec("uint8", (2, 3)))


def test_rows_that_the_model_does_not_take_are_left_out_and_named(tmp_path):
    array = rows(10)
    array[4, 0, 1], array[9, 1, 2] = np.nan, np.inf

    chunks = read(saved(tmp_path, array), max_rows=3)
    assert [fault.partition(": ")[0] for chunk in chunks for fault in chunk.told_faults()] == [
        "row 4",
        "row 9",
    ]
    np.testing.assert_array_equal(
        np.concatenate([chunk.rows for chunk in chunks]), np.delete(array, [4, 9], axis=0)
    )


@pytest.mark.parametrize("cut", [-1, 1], ids=["too short", "too long"])
def test_a_file_of_another_length_than_its_header_says_is_refused(tmp_path, cut):
    path = saved(tmp_path, rows(3))
    data = path.read_bytes()
    path.write_bytes(data[:cut] if cut < 0 else data + b"x")

    with pytest.raises(MalformedBodyError, match="does not fit the data"):
        NpyReader(path, SPEC)


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"PK\x03\x04 and so on"])
def test_what_is_no_npy_file_is_refused(tmp_path, data):
    path = tmp_path / "rows.npy"
    path.write_bytes(data)

    with pytest.raises(MalformedBodyError):
        NpyReader(path, SPEC)


def answer(start, values, faults=(), count=None):
    whole = Chunk(start, count or len(values), values, 0, dict.fromkeys(faults, "wrong"))
    return Answer(whole, values)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_any_pieces_make_the_array_that_numpy_reads(tmp_path_factory, sizes):
    path = tmp_path_factory.mktemp("npy") / "out.npy"
    given_rows = rows(sum(sizes))

    writer = NpyWriter(path, FLOAT32, (2, 3), fills=False)
    starts = np.cumsum([0, *sizes])
    for start, end in itertools.pairwise(starts):
        writer.write(answer(start, given_rows[start:end]))
    writer.finish()

    back = np.load(path)
    assert back.dtype == FLOAT32
    np.testing.assert_array_equal(back, given_rows)
    assert [each.name for each in path.parent.iterdir()] == ["out.npy"]


def test_a_row_that_was_left_out_is_nan(tmp_path):
    writer = NpyWriter(tmp_path / "out.npy", FLOAT32, (), fills=True)
    writer.write(answer(0, np.array([1, 2], np.float32), faults=[1], count=3))
    writer.finish()

    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), [1, np.nan, 2])


def test_integers_cannot_be_left_out(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot show which rows were skipped"):
        NpyWriter(tmp_path / "out.npy", np.dtype(np.int64), (2,), fills=True)

    assert list(tmp_path.iterdir()) == []


def test_rows_of_two_shapes_are_no_array(tmp_path):
    writer = NpyWriter(tmp_path / "out.npy", FLOAT32, None, fills=False)
    writer.write(answer(0, np.zeros((2, 3, 4), np.float32)))

    with pytest.raises(InvalidRowsError, match="one shape"):
        writer.write(answer(2, np.zeros((2, 4, 3), np.float32)))
    writer.abandon()


def test_nothing_has_the_name_before_everything_is_written(tmp_path):
    path = tmp_path / "out.npy"
    path.write_bytes(b"the last one")
    writer = NpyWriter(path, FLOAT32, (), fills=False)
    writer.write(answer(0, np.ones(3, np.float32)))

    assert path.read_bytes() == b"the last one"
    writer.abandon()
    assert [each.name for each in tmp_path.iterdir()] == ["out.npy"]
    assert path.read_bytes() == b"the last one"
