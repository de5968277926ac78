"""JSON bodies: numbers only, whole numbers as they are, every fault with its row."""

import gc
import json as plain_json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from service.bodies import json
from service.errors import InvalidRowsError, MalformedBodyError, TooLargeError
from service.specs import TensorSpec

PAIRS = TensorSpec("float32", (2,))
WHOLE_PAIRS = TensorSpec("int64", (2,))
SMALL_PAIRS = TensorSpec("uint8", (2,))
ANY_LENGTH = TensorSpec("float32", (None,))


def parse(text, spec=PAIRS):
    return json.parse(text.encode(), spec)


def rows_of(text, spec=PAIRS):
    return parse(text, spec)[0]


def nested(depth, core="1"):
    return f'{{"inputs": {"[" * depth}{core}{"]" * depth}}}'


def test_rows_come_in_the_dtype_of_the_model():
    rows = rows_of('{"inputs": [[1, 2.5], [-3, 4e2]]}')

    assert rows.dtype == np.float32
    assert rows.tolist() == [[1.0, 2.5], [-3.0, 400.0]]


def test_what_stands_beside_the_inputs_are_options():
    rows, options = parse('{"metric": "mse", "inputs": [[1, 2]], "include": [null, true]}')

    assert rows.tolist() == [[1.0, 2.0]]
    assert options == {"metric": "mse", "include": [None, True]}


def test_without_options_there_are_none():
    assert parse('{"inputs": [[1, 2]]}')[1] == {}


def test_flat_rows_take_the_shape_of_the_model():
    spec = TensorSpec("float32", (1, 2, 2))

    assert rows_of('{"inputs": [[1, 2, 3, 4]]}', spec).tolist() == [[[[1, 2], [3, 4]]]]


def test_a_key_written_with_escapes_is_the_same_key():
    assert rows_of('{"\\u0069nputs": [[1, 2]]}').tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"inputs": [[1, 2]], "inputs": [[3, 4]]}', id="inputs"),
        pytest.param('{"inputs": [[1, 2]], "inputs": [[1, 2]]}', id="the same inputs"),
        pytest.param('{"inputs": [["1"]], "inputs": [[1, 2]]}', id="inputs, the first is wrong"),
        pytest.param('{"\\u0069nputs": [[1, 2]], "inputs": [[3, 4]]}', id="written with an escape"),
        pytest.param('{"a": 1, "inputs": [[1, 2]], "a": 1}', id="an option"),
        pytest.param('{"inputs": [[1, 2]], "a": "\\"", "a": "\\\\"}', id="an option and escapes"),
        pytest.param('{"inputs": [[1, 2]], "a": [{"b": "c", "b": "d"}]}', id="inside an option"),
    ],
)
def test_a_key_that_stands_twice_is_refused(text):
    with pytest.raises(InvalidRowsError, match="given twice") as caught:
        parse(text)

    assert caught.value.expected == "each key once"


@settings(max_examples=100)
@given(
    options=st.dictionaries(
        st.text(max_size=3).filter(lambda key: key != "inputs"),
        st.recursive(
            st.none() | st.text(max_size=3),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=5,
        ),
        max_size=3,
    ),
    escapes=st.booleans(),
)
def test_any_options_of_which_each_stands_once_are_read(options, escapes):
    body = plain_json.dumps({**options, "inputs": [[1, 2]]}, ensure_ascii=escapes)

    assert parse(body)[1] == options


