"""Comma-separated values: what is read, what is refused, and that both directions fit."""

import io

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from service.bodies import json
from service.errors import ConfigurationError, InvalidRowsError, MalformedBodyError
from service.offline.chunks import Answer, Chunk
from service.offline.columns import ColumnChoice
from service.offline.csv import CsvReader, CsvWriter
from service.offline.tables import Layout, Values
from service.specs import TensorSpec

PLAIN = TensorSpec("float32", (3,))
NAMED = TensorSpec("float32", (3,), features=("a", "b", "c"))
SHARES = TensorSpec("float32", (2,), (0, 1))
INTEGERS = TensorSpec("int64", (2,))
BYTES = TensorSpec("uint8", (2,))

EVERY_COLUMN = ColumnChoice()


def chunks(text, spec=PLAIN, choice=EVERY_COLUMN, max_rows=100):
    data = text.encode() if isinstance(text, str) else text
    return list(CsvReader(io.BytesIO(data), spec, choice, max_rows=max_rows))


def read(text, spec=PLAIN, **more):
    return np.concatenate([chunk.rows for chunk in chunks(text, spec, **more)])


def faults(text, spec=PLAIN, **more):
    return [fault for chunk in chunks(text, spec, **more) for fault in chunk.told_faults()]


class TestNumbers:
    def test_rows_without_a_header_are_read_by_position(self):
        np.testing.assert_array_equal(read("1,2,3\n4,5,6\n"), [[1, 2, 3], [4, 5, 6]])

    @pytest.mark.parametrize("text", ["1,2,3\r\n4,5,6\r\n", "1,2,3\r4,5,6", "1,2,3\n4,5,6"])
    def test_any_end_of_line_will_do_and_none_at_the_end(self, text):
        np.testing.assert_array_equal(read(text), [[1, 2, 3], [4, 5, 6]])

    def test_a_byte_order_mark_is_passed_over(self):
        np.testing.assert_array_equal(read(b"\xef\xbb\xbf1,2,3\n"), [[1, 2, 3]])

    def test_empty_lines_are_no_rows_but_count_as_lines(self):
        text = "1,2,3\n\n\r\n4,x,6\n"

        assert faults(text) == ["line 4: column 2 is no number"]
        np.testing.assert_array_equal(read(text), [[1, 2, 3]])

    def test_cells_may_be_quoted_and_padded(self):
        np.testing.assert_array_equal(read('"1"," 2 ",+3e0\n'), [[1, 2, 3]])

    def test_a_row_behind_a_quoted_line_break_keeps_its_line(self):
        spec = TensorSpec("float32", (1,), features=("a",))

        assert faults('a\n"\n1"\nx\n', spec) == ["line 4: column 'a' is no number"]

    def test_numbers_become_what_they_become_over_http(self):
        cells = ["0.1", "1e-50", "16777217", "3.4028235e38", "0.30000001192092896", "-0.0"]
        spec = TensorSpec("float32", (6,))

        over_http, _ = json.parse(f'{{"inputs": [[{",".join(cells)}]]}}'.encode(), spec, max_rows=1)
        assert read(",".join(cells), spec).tobytes() == over_http.tobytes()

    def test_integers_do_not_pass_through_floats(self):
        text = f"{2**53 + 1},{-(2**63)}\n"

        assert read(text, INTEGERS).tolist() == [[2**53 + 1, -(2**63)]]

    @pytest.mark.parametrize(
        ("cell", "fault"),
        [
            ("", "column 2 is empty"),
            ("x", "column 2 is no number"),
            ("1_0", "column 2 is no number"),
            ("٣", "column 2 is no number"),
            ("1,5", "4 columns instead of 3"),
            ("nan", "a value is not finite (expected finite numbers, received nan)"),
            ("-Infinity", "a value is not finite (expected finite numbers, received -inf)"),
            ("1e39", "a value does not fit into float32 (expected float32 without overflow)"),
        ],
    )
    def test_a_cell_that_is_no_number_names_its_line_and_column(self, cell, fault):
        assert faults(f"1,2,3\n1,{cell},3\n1,2,3\n") == [f"line 2: {fault}"]

    @pytest.mark.parametrize(
        ("cell", "spec", "fault"),
        [
            ("1.5", INTEGERS, "column 2 is no integer"),
            (str(2**63), INTEGERS, "column 2 does not fit into int64"),
            ("256", BYTES, "a value does not fit into uint8 (expected uint8 without overflow)"),
            (
                "1.5",
                SHARES,
                "a value is out of the model's declared range"
                " (expected 0 to 1, received a larger value)",
            ),
        ],
    )
    def test_a_value_that_the_model_does_not_take_names_its_line(self, cell, spec, fault):
        assert faults(f"0,1\n1,{cell}\n", spec) == [f"line 2: {fault}"]

    def test_every_faulty_row_is_found_and_all_others_are_kept(self):
        lines = [f"0,{number},1" if number % 3 else f"0,{number},inf" for number in range(100)]
        text = "\n".join(lines)

        assert read(text)[:, 1].tolist() == [number for number in range(100) if number % 3]
        assert len(faults(text)) == 34

    def test_a_line_that_is_no_csv_costs_no_other(self):
        text = '1,2,3\n1,"2"x,3\n4,5,6\n'

        assert faults(text) == ["line 2: not a line of csv: ',' expected after '\"'"]
        np.testing.assert_array_equal(read(text), [[1, 2, 3], [4, 5, 6]])

    def test_a_quote_that_never_ends_does_not_take_the_rest_of_the_file_into_memory(self):
        text = '1,2,3\n1,"' + "2,3\n" * 100_000

        assert faults(text)[0].startswith("line 2: not a line of csv: field larger than")

    def test_a_file_that_is_not_utf_8_is_refused(self):
        with pytest.raises(MalformedBodyError, match="not UTF-8"):
            chunks(b"1,2,3\n1,\xff,3\n")


