"""Batch axes that exporters fixed: freed where the answers stay, said where not."""

import numpy as np
import onnx
import pytest

from service.errors import PackageError
from service.inference.foreign import read_foreign
from service.inference.freeing import settle_batch
from service.inference.probing import Probe
from tests import foreign

RANDOM = np.random.default_rng(7)


def settled(tmp_path, data, *shape):
    (tmp_path / "foreign.onnx").write_bytes(data)
    rows = RANDOM.normal(size=(12, *shape)).astype(np.float32)
    return settle_batch(read_foreign(tmp_path / "foreign.onnx"), rows), rows


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (foreign.dense, (12,)),
        (foreign.conv_flat, (1, 8, 8)),
        (foreign.recurrent, (5, 6)),
        (foreign.quantised_codes, (12,)),
    ],
    ids=["dense", "reshapes", "first states of an LSTM", "a table"],
)
def test_a_fixed_batch_axis_is_freed_and_every_row_keeps_its_answer(tmp_path, make, shape, batch):
    found, rows = settled(tmp_path, make(batch), *shape)

    assert (found.batch, found.rows) == ("freed", batch)
    fixed = Probe(onnx.load_model_from_string(make(batch)), ["y"]).by(batch, rows)["y"]
    for size in (1, 2, 5, 12):
        freed = Probe(found.foreign.model, ["y"]).run(rows[:size])["y"]
        np.testing.assert_allclose(freed, fixed[:size], rtol=1e-5, atol=1e-5)


def test_constants_beside_each_row_get_as_many_rows_as_there_are(tmp_path):
    net = foreign.Net(2, 4, batch=1)
    token = net.constant(np.ones((1, 1, 4), np.float32))
    net("ReduceSum", net("Concat", token, "x", axis=1), net.constant([1]), keepdims=1, name="y")

    found, rows = settled(tmp_path, net.model(("y", [1, 4])), 2, 4)

    assert found.batch == "freed"
    freed = Probe(found.foreign.model, ["y"]).run(rows)["y"]
    np.testing.assert_allclose(freed, 1 + rows.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-5)


def test_sizes_and_expansions_with_the_batch_in_them_are_freed(tmp_path):
    net = foreign.Net(1, 2, 2, batch=2)
    wide = net("Expand", "x", net.constant([2, 3, 2, 2]))
    net("Resize", wide, "", "", net.constant([2, 3, 4, 4]), mode="nearest", name="y")

    found, rows = settled(tmp_path, net.model(("y", [3, 4, 4])), 1, 2, 2)

    assert found.batch == "freed"
    freed = Probe(found.foreign.model, ["y"]).run(rows)["y"]
    np.testing.assert_array_equal(freed, rows.repeat(2, 2).repeat(2, 3).repeat(3, 1))


def test_a_batch_axis_that_is_free_is_left_alone(tmp_path):
    found, _ = settled(tmp_path, foreign.dense(), 12)

    assert (found.batch, found.rows) == ("free", None)


@pytest.mark.parametrize("batch", [1, 3])
def test_what_cannot_be_freed_is_said_to_be_fixed(tmp_path, batch):
    found, _ = settled(tmp_path, foreign.stubborn(batch), 12)

    assert (found.batch, found.rows) == ("fixed", batch)


def test_a_free_axis_of_a_graph_that_runs_with_one_row_alone_is_fixed_at_one(tmp_path):
    model = onnx.load_model_from_string(foreign.stubborn())
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"

    found, _ = settled(tmp_path, model.SerializeToString(), 12)

    assert (found.batch, found.rows) == ("fixed", 1)


def test_a_free_axis_around_the_number_of_rows_of_an_example_is_freed_for_good(tmp_path):
    """As tracing leaves it: the axis is declared free, and a Reshape knows that there were two."""
    net = foreign.Net(2, 3)
    net("Tanh", net.reshape("x", 2, 6), name="y")

    found, rows = settled(tmp_path, net.model(("y", [6])), 2, 3)

    assert (found.batch, found.rows) == ("freed", 2)
    freed = Probe(found.foreign.model, ["y"]).run(rows)["y"]
    np.testing.assert_allclose(freed, np.tanh(rows.reshape(12, 6)), rtol=1e-5, atol=1e-6)


def test_a_surgery_that_would_change_answers_is_undone(tmp_path):
    """The mean over the batch is another one with more rows."""
    net = foreign.Net(4, batch=1)
    net("Sub", "x", net("ReduceMean", net.reshape("x", 1, 4), net.constant([0])), name="y")

    found, _ = settled(tmp_path, net.model(("y", [4])), 4)

    assert found.batch == "fixed"


def test_rows_that_a_graph_does_not_take_are_an_error_that_names_the_remedy(tmp_path):
    net = foreign.Net(4)
    index = net("Cast", "x", to=onnx.TensorProto.INT64)
    net("Gather", net.constant(np.zeros(1, np.float32)), index, name="y")

    with pytest.raises(PackageError, match="--rows"):
        settled(tmp_path, net.model(("y", [4])), 4)