@pytest.mark.parametrize(
    ("inputs", "rows"), [("[1, 2.5]", [1.0, 2.5]), ("[[1], [2.5]]", [1.0, 2.5]), ("[7]", [7.0])]
)
def test_a_row_without_axes_is_a_number(inputs, rows):
    found = rows_of(f'{{"inputs": {inputs}}}', TensorSpec("float32", ()))

    assert found.shape == (len(rows),)
    assert found.tolist() == rows


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param('{"inputs": [[1, 2]', id="cut off"),
        pytest.param('{"inputs": [[1, 2]]} {}', id="something after it"),
        pytest.param('{"inputs": [[NaN, 2]]}', id="NaN"),
        pytest.param('{"inputs": [[Infinity, 2]]}', id="Infinity"),
        pytest.param('{"inputs": [[-Infinity, 2]]}', id="-Infinity"),
        pytest.param('{"inputs": [[1e400, 2]]}', id="beyond double precision"),
        pytest.param('{"inputs": [[-1e400, 2]]}', id="below double precision"),
        pytest.param('{"inputs": [[1, 2],]}', id="trailing comma"),
        pytest.param('{"inputs": [[01, 2]]}', id="leading zero"),
        pytest.param('{"inputs": [[+1, 2]]}', id="plus sign"),
        pytest.param('{"inputs": [[.5, 2]]}', id="no digit before the point"),
        pytest.param("{'inputs': [[1, 2]]}", id="single quotes"),
        pytest.param('\ufeff{"inputs": [[1, 2]]}', id="byte order mark"),
        pytest.param('{"inputs": [["\\ud800", 2]]}', id="half a surrogate pair"),
        pytest.param("[" * 100_000, id="100,000 levels, open"),
        pytest.param(nested(100_000), id="100,000 levels, closed"),
        pytest.param('{"a":' * 100_000, id="100,000 objects"),
    ],
)
def test_what_is_no_json_is_malformed(text):
    with pytest.raises(MalformedBodyError, match="not JSON"):
        parse(text)


@pytest.mark.parametrize("body", [b'{"inputs": [["\xff", 2]]}', '{"inputs": []}'.encode("utf-16")])
def test_what_is_no_utf8_is_malformed(body):
    with pytest.raises(MalformedBodyError, match="not JSON"):
        json.parse(body, PAIRS)


def test_a_syntax_error_names_its_place():
    with pytest.raises(MalformedBodyError, match="at character 12") as caught:
        parse('{"inputs": [NaN]}')

    assert caught.value.expected == "JSON, which has no NaN and no Infinity"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[[1, 2]]", "a list"),
        ("5", "a number"),
        ("1.5", "a number"),
        ('"text"', "a string"),
        ("true", "a boolean"),
        ("null", "null"),
    ],
)
def test_a_body_that_is_no_object_is_refused(text, kind):
    with pytest.raises(InvalidRowsError, match="must be an object") as caught:
        parse(text)

    assert caught.value.expected == '{"inputs": [...]}'
    assert caught.value.received == kind


@pytest.mark.parametrize("text", ["{}", '{"instances": [[1, 2]]}', '{"Inputs": [[1, 2]]}'])
def test_a_body_without_inputs_is_refused(text):
    with pytest.raises(InvalidRowsError, match="no 'inputs'"):
        parse(text)


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [("5", "a number"), ('"1"', "a string"), ("null", "null"), ("{}", "an object")],
)
def test_inputs_that_are_no_list_are_refused(inputs, kind):
    with pytest.raises(InvalidRowsError, match="must be a list") as caught:
        parse(f'{{"inputs": {inputs}}}')

    assert caught.value.received == kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ('"1.5"', "a string"),
        ('""', "a string"),
        ('"true"', "a string"),
        ("true", "a boolean"),
        ("false", "a boolean"),
        ("null", "null"),
        ("{}", "an object"),
        ('{"a": 1}', "an object"),
    ],
)
@pytest.mark.parametrize(
    ("inputs", "row"),
    [
        pytest.param("[[{}, 2], [3, 4]]", 0, id="first"),
        pytest.param("[[1, 2], [3, 4], [5, {}]]", 2, id="last"),
        pytest.param("[[1, 2], {}]", 1, id="a whole row"),
        pytest.param("[[1, 2], [{}, [3]]]", 1, id="beside a list"),
    ],
)
def test_anything_but_numbers_is_named_with_its_row(inputs, row, value, kind):
    with pytest.raises(InvalidRowsError, match="something else than numbers") as caught:
        parse('{"inputs": ' + inputs.replace("{}", value) + "}")

    assert caught.value.row == row
    assert (caught.value.expected, caught.value.received) == ("numbers", kind)