class TestHeaders:
    def test_columns_are_found_by_their_names_in_any_order(self):
        np.testing.assert_array_equal(read("c,a,b\n3,1,2\n", NAMED), [[1, 2, 3]])

    def test_a_header_counts_as_a_line(self):
        assert faults("c,a,b\n3,1,x\n", NAMED) == ["line 2: column 'b' is no number"]

    def test_names_that_are_numbers_are_a_header_if_the_model_has_them(self):
        spec = TensorSpec("float32", (2,), features=("0", "1"))

        np.testing.assert_array_equal(read("1,0\n5,6\n", spec), [[6, 5]])

    def test_a_missing_column_is_named(self):
        with pytest.raises(InvalidRowsError, match="lacks columns 'b', 'c'"):
            chunks("a,x,y\n1,2,3\n", NAMED)

    def test_a_column_that_is_there_twice_is_refused(self):
        with pytest.raises(InvalidRowsError, match="more than one column 'a'"):
            chunks("a,b,c,a\n1,2,3,4\n", NAMED)

    def test_an_extra_column_is_refused_unless_it_may_be_there(self):
        text = "a,extra,b,c\n1,x,2,3\n"

        with pytest.raises(InvalidRowsError, match="column 'extra'"):
            chunks(text, NAMED)
        choice = ColumnChoice(ignores_others=True)
        np.testing.assert_array_equal(read(text, NAMED, choice=choice), [[1, 2, 3]])

    def test_chosen_columns_make_a_row_whatever_the_model_calls_them(self):
        choice = ColumnChoice(("z", "x", "y"))

        for spec in (PLAIN, NAMED):
            np.testing.assert_array_equal(
                read("x,other,y,z\n2,no,3,1\n", spec, choice=choice), [[1, 2, 3]]
            )

    def test_a_header_without_names_in_the_model_must_have_as_many_columns(self):
        np.testing.assert_array_equal(read("u,v,w\n1,2,3\n"), [[1, 2, 3]])
        with pytest.raises(InvalidRowsError, match="4 columns, a row of the model has 3 values"):
            chunks("u,v,w,x\n1,2,3,4\n")

    def test_a_first_line_with_one_broken_number_is_not_taken_for_a_header(self):
        assert faults("1,oops,3\n4,5,6\n") == ["line 1: column 2 is no number"]

    def test_columns_cannot_be_chosen_without_a_header(self):
        with pytest.raises(InvalidRowsError, match="needs a header"):
            chunks("1,2,3\n", choice=ColumnChoice(("a", "b", "c")))

    def test_the_choice_must_make_a_row(self):
        with pytest.raises(ConfigurationError, match="names 2 columns, a row of the model has 3"):
            CsvReader(io.BytesIO(), PLAIN, ColumnChoice(("a", "b")))

    def test_rows_of_any_size_do_not_lie_in_a_table(self):
        with pytest.raises(ConfigurationError, match="do not fit into the columns"):
            CsvReader(io.BytesIO(), TensorSpec("float32", (None,)), EVERY_COLUMN)


