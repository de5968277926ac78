"""Requests and answers of the Open Inference Protocol: tensors as JSON, as bytes, or both."""

import json
from contextlib import suppress

import numpy as np
import orjson
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from service.bodies import open_inference
from service.bodies.open_inference import Inquiry, Output, Source, Wanted
from service.errors import (
    InvalidRowsError,
    MalformedBodyError,
    RequestError,
    TooLargeError,
    UnsupportedOperationError,
)
from service.specs import TensorSpec

OFFERED = ("code", "reconstruction", "score")
PAIRS = Source("input", TensorSpec("float32", (2,)), OFFERED)
SQUARES = Source("input", TensorSpec("float32", (1, 2, 2)), OFFERED)
FREE = Source("input", TensorSpec("float32", (1, None, None)), OFFERED)
COUNTS = Source("input", TensorSpec("int64", (2,)), OFFERED)
BYTES = Source("input", TensorSpec("uint8", (2,)), OFFERED)
HALVES = Source("input", TensorSpec("float16", (2,)), OFFERED)
UNIT = Source("input", TensorSpec("float32", (2,), (0, 1)), OFFERED)

ROWS = np.array([[1, 2], [3, 4]], np.float32)


def tensor(source=PAIRS, **changes):
    found = {
        "name": source.name,
        "shape": [2, 2],
        "datatype": open_inference.datatype(source.spec),
        "data": [1, 2, 3, 4],
    }
    found |= changes
    return {name: value for name, value in found.items() if value is not ...}


def request(*tensors, **fields):
    return {"inputs": list(tensors), **fields}


def read(document, source=PAIRS, *, tail=None, max_rows=100):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    json_bytes = None if tail is None else len(body)
    return open_inference.parse(body + (tail or b""), json_bytes, source, max_rows=max_rows)


def rows_of(source=PAIRS, *, tail=None, max_rows=100, **changes):
    return read(request(tensor(source, **changes)), source, tail=tail, max_rows=max_rows).rows


def refusal(document, source=PAIRS, *, tail=None, max_rows=100) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(document, source, tail=tail, max_rows=max_rows)
    return caught.value


