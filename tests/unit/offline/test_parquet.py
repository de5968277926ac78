"""Parquet by batches of rows."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from service.errors import ConfigurationError, InvalidRowsError, MalformedBodyError
from service.offline.chunks import Answer, Chunk
from service.offline.columns import ColumnChoice
from service.offline.parquet import ParquetReader, ParquetWriter
from service.offline.tables import Layout, Values
from service.specs import TensorSpec

NAMED = TensorSpec("float32", (2,), features=("a", "b"))
INTEGERS = TensorSpec("int64", (2,), features=("a", "b"))


def saved(folder, columns, **more):
    path = folder / "rows.parquet"
    pq.write_table(pa.table(columns), path, **more)
    return path


def read(path, spec=NAMED, choice=None, max_rows=100):
    return list(ParquetReader(path, spec, choice or ColumnChoice(), max_rows=max_rows))


@given(st.integers(1, 20), st.integers(1, 21), st.integers(1, 7))
def test_it_does_not_matter_where_chunks_and_row_groups_begin(tmp_path_factory, count, size, group):
    rows = np.random.default_rng(0).random((count, 2), np.float32)
    columns = {"b": rows[:, 1], "a": rows[:, 0]}
    path = saved(tmp_path_factory.mktemp("parquet"), columns, row_group_size=group)

    chunks = read(path, max_rows=size)
    assert all(chunk.count <= size for chunk in chunks)
    assert [c.start for c in chunks] == np.cumsum([0, *(c.count for c in chunks)])[:-1].tolist()
    np.testing.assert_array_equal(np.concatenate([chunk.rows for chunk in chunks]), rows)


def test_columns_of_several_types_make_a_row(tmp_path):
    path = saved(tmp_path, {"a": pa.array([1, 2], pa.int8()), "b": pa.array([0.5, 1e-50])})

    assert read(path)[0].rows.tolist() == [[1, 0.5], [2, 0]]


def test_integers_keep_every_bit(tmp_path):
    path = saved(tmp_path, {"a": [2**53 + 1], "b": pa.array([3], pa.int32())})

    assert read(path, INTEGERS)[0].rows.tolist() == [[2**53 + 1, 3]]


def test_floats_for_integers_are_refused(tmp_path):
    with pytest.raises(InvalidRowsError, match="float64 does not convert to int64"):
        read(saved(tmp_path, {"a": [1.0], "b": [2.0]}), INTEGERS)


def test_a_missing_value_or_one_that_is_not_finite_costs_its_row_alone(tmp_path):
    path = saved(tmp_path, {"a": [1.0, None, 3.0, 4.0], "b": [1.0, 2.0, float("nan"), 4.0]})

    (chunk,) = read(path)
    assert chunk.told_faults() == [
        "row 1: column 'a' is empty",
        "row 2: a value is not finite (expected finite numbers, received nan)",
    ]
    assert chunk.rows.tolist() == [[1, 1], [4, 4]]


@pytest.mark.parametrize(
    ("column", "kind"),
    [(["x"], "string"), ([True], "bool"), ([[1.0]], "list<element: double>")],
)
def test_a_column_that_holds_no_numbers_is_named(tmp_path, column, kind):
    with pytest.raises(InvalidRowsError, match="column 'b' does not hold numbers") as caught:
        read(saved(tmp_path, {"a": [1.0], "b": column}))
    assert caught.value.received == kind


def test_further_columns_are_refused_or_passed_over(tmp_path):
    path = saved(tmp_path, {"a": [1.0], "b": [2.0], "note": ["x"]})

    with pytest.raises(InvalidRowsError, match="column 'note'"):
        read(path)
    choice = ColumnChoice(ignores_others=True)
    assert read(path, choice=choice)[0].rows.tolist() == [[1, 2]]


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_broken_file_is_refused(tmp_path, cut):
    path = saved(tmp_path, {"a": [1.0], "b": [2.0]})
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(MalformedBodyError):
        read(path)


def test_a_file_that_is_broken_inside_is_refused(tmp_path):
    path = saved(tmp_path, {"a": np.random.default_rng(0).random(1000), "b": np.zeros(1000)})
    data = bytearray(path.read_bytes())
    data[4:64] = b"\xff" * 60
    path.write_bytes(data)

    with pytest.raises(MalformedBodyError, match="broken behind row 0"):
        read(path)


def test_without_pyarrow_it_is_said_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'hourglass-serve\[parquet\]'"):
        ParquetReader(tmp_path / "rows.parquet", NAMED, ColumnChoice())


def test_what_is_written_reads_back_with_nulls_where_rows_were_left_out(tmp_path):
    path = tmp_path / "out.parquet"
    values = np.array([[1.5, 2], [3, 4]], np.float32)
    chunk = Chunk(5, 3, values, 0, {1: "wrong"}, names=["x.png", "y.png", "z.png"])
    layout = Layout(Values(["c0", "c1"], values.dtype), has_numbers=True, has_names=True)

    writer = ParquetWriter(path, layout, {"model": "tiny"})
    writer.write(Answer(chunk, values))
    assert not path.exists()
    writer.finish()

    table = pq.read_table(path)
    assert table.to_pydict() == {
        "row": [5, 6, 7],
        "picture": ["x.png", "y.png", "z.png"],
        "c0": [1.5, None, 3],
        "c1": [2, None, 4],
    }
    assert table.schema.field("c0").type == pa.float32()
    assert table.schema.metadata == {b"model": b"tiny"}
    assert [each.name for each in tmp_path.iterdir()] == ["out.parquet"]


def test_an_abandoned_file_is_gone(tmp_path):
    values = np.zeros((1, 1), np.float32)
    layout = Layout(Values(["c0"], values.dtype), has_numbers=False, has_names=False)
    writer = ParquetWriter(tmp_path / "out.parquet", layout, {})
    writer.write(Answer(Chunk(0, 1, values, 0, {}), values))

    writer.abandon()

    assert list(tmp_path.iterdir()) == []