@pytest.mark.parametrize("text", ["", "\n\n", "a,b,c\n"])
def test_a_file_without_rows_gives_no_chunk(text):
    assert chunks(text, NAMED) == []


@given(st.integers(1, 30), st.integers(1, 31), st.sets(st.integers(0, 29)))
def test_it_does_not_matter_where_chunks_begin(rows, size, broken):
    lines = [f"{number},x,0" if number in broken else f"{number},1,0" for number in range(rows)]
    text = "\n".join(lines)

    cut, whole = chunks(text, max_rows=size), chunks(text)
    assert [chunk.start for chunk in cut] == list(range(0, rows, size))
    assert sum(chunk.count for chunk in cut) == rows
    assert [f for c in cut for f in c.told_faults()] == [f for c in whole for f in c.told_faults()]
    np.testing.assert_array_equal(
        np.concatenate([chunk.rows for chunk in cut]), np.concatenate([c.rows for c in whole])
    )
    kept = np.concatenate([chunk.start + chunk.kept for chunk in cut])
    assert kept.tolist() == [number for number in range(rows) if number not in broken]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
@given(data=st.data())
def test_what_is_written_reads_back_to_the_bit(dtype, data):
    finite = {"allow_nan": False, "allow_infinity": False}
    shape = st.tuples(st.integers(1, 9), st.just(3))
    rows = data.draw(
        arrays(np.dtype(dtype), shape, elements=finite if dtype.startswith("float") else None)
    )
    names = ["a", "b", 'c "quoted", with more']
    stream = io.BytesIO()
    writer = CsvWriter(stream, Layout(Values(names, rows.dtype), False, False))
    for start in range(0, len(rows), 2):
        part = rows[start : start + 2]
        writer.write(Answer(Chunk(start, len(part), part, 0, {}), part))
    writer.finish()

    spec = TensorSpec(dtype, (3,), features=tuple(names))
    back = read(stream.getvalue(), spec)
    assert back.dtype == rows.dtype
    np.testing.assert_array_equal(back, rows)


def test_rows_that_were_left_out_are_lines_without_values():
    stream = io.BytesIO()
    values = np.array([[1.5, 2]], np.float32)
    chunk = Chunk(7, 3, values, 0, {0: "x", 2: "y"}, names=["a,b.png", "c.png", "d.png"])

    writer = CsvWriter(stream, Layout(Values(["u", "v"], values.dtype), True, True))
    writer.write(Answer(chunk, values))

    assert stream.getvalue() == (b'row,picture,u,v\n7,"a,b.png",,\n8,c.png,1.5,2.0\n9,d.png,,\n')


def test_a_left_out_row_of_one_column_is_not_an_empty_line():
    stream = io.BytesIO()
    values = np.array([[1.5]], np.float32)

    writer = CsvWriter(stream, Layout(Values(["u"], values.dtype), False, False))
    writer.write(Answer(Chunk(0, 2, values, 0, {0: "x"}), values))

    assert stream.getvalue() == b'u\n""\n1.5\n'