class TestJson:
    @pytest.mark.parametrize(
        "data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [1.0, 2, 3e0, 4]], ids=["flat", "nested", "mixed"]
    )
    def test_values_come_flat_or_nested(self, data):
        rows = rows_of(data=data)

        assert rows.dtype == np.float32
        assert np.array_equal(rows, ROWS)

    @pytest.mark.parametrize(
        ("shape", "data"),
        [
            pytest.param([2, 1, 2, 2], list(range(8)), id="flat"),
            pytest.param([2, 1, 2, 2], [list(range(4)), list(range(4, 8))], id="flat rows"),
            pytest.param([2, 1, 2, 2], np.arange(8).reshape(2, 1, 2, 2).tolist(), id="nested"),
            pytest.param([2, 4], list(range(8)), id="flat in a flat shape"),
            pytest.param([2, 4], [list(range(4)), list(range(4, 8))], id="nested in a flat shape"),
        ],
    )
    def test_rows_take_the_shape_of_the_model(self, shape, data):
        rows = rows_of(SQUARES, shape=shape, data=data)

        assert np.array_equal(rows, np.arange(8).reshape(2, 1, 2, 2))

    def test_the_shape_says_how_long_free_axes_are(self):
        rows = rows_of(FREE, shape=[2, 1, 2, 3], data=list(range(12)))

        assert rows.shape == (2, 1, 2, 3)

    def test_integers_never_pass_through_floats(self):
        large = 2**53 + 1

        assert rows_of(COUNTS, shape=[1, 2], data=[large, -large]).tolist() == [[large, -large]]

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param([1, 2, 3], id="too few"),
            pytest.param([1, 2, 3, 4, 5], id="too many"),
            pytest.param([], id="none"),
            pytest.param([[1, 2, 3, 4]], id="of one row"),
            pytest.param([[1], [2], [3], [4]], id="of four rows"),
            pytest.param([[[1, 2], [3, 4]]], id="nested too deep"),
            pytest.param([[[[[[[1]]]]]]], id="nested far too deep"),
            pytest.param(7, id="a number"),
            pytest.param("1234", id="a text"),
            pytest.param({"0": 1}, id="an object"),
            pytest.param(None, id="null"),
        ],
    )
    def test_data_of_another_shape_is_refused(self, data):
        assert isinstance(refusal(request(tensor(data=data))), InvalidRowsError)

    @pytest.mark.parametrize(
        ("data", "row"),
        [
            ([[1, 2], [3]], 1),
            ([[1], [2, 3]], 1),
            ([[1, 2], 3], 1),
            ([[], [1, 2]], 1),
        ],
    )
    def test_a_ragged_row_is_named(self, data, row):
        error = refusal(request(tensor(data=data)))

        assert "ragged" in error.detail
        assert error.row == row

    @pytest.mark.parametrize("value", ["1.5", True, False, None, {}, [1]])
    @pytest.mark.parametrize("is_nested", [False, True])
    def test_a_row_with_anything_but_numbers_is_named(self, value, is_nested):
        data = [[1, 2], [3, value]] if is_nested else [1, 2, 3, value]

        error = refusal(request(tensor(data=data)))

        assert isinstance(error, InvalidRowsError)
        assert error.row == 1

    @pytest.mark.parametrize(
        ("source", "value"),
        [
            pytest.param(PAIRS, 1e39, id="float32"),
            pytest.param(HALVES, 70_000, id="float16"),
            pytest.param(BYTES, 256, id="uint8"),
            pytest.param(BYTES, -1, id="uint8 below"),
            pytest.param(BYTES, 1.0, id="a float for an integer"),
            pytest.param(COUNTS, 2**63, id="int64"),
            pytest.param(COUNTS, -(2**63) - 1, id="int64 below"),
            pytest.param(COUNTS, 0.5, id="a fraction"),
            pytest.param(UNIT, 1.5, id="out of the declared range"),
        ],
    )
    def test_a_value_that_does_not_fit_is_refused_with_its_row(self, source, value):
        error = refusal(request(tensor(source, data=[1, 1, 1, value])), source)

        assert isinstance(error, InvalidRowsError)
        assert error.row == 1

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"{", id="cut off"),
            pytest.param(b'{"inputs": [{"data": [NaN]}]}', id="NaN"),
            pytest.param(b'{"inputs": [{"data": [-Infinity]}]}', id="Infinity"),
            pytest.param(b'{"inputs": [{"data": [1e400]}]}', id="beyond double"),
            pytest.param(b'{"inputs": []} and more', id="trailing text"),
            pytest.param(b'\xff{"inputs": []}', id="not UTF-8"),
            pytest.param(b'{"id": "\\ud800"}', id="half a character"),
            pytest.param(b"[" * 100_000, id="deep"),
        ],
    )
    def test_what_is_not_json_is_malformed(self, body):
        assert isinstance(refusal(body), MalformedBodyError)

    @pytest.mark.parametrize("document", [[], 1, None, "inputs", True])
    def test_a_request_must_be_an_object(self, document):
        assert isinstance(refusal(document), InvalidRowsError)


