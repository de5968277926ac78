import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from onnx import TensorProto, helper  # noqa: E402
from torch import nn  # noqa: E402

from service.inference.providers import Device  # noqa: E402
from service.inference.session import OrtSession  # noqa: E402
from training.export import ExportError, check_graph, export, parity, to_onnx  # noqa: E402
from training.networks import ConvolutionalSizes, convolutional, dense, with_centres  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(6).random((64, 1, 8, 8), dtype=np.float32)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(6)
    return convolutional(ConvolutionalSizes(side=8, half_channels=2, quarter_channels=3, code=2))


@pytest.fixture(scope="module")
def exported(network, rows):
    return export(network, rows)


def test_both_halves_have_public_names_and_a_free_batch_axis(exported):
    for data, names in [
        (exported.encoder, ("input", "code")),
        (exported.decoder, ("code", "reconstruction")),
    ]:
        graph = onnx.load_model_from_string(data).graph

        assert (graph.input[0].name, graph.output[0].name) == names
        assert all(end.type.tensor_type.shape.dim[0].dim_param for end in graph.input)


def test_the_graphs_do_what_the_network_does(exported):
    assert 0 <= exported.max_difference < 1e-5


def test_no_path_of_this_machine_stays_in_a_graph(exported):
    for data in [exported.encoder, exported.decoder]:
        assert b"site-packages" not in data
        assert b".py" not in data


def test_a_graph_that_does_something_else_is_noticed(network, exported, rows):
    difference = parity(nn.Identity(), [exported.encoder, exported.decoder], torch.from_numpy(rows))

    assert difference > 0.01


def test_too_large_a_difference_stops_the_export(network, rows):
    with pytest.raises(ExportError, match="differs from torch"):
        export(network, rows, tolerance=-1)


def test_a_fixed_batch_axis_is_refused():
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

    with pytest.raises(ExportError, match="batch axis of 'x' is fixed"):
        check_graph(model)


def test_one_row_alone_is_answered_although_two_were_exported():
    data = to_onnx(nn.Linear(3, 2).eval(), torch.zeros(2, 3), source="a", targets=["b"])

    shape = onnx.load_model_from_string(data).graph.output[0].type.tensor_type.shape
    assert shape.dim[0].dim_param


def test_inner_layers_keep_their_names_in_the_graph_and_are_no_outputs_of_it(exported):
    graph = onnx.load_model_from_string(exported.encoder).graph

    inside = {name for node in graph.node for name in node.output}
    assert {"encoder.conv1", "encoder.conv2"} <= inside
    assert [output.name for output in graph.output] == ["code"]


def test_a_network_with_centres_says_which_is_nearest(rows):
    torch.manual_seed(7)
    network = with_centres(dense((1, 8, 8), (6,), 3), 5, 3).eval()

    session = OrtSession(export(network, rows).encoder, Device())

    codes, clusters = session.run(rows)
    assert network.centres is not None
    expected = torch.cdist(torch.from_numpy(codes), network.centres.detach()).argmin(dim=1)
    np.testing.assert_array_equal(clusters, expected.numpy())
    assert clusters.dtype == np.int64
    assert len(set(clusters.tolist())) > 1