@pytest.mark.parametrize(
    ("inputs", "row"),
    [
        pytest.param("[[1, 2], [3]]", 1, id="too short"),
        pytest.param("[[1, 2], [3, 4, 5]]", 1, id="too long"),
        pytest.param("[[1, 2], [3, 4], []]", 2, id="empty"),
        pytest.param("[[1, 2], 3]", 1, id="a number"),
        pytest.param("[1, [2, 3]]", 0, id="a number first"),
        pytest.param("[[1, 2], [[3, 4]]]", 1, id="deeper"),
    ],
)
@pytest.mark.parametrize("options", ["", ', "metric": "mse"'], ids=["plain", "with options"])
def test_a_row_of_another_shape_is_named(inputs, row, options):
    with pytest.raises(InvalidRowsError, match="wrong shape") as caught:
        parse(f'{{"inputs": {inputs}{options}}}')

    assert caught.value.row == row


def test_a_row_of_another_shape_is_told_the_right_one():
    with pytest.raises(InvalidRowsError) as caught:
        parse('{"inputs": [[1, 2], [3]]}')

    assert (caught.value.expected, caught.value.received) == ("[2]", "[1]")


@pytest.mark.parametrize(
    ("inputs", "row"),
    [
        pytest.param("[[1, [2]], [3, 4]]", 0, id="first"),
        pytest.param("[[1, 2], [3, [4]]]", 1, id="number and list"),
        pytest.param("[[1, 2], [[3], [4, 5]]]", 1, id="lists of different length"),
        pytest.param("[[1, 2], [[[3]], [4]]]", 1, id="lists of different depth"),
    ],
)
@pytest.mark.parametrize("options", ["", ', "metric": "mse"'], ids=["plain", "with options"])
def test_a_ragged_row_is_named(inputs, row, options):
    with pytest.raises(InvalidRowsError, match="ragged") as caught:
        parse(f'{{"inputs": {inputs}{options}}}')

    assert caught.value.row == row
    assert caught.value.expected == "lists of one length"


@pytest.mark.parametrize("depth", [65, 66, 100, 1000])
@pytest.mark.parametrize("core", ["1", "", "null"])
def test_rows_deeper_than_any_array_are_refused(depth, core):
    with pytest.raises(InvalidRowsError) as caught:
        parse(nested(depth, core))

    assert caught.value.row in {0, None}


def test_rows_as_deep_as_an_array_can_be_have_the_wrong_shape():
    with pytest.raises(InvalidRowsError, match="wrong shape"):
        parse(nested(64))


def test_more_rows_than_allowed_are_not_looked_at():
    with pytest.raises(TooLargeError) as caught:
        json.parse(b'{"inputs": [[1, 2], ["wrong"], [3, 4]]}', PAIRS, max_rows=2)

    assert (caught.value.expected, caught.value.received) == ("at most 2 rows", "3 rows")


def test_as_many_rows_as_allowed_are_read():
    rows, _ = json.parse(b'{"inputs": [[1, 2], [3, 4]]}', PAIRS, max_rows=2)

    assert len(rows) == 2


def test_an_empty_batch_is_refused():
    with pytest.raises(InvalidRowsError, match="batch is empty"):
        parse('{"inputs": []}')


@pytest.mark.parametrize("spec", [PAIRS, ANY_LENGTH, WHOLE_PAIRS], ids=str)
@pytest.mark.parametrize("inputs", ["[[]]", "[[], []]", "[[[]]]"])
def test_rows_of_nothing_have_the_wrong_shape(inputs, spec):
    with pytest.raises(InvalidRowsError, match="wrong shape"):
        parse(f'{{"inputs": {inputs}}}', spec)