class TestInputs:
    @pytest.mark.parametrize(
        "inputs",
        [
            pytest.param(None, id="null"),
            pytest.param([], id="none"),
            pytest.param({}, id="an object"),
            pytest.param("input", id="a text"),
            pytest.param([None], id="null in a list"),
            pytest.param([[1, 2]], id="rows"),
            pytest.param([tensor(), tensor()], id="two"),
        ],
    )
    def test_there_is_one_input(self, inputs):
        error = refusal({"inputs": inputs})

        assert isinstance(error, InvalidRowsError)
        assert "input" in (error.expected or "")

    def test_inputs_must_be_there(self):
        assert isinstance(refusal({"id": "1"}), InvalidRowsError)

    @pytest.mark.parametrize("field", ["name", "shape", "datatype", "data"])
    def test_every_field_of_it_must_be_there(self, field):
        assert isinstance(refusal(request(tensor(**{field: ...}))), InvalidRowsError)

    @pytest.mark.parametrize("name", ["code", "INPUT", "", 1, None, ["input"], {}])
    def test_its_name_is_the_models(self, name):
        assert refusal(request(tensor(name=name))).expected == "input"

    @pytest.mark.parametrize(
        "datatype", ["FP64", "fp32", "float32", "BYTES", "BOOL", "INT64", "", 32, None, []]
    )
    def test_its_datatype_is_the_models(self, datatype):
        error = refusal(request(tensor(datatype=datatype)))

        assert isinstance(error, InvalidRowsError)
        assert error.expected == "FP32"

    @pytest.mark.parametrize(
        "shape",
        [
            pytest.param([], id="none"),
            pytest.param([4], id="one axis"),
            pytest.param([2, 3], id="other rows"),
            pytest.param([2, 2, 1], id="another axis"),
            pytest.param([-1, 2], id="-1"),
            pytest.param([2.0, 2], id="a float"),
            pytest.param([True, 2], id="a boolean"),
            pytest.param(["2", 2], id="a text"),
            pytest.param([10**30, 2], id="huge"),
            pytest.param({"0": 2}, id="an object"),
            pytest.param("2,2", id="text"),
            pytest.param(None, id="null"),
        ],
    )
    def test_its_shape_is_one_that_the_model_takes(self, shape):
        error = refusal(request(tensor(shape=shape)))

        assert isinstance(error, InvalidRowsError | TooLargeError)

    def test_a_batch_of_no_rows_is_refused(self):
        assert "empty" in refusal(request(tensor(shape=[0, 2], data=[]))).detail

    def test_a_row_of_no_length_is_refused(self):
        document = request(tensor(FREE, shape=[1, 1, 0, 5], data=[]))

        assert isinstance(refusal(document, FREE), InvalidRowsError)

    def test_more_rows_than_a_request_may_have_are_refused_before_they_are_looked_at(self):
        document = request(tensor(shape=[10**12, 2], data=["not looked at"]))

        assert isinstance(refusal(document), TooLargeError)

    def test_as_many_rows_as_a_request_may_have_are_taken(self):
        assert len(read(request(tensor()), max_rows=2).rows) == 2

    @pytest.mark.parametrize("parameters", [[], "x", 1, True])
    def test_parameters_are_an_object(self, parameters):
        for document in (
            request(tensor(parameters=parameters)),
            request(tensor(), parameters=parameters),
            request(tensor(), outputs=[{"name": "code", "parameters": parameters}]),
        ):
            assert isinstance(refusal(document), InvalidRowsError)

    def test_a_region_of_shared_memory_is_refused(self):
        parameters = {"shared_memory_region": "r", "shared_memory_byte_size": 16}

        error = refusal(request(tensor(data=..., parameters=parameters)))

        assert "shared memory" in error.detail


class TestBytes:
    def binary(self, source=PAIRS, *, size=16, **changes):
        return tensor(source, **{"data": ..., "parameters": {"binary_data_size": size}, **changes})

    def test_values_follow_the_json(self):
        rows = read(request(self.binary()), tail=ROWS.tobytes()).rows

        assert np.array_equal(rows, ROWS)

    @pytest.mark.parametrize("padding", range(8))
    def test_values_lie_where_their_type_may_lie_whatever_is_in_front(self, padding):
        rows = read(request(self.binary(), id="x" * padding), tail=ROWS.tobytes()).rows

        assert rows.flags.aligned

    def test_free_axes_follow_from_the_shape(self):
        data = np.arange(12, dtype="<f4")
        document = request(self.binary(FREE, size=48, shape=[2, 1, 2, 3]))

        assert np.array_equal(
            read(document, FREE, tail=data.tobytes()).rows, data.reshape(2, 1, 2, 3)
        )

    @pytest.mark.parametrize(
        "size", [0, 1, 15, 17, 32, -16, 2**63, 10**30, 16.0, "16", True, [], {}]
    )
    def test_a_size_that_is_not_that_of_the_bytes_is_malformed(self, size):
        document = request(self.binary(size=size))

        assert isinstance(refusal(document, tail=ROWS.tobytes()), MalformedBodyError)

    @pytest.mark.parametrize("length", [0, 8, 12, 17, 24])
    def test_bytes_that_are_not_those_of_the_shape_are_refused(self, length):
        error = refusal(request(self.binary(size=length)), tail=bytes(length))

        assert isinstance(error, InvalidRowsError)
        assert error.expected == "16 bytes for [2, 2] FP32"
        assert error.received == f"{length} bytes"

    def test_bytes_that_no_tensor_claims_are_malformed(self):
        assert isinstance(refusal(request(tensor()), tail=b"\0"), MalformedBodyError)

    def test_data_twice_is_refused(self):
        document = request(self.binary(data=[1, 2, 3, 4]))

        assert "twice" in refusal(document, tail=ROWS.tobytes()).detail

    def test_json_longer_than_the_body_is_malformed(self):
        with pytest.raises(MalformedBodyError, match="longer than the body"):
            open_inference.parse(b"{}", 3, PAIRS, max_rows=1)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_value_that_is_not_finite_is_refused_with_its_row(self, value):
        rows = np.array([[0, 0], [0, value]], np.float32)

        assert refusal(request(self.binary()), tail=rows.tobytes()).row == 1


