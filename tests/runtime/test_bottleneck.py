"""Finding the code of autoencoders of many kinds: right, or asked."""

import numpy as np
import onnx
import pytest

from service.inference.bottleneck import cuts, find_code, measured, reaches_around
from service.inference.foreign import keep_outputs, read_foreign
from service.inference.probing import Probe
from tests import foreign

FOUND = {
    "dense": foreign.dense,
    "dense with an activation": foreign.dense_with_activation,
    "an activation of two nodes": foreign.with_silu,
    "convolutions and a flat code": foreign.conv_flat,
    "a code that is a picture": foreign.conv_latent,
    "channels last": foreign.channels_last,
    "a variational one": foreign.variational,
    "weights that are shared and transposed": foreign.tied,
    "residual blocks": foreign.residual,
    "numbers of a codebook": foreign.quantised_codes,
    "convolutions along time": foreign.convolved_series,
    "an LSTM": foreign.recurrent,
    "an If": foreign.with_branch,
    "functions of its own": foreign.with_functions,
    "batch normalisation": foreign.normalised,
    "attention": foreign.attending,
    "shapes taken from the input": foreign.asking_sizes,
}


def look(tmp_path, data):
    """Search a graph for its code, as the command does."""
    (tmp_path / "foreign.onnx").write_bytes(data)
    kept = keep_outputs(read_foreign(tmp_path / "foreign.onnx"), ["y"])
    axes = kept.inputs[0].axes or ()
    rows = np.random.default_rng(0).normal(size=(3, *(n for n in axes[1:] if isinstance(n, int))))
    rows = rows.astype(np.float32)
    candidates = cuts(kept.model)
    seen = Probe(kept.model, [each.tensor for each in candidates]).run(rows)
    return find_code(kept.model, measured(candidates, seen, 3), rows[0].size)


@pytest.mark.parametrize("make", FOUND.values(), ids=list(FOUND))
def test_the_code_is_found_in(tmp_path, make):
    assert look(tmp_path, make()).code == "code"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (foreign.skipping, "skip connections"),
        (foreign.overcomplete, "narrower than the input"),
        (foreign.two_stages, "2 places"),
    ],
    ids=["skip connections", "a code that is wider than its input", "two equal stages"],
)
def test_it_is_asked_for_the_code_of_a_graph_with(tmp_path, make, reason):
    finding = look(tmp_path, make())

    assert finding.code is None
    assert reason in finding.reason


def test_candidates_have_the_shape_and_the_operator_that_a_person_can_choose_by(tmp_path):
    finding = look(tmp_path, foreign.two_stages())

    found = {each.tensor: (each.shape, each.values, each.operator) for each in finding.candidates}
    assert found["first"] == ((3,), 3, "Relu")
    assert found["second"] == ((3,), 3, "Relu")


def test_a_tensor_beside_the_way_of_the_data_is_no_cut():
    model = onnx.load_model_from_string(foreign.variational())
    del model.graph.output[1:]

    assert "log_variance" not in [each.tensor for each in cuts(model)]


@pytest.mark.parametrize(
    ("make", "around"),
    [(foreign.skipping, True), (foreign.dense, False), (foreign.residual, False)],
)
def test_data_that_goes_around_a_tensor_is_seen(make, around):
    assert reaches_around(onnx.load_model_from_string(make()), "code") is around


def test_a_shape_that_goes_around_a_tensor_is_no_data():
    model = onnx.load_model_from_string(foreign.asking_sizes())

    assert not reaches_around(model, "code")