def test_numbers_instead_of_rows_have_the_wrong_shape():
    with pytest.raises(InvalidRowsError, match="wrong shape") as caught:
        parse('{"inputs": [1, 2]}')

    assert (caught.value.expected, caught.value.received) == ("[2]", "[]")


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
def test_whole_numbers_never_pass_through_floats(value):
    rows = rows_of(f'{{"inputs": [[{value}, 0]]}}', WHOLE_PAIRS)

    assert rows.tolist() == [[value, 0]]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param("0, 1.5", id="a fraction"),
        pytest.param("0, 1.0", id="a float of a whole number"),
        pytest.param("0, 1e3", id="an exponent"),
        pytest.param(f"0, {2**64}", id="beyond 64 bits"),
        pytest.param(f"0, {10**30}", id="far beyond 64 bits"),
        pytest.param(f"{2**63}, -1", id="beyond 63 bits, and negative"),
        pytest.param(f"{2**63}, 1", id="beyond 63 bits"),
    ],
)
def test_a_model_of_integers_takes_no_floats_and_names_the_row(row):
    with pytest.raises(InvalidRowsError, match="not a whole number") as caught:
        parse(f'{{"inputs": [[-1, 2], [{row}], [0.5, 1]]}}', WHOLE_PAIRS)

    assert caught.value.row == 1


def test_an_integer_of_unsigned_64_bits_does_not_fit_into_int64():
    with pytest.raises(InvalidRowsError, match="fits into int64") as caught:
        parse(f'{{"inputs": [[1, 2], [3, {2**64 - 1}]]}}', WHOLE_PAIRS)

    assert caught.value.row == 1


@pytest.mark.parametrize("value", [0, 255])
def test_the_ends_of_a_byte_fit(value):
    assert rows_of(f'{{"inputs": [[{value}, 1]]}}', SMALL_PAIRS).tolist() == [[value, 1]]


@pytest.mark.parametrize("value", [-1, 256, 300, 2**63])
def test_a_number_beyond_a_byte_is_named_with_its_row(value):
    with pytest.raises(InvalidRowsError, match=r"fits? into uint8") as caught:
        parse(f'{{"inputs": [[1, 2], [3, {value}]]}}', SMALL_PAIRS)

    assert caught.value.row == 1


@pytest.mark.parametrize("value", ["1e39", "-1e39", "3.5e38"])
def test_a_number_beyond_float32_is_named_with_its_row(value):
    with pytest.raises(InvalidRowsError, match="does not fit into float32") as caught:
        parse(f'{{"inputs": [[1, 2], [{value}, 0]]}}')

    assert caught.value.row == 1


def test_the_largest_float32_fits():
    assert rows_of('{"inputs": [[3.4028235e38, -3.4028235e38]]}').max() == np.finfo("f4").max


def test_integers_beyond_64_bits_are_rounded_for_a_model_of_floats():
    assert rows_of(f'{{"inputs": [[{2**64}, {-(10**25)}]]}}').tolist() == [
        [2.0**64, float(np.float32(-1e25))]
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs": [["SECRET"]]}',
        '{"inputs": "SECRET"}',
        '{"SECRET": 1}',
        '"SECRET"',
        '{"inputs": SECRET}',
        '{"inputs": [["SECRET]]}',
        '{"inputs": [[1, 2], {"SECRET": 1}]}',
        '{"inputs": [[1, 2], ["SECRET", [3]]]}',
    ],
)
def test_no_message_repeats_what_was_sent(text):
    with pytest.raises((InvalidRowsError, MalformedBodyError)) as caught:
        parse(text)

    error = caught.value
    assert "SECRET" not in f"{error.detail} {error.expected} {error.received}"


@pytest.mark.parametrize("value", ["73737373", "7.3737373e38", "-73737373"])
def test_no_message_repeats_a_number(value):
    spec = TensorSpec("float32", (2,), range=(0, 1))

    with pytest.raises(InvalidRowsError) as caught:
        parse(f'{{"inputs": [[0, {value}]]}}', spec)

    assert "373" not in f"{caught.value.detail} {caught.value.expected} {caught.value.received}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@settings(max_examples=60)
@given(inputs=st.lists(json_values, max_size=4))
def test_any_json_is_rows_of_numbers_or_refused(inputs):
    body = plain_json.dumps({"inputs": inputs}).replace("Infinity", "1e400").encode()

    try:
        rows, _ = json.parse(body, PAIRS)
    except (InvalidRowsError, MalformedBodyError):
        return

    assert rows.tolist() == [[float(np.float32(value)) for value in row] for row in inputs]
    assert not any(isinstance(value, bool) for row in inputs for value in row)