class TestRaw:
    def test_the_number_of_rows_follows_from_the_bytes(self):
        inquiry = open_inference.parse_raw(ROWS.tobytes(), PAIRS, shape=None, max_rows=2)

        assert np.array_equal(inquiry.rows, ROWS)
        assert inquiry.outputs == tuple(Wanted(name, is_binary=True) for name in OFFERED)

    def test_free_axes_follow_from_the_shape(self):
        inquiry = open_inference.parse_raw(bytes(48), FREE, shape="2,1,2,3", max_rows=2)

        assert inquiry.rows.shape == (2, 1, 2, 3)

    @pytest.mark.parametrize("length", [0, 1, 7, 9])
    def test_bytes_that_are_no_rows_are_refused(self, length):
        with pytest.raises(InvalidRowsError):
            open_inference.parse_raw(bytes(length), PAIRS, shape=None, max_rows=2)

    def test_more_rows_than_a_request_may_have_are_refused(self):
        with pytest.raises(TooLargeError):
            open_inference.parse_raw(bytes(24), PAIRS, shape=None, max_rows=2)


class TestOutputs:
    def outputs(self, outputs=None, **parameters):
        return read(request(tensor(), outputs=outputs, parameters=parameters)).outputs

    @pytest.mark.parametrize("outputs", [None, []])
    def test_none_named_are_all_in_their_order(self, outputs):
        assert self.outputs(outputs) == tuple(Wanted(name, is_binary=False) for name in OFFERED)

    def test_named_ones_come_in_the_order_of_the_request(self):
        wanted = self.outputs([{"name": "score"}, {"name": "code"}])

        assert [each.name for each in wanted] == ["score", "code"]

    def test_each_may_say_that_it_comes_as_bytes(self):
        wanted = self.outputs(
            [{"name": "score", "parameters": {"binary_data": True}}, {"name": "code"}]
        )

        assert wanted == (Wanted("score", is_binary=True), Wanted("code", is_binary=False))

    def test_the_request_may_say_it_for_all(self):
        assert all(each.is_binary for each in self.outputs(binary_data_output=True))

    def test_an_output_has_the_last_word(self):
        output = {"name": "code", "parameters": {"binary_data": False}}

        wanted = self.outputs([output, {"name": "score"}], binary_data_output=True)

        assert [each.is_binary for each in wanted] == [False, True]

    @pytest.mark.parametrize(("flag", "is_bare"), [(True, False), (False, True), (..., False)])
    def test_an_output_is_bare_when_bytes_are_expressly_not_wanted(self, flag, is_bare):
        parameters = {} if flag is ... else {"binary_data": flag}

        (wanted,) = self.outputs([{"name": "code", "parameters": parameters}])

        assert wanted.is_bare == is_bare

    @pytest.mark.parametrize("name", ["input", "CODE", "", None, 1, [], {}])
    def test_an_unknown_one_is_refused_with_those_that_there_are(self, name):
        error = refusal(request(tensor(), outputs=[{"name": name}]))

        assert isinstance(error, UnsupportedOperationError)
        assert error.expected == "code or reconstruction or score"

    @pytest.mark.parametrize("outputs", [{}, "code", 1, True, ["code"], [None], [["code"]]])
    def test_anything_but_a_list_of_objects_is_refused(self, outputs):
        assert isinstance(refusal(request(tensor(), outputs=outputs)), InvalidRowsError)

    def test_one_asked_for_twice_is_refused(self):
        error = refusal(request(tensor(), outputs=[{"name": "code"}, {"name": "code"}]))

        assert "twice" in error.detail

    @pytest.mark.parametrize("flag", [1, 0, "true", None, []])
    def test_a_flag_is_true_or_false(self, flag):
        output = {"name": "code", "parameters": {"binary_data": flag}}

        assert isinstance(refusal(request(tensor(), outputs=[output])), InvalidRowsError)
        assert isinstance(
            refusal(request(tensor(), parameters={"binary_data_output": flag})), InvalidRowsError
        )

    @pytest.mark.parametrize(
        ("parameters", "word"),
        [
            ({"classification": 3}, "classification"),
            ({"classification": [3]}, "classification"),
            ({"shared_memory_region": "r", "shared_memory_byte_size": 8}, "shared memory"),
        ],
    )
    def test_what_would_change_its_meaning_is_refused(self, parameters, word):
        error = refusal(request(tensor(), outputs=[{"name": "code", "parameters": parameters}]))

        assert isinstance(error, InvalidRowsError)
        assert word in error.detail


class TestParameters:
    def test_the_id_is_kept(self):
        assert read(request(tensor(), id="é\n1")).id == "é\n1"
        assert read(request(tensor())).id is None

    @pytest.mark.parametrize("wrong", [1, True, [], {}])
    def test_an_id_is_a_text(self, wrong):
        assert isinstance(refusal(request(tensor(), id=wrong)), InvalidRowsError)

    @pytest.mark.parametrize(
        ("timeout", "seconds"), [(1, 1e-6), (2_000_000, 2.0), (0, None), (None, None)]
    )
    def test_a_timeout_is_in_microseconds_and_0_is_none(self, timeout, seconds):
        assert read(request(tensor(), parameters={"timeout": timeout})).timeout_s == seconds

    @pytest.mark.parametrize("timeout", [-1, 1.5, "1", True, []])
    def test_another_timeout_is_refused(self, timeout):
        error = refusal(request(tensor(), parameters={"timeout": timeout}))

        assert isinstance(error, InvalidRowsError)

    def test_a_sequence_is_refused(self):
        error = refusal(request(tensor(), parameters={"sequence_id": 7}))

        assert "sequence" in error.detail

    def test_what_is_not_known_is_passed_over(self):
        document = request(tensor(), parameters={"priority": 1, "mine": [1]}, model_name="x")

        assert len(read(document).rows) == 2