@settings(max_examples=50)
@given(rows=arrays(np.float32, (3, 2), elements=st.floats(width=32, allow_infinity=False)))
def test_floats_read_back_as_the_same_float32(rows):
    rows = np.nan_to_num(rows)

    back = rows_of(json.render({"inputs": rows}).decode())

    assert back.tobytes() == rows.tobytes()


@given(number=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_single_number_reads_back_as_the_same_float32(number):
    text = json.render(np.float32(number))

    assert np.float32(plain_json.loads(text)) == np.float32(number)


@pytest.mark.parametrize(
    ("number", "text"),
    [(np.float32(0.1), b"0.1"), (0.1, b"0.1"), (np.float32(1 / 3), b"0.33333334")],
)
def test_a_number_is_written_as_short_as_it_can_be(number, text):
    assert json.render(number) == text


def test_an_object_may_hold_arrays_text_and_nothing():
    fields = {
        "model": "ecg",
        "codes": np.array([[0.1, -1.5]], np.float32),
        "anomalies": np.array([True, False]),
        "threshold": None,
        "labels": np.array([255, 0], np.uint8),
    }

    assert json.render(fields) == (
        b'{"model":"ecg","codes":[[0.1,-1.5]],"anomalies":[true,false],"threshold":null,'
        b'"labels":[255,0]}'
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int32"])
def test_every_dtype_of_a_model_can_be_written(dtype):
    rows = np.array([[0, 1], [2, 3]], dtype)

    assert plain_json.loads(json.render({"codes": rows}))["codes"] == [[0, 1], [2, 3]]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize(
    "shape", [(1, 70_000), (3, 40_000), (70_000, 1), (2, 3, 30_000), (1, 1, 270, 270)], ids=str
)
def test_many_numbers_are_read_as_few_are(shape, dtype):
    free = TensorSpec(dtype, (None,) * (len(shape) - 1))
    rows = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)

    parsed = rows_of(plain_json.dumps({"inputs": rows.tolist()}), free)

    np.testing.assert_array_equal(parsed, rows, strict=True)


@pytest.mark.parametrize(
    ("inputs", "row"),
    [
        pytest.param([[1] * 9] * 9_000 + [[1] * 8], 9_000, id="a short row at the end"),
        pytest.param([[1] * 9] * 9_000 + [1], 9_000, id="a number at the end"),
        pytest.param([[1]] + [[1, 2]] * 70_000, 1, id="a short row first"),
        pytest.param([[[1]] * 70_000 + [[1, 2]]], 0, id="within a row"),
    ],
)
@pytest.mark.parametrize("spec", [ANY_LENGTH, TensorSpec("int64", (None,))], ids=["float", "int"])
def test_a_fault_among_many_numbers_is_named_with_its_row(inputs, row, spec):
    with pytest.raises(InvalidRowsError) as caught:
        rows_of(plain_json.dumps({"inputs": inputs}), spec)

    assert caught.value.row == row


def test_a_large_body_leaves_the_garbage_collector_as_it_was():
    body = plain_json.dumps({"inputs": [[1, 2]] * 100_000})
    broken = body[:-1]

    rows_of(body)
    with pytest.raises(MalformedBodyError):
        rows_of(broken)
    assert gc.isenabled()

    gc.disable()
    try:
        rows_of(body)
        assert not gc.isenabled()
    finally:
        gc.enable()


def every_float16() -> np.ndarray:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    return every[np.isfinite(every)]


def test_every_float16_reads_back_as_the_same():
    numbers = every_float16()

    back = plain_json.loads(json.render({"codes": numbers}))["codes"]

    assert np.array(back, np.float16).tobytes() == numbers.tobytes()
    spec = TensorSpec("float16", (len(numbers),))
    rows = rows_of(plain_json.dumps({"inputs": [back]}), spec)
    assert rows.tobytes() == numbers.tobytes()


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_float64_is_the_shortest_text_that_reads_back_as_the_same(number):
    text = json.render({"codes": np.array([number])})

    assert plain_json.loads(text)["codes"] == [number]
    assert len(text) <= len(f'{{"codes":[{number!r}]}}')


@given(number=st.integers(-(2**63), 2**63 - 1))
def test_an_int64_is_written_in_full(number):
    assert json.render({"codes": np.array([number])}) == b'{"codes":[%d]}' % number


@pytest.mark.parametrize(
    "shape",
    [(3,), (2**16 + 1,), (2**17 + 5, 2), (3, 2**17), (2, 3, 2**15), (1, 1, 300, 300), (70_000, 1)],
    ids=str,
)
def test_an_array_in_pieces_is_the_same_text(shape):
    rows = np.random.default_rng(0).random(shape, np.float32)
    fields = {"model": "ecg", "codes": rows, "threshold": np.float32(0.1), "rate": None}

    assert json.render_in_pieces(fields) == json.render(fields)


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
rows_of_numbers = st.lists(st.lists(numbers, max_size=3), max_size=3)
# what an array would turn into numbers without a word, or what stands for an option
others: st.SearchStrategy[object] = st.one_of(
    st.sampled_from(["", "1.5", "inputs", "\n", True, False, None, {}, {"a": 1}, [{"inputs": []}]]),
    st.text(max_size=3),
)


@settings(max_examples=200)
@given(
    inputs=rows_of_numbers,
    other=others,
    place=st.integers(0, 5),
    is_beside=st.booleans(),
    indent=st.sampled_from([None, 0, 1, "\t"]),
    escapes=st.booleans(),
)
def test_a_body_that_holds_anything_but_numbers_is_never_taken_for_plain(
    *, inputs, other, place, is_beside, indent, escapes
):
    document: dict[str, object] = {"inputs": inputs}
    if is_beside:
        document["option"] = other
    else:
        inputs[place % (len(inputs) + 1) :] = [[1, other]]

    body = plain_json.dumps(document, indent=indent, ensure_ascii=escapes).encode()

    assert not json._is_plain(body)


@settings(max_examples=100)
@given(inputs=rows_of_numbers, value=st.sampled_from(["true", "false", "null", '""', "{}"]))
def test_of_two_inputs_both_are_looked_at(inputs, value):
    plain = plain_json.dumps(inputs)

    assert not json._is_plain(f'{{"inputs": {plain}, "inputs": [[{value}]]}}'.encode())
    assert not json._is_plain(f'{{"inputs": [[{value}]], "inputs": {plain}}}'.encode())


@given(inputs=rows_of_numbers, indent=st.sampled_from([None, 1]))
def test_a_body_of_numbers_alone_is_plain(inputs, indent):
    """Or the quick way would be none."""
    body = plain_json.dumps({"inputs": inputs}, indent=indent).encode()

    assert json._is_plain(body)


@settings(max_examples=300)
@given(st.text('019.-eE[],{}:"\\ truefalsn', max_size=12))
def test_no_text_that_is_taken_for_plain_holds_anything_but_numbers(noise):
    for text in (f'{{"inputs": [[{noise}]]}}', f'{{"inputs": [{noise}]}}', f"{{{noise}}}", noise):
        try:
            document = plain_json.loads(text)
        except ValueError:
            continue
        if json._is_plain(text.encode()) and isinstance(document, dict):
            assert len(document) <= 1
            only_numbers([*document.values()])


def only_numbers(value):
    assert not isinstance(value, (bool, str, dict, type(None)))
    for inner in value if isinstance(value, list) else ():
        only_numbers(inner)


def test_a_row_of_far_too_many_numbers_is_refused_unread():
    spec = TensorSpec(dtype="float32", shape=(4,))
    body = b'{"inputs": [[' + b"0," * 100_000 + b"0]]}"

    with pytest.raises(InvalidRowsError, match="far too many") as caught:
        json.parse(body, spec)

    assert (caught.value.row, caught.value.expected) == (0, "[4]")