class TestAnswers:
    def test_json_holds_flat_values(self):
        outputs = [Output("code", ROWS, False, {})]

        body, json_bytes = open_inference.render({"model_name": "m"}, outputs)

        assert json_bytes is None
        assert orjson.loads(body) == {
            "model_name": "m",
            "outputs": [
                {"name": "code", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
            ],
        }

    def test_bytes_follow_in_the_order_of_the_outputs(self):
        scores = np.array([0.5, 0.25], np.float32)
        outputs = [
            Output("score", scores, True, {"metric": "mse"}),
            Output("reconstruction", ROWS, False, {}),
            Output("code", ROWS, True, {}),
        ]

        body, json_bytes = open_inference.render({}, outputs)

        told = orjson.loads(body[:json_bytes])["outputs"]
        assert [each.get("parameters") for each in told] == [
            {"metric": "mse", "binary_data_size": 8},
            None,
            {"binary_data_size": 16},
        ]
        assert ["data" in each for each in told] == [False, True, False]
        assert body[json_bytes:] == scores.tobytes() + ROWS.tobytes()

    def test_many_values_are_written_as_a_few_are(self):
        rows = np.random.default_rng(1).random((3, 70_000), np.float32)

        body, _ = open_inference.render({}, [Output("code", rows, False, {})])

        wanted = orjson.dumps(rows.reshape(-1), option=orjson.OPT_SERIALIZE_NUMPY)
        assert body.endswith(b'"data":' + wanted + b"}]}")

    def test_many_values_are_read_as_a_few_are(self):
        data = list(range(140_000))

        rows = rows_of(COUNTS, shape=[70_000, 2], data=data, max_rows=70_000)

        assert rows.reshape(-1).tolist() == data

    def test_a_float_is_the_shortest_text_that_reads_back(self):
        outputs = [Output("score", np.array([0.1], np.float32), False, {})]

        assert b'"data":[0.1]' in open_inference.render({}, outputs)[0]


NAMES = st.sampled_from(
    ["inputs", "outputs", "parameters", "name", "shape", "data", "datatype", "id"]
)
DTYPES = sorted(open_inference.DATATYPES)


@st.composite
def sources_and_rows(draw):
    """A model's input of any type and shape, and rows of it."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    is_free = draw(st.booleans())
    spec = TensorSpec(dtype, tuple(None for _ in shape) if is_free else shape)
    elements = (
        {"allow_nan": False, "allow_infinity": False} if np.dtype(dtype).kind == "f" else None
    )
    rows = draw(arrays(dtype, (draw(st.integers(1, 4)), *shape), elements=elements))
    return Source("input", spec, OFFERED), rows


class TestRoundTrips:
    @given(sources_and_rows(), st.booleans())
    def test_json_gives_the_bits_that_were_sent(self, sent, is_flat):
        source, rows = sent
        data = (rows.reshape(-1) if is_flat else rows).tolist()
        document = request(tensor(source, shape=list(rows.shape), data=data))

        got = read(document, source).rows

        assert got.dtype == rows.dtype
        assert got.tobytes() == rows.tobytes()

    @given(sources_and_rows())
    def test_bytes_give_the_bits_that_were_sent(self, sent):
        source, rows = sent
        parameters = {"binary_data_size": rows.nbytes}
        document = request(tensor(source, shape=list(rows.shape), data=..., parameters=parameters))

        got = read(document, source, tail=rows.tobytes()).rows

        assert got.dtype == rows.dtype
        assert got.tobytes() == rows.tobytes()

    @given(sources_and_rows(), st.lists(st.booleans(), min_size=1, max_size=3))
    def test_an_answer_is_read_as_a_request_would_be(self, sent, kinds):
        _, rows = sent
        outputs = [Output(f"o{n}", rows, is_binary, {}) for n, is_binary in enumerate(kinds)]

        body, json_bytes = open_inference.render({}, outputs)

        document = orjson.loads(body[:json_bytes])
        tail = b"" if json_bytes is None else body[json_bytes:]
        for told, is_binary in zip(document["outputs"], kinds, strict=True):
            size = told.get("parameters", {}).get("binary_data_size", 0)
            data, tail = tail[:size], tail[size:]
            assert is_binary == bool(size)
            flat = np.frombuffer(data, rows.dtype) if is_binary else np.array(told["data"])
            assert flat.astype(rows.dtype).reshape(told["shape"]).tobytes() == rows.tobytes()
        assert tail == b""

    @settings(max_examples=300)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
            max_leaves=20,
        ),
        st.none() | st.integers(0, 80),
        st.binary(max_size=16),
    )
    def test_anything_else_is_refused_in_our_words(self, document, json_bytes, tail):
        body = json.dumps(document).encode() + tail

        got = None
        with suppress(RequestError):
            got = open_inference.parse(body, json_bytes, PAIRS, max_rows=4)

        assert got is None or isinstance(got, Inquiry)

    @settings(max_examples=300)
    @given(st.data())
    def test_a_request_with_one_thing_wrong_is_refused_or_right(self, data):
        good = tensor()
        field = data.draw(st.sampled_from(sorted(good)))
        good[field] = data.draw(
            st.recursive(
                st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=3),
                lambda inner: st.lists(inner, max_size=4),
                max_leaves=12,
            )
        )

        try:
            got = read(orjson.dumps(request(good)))
        except RequestError:
            return
        assert got.rows.shape[1:] == (2,)
        assert np.isfinite(got.rows).all()
