"""Inner tensors of tiny files, compared with ONNX Runtime on the files themselves."""

import asyncio
from dataclasses import replace

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from service.assembly import Engine, assemble
from service.errors import DeviceLostError, PackageError, UnavailableError
from service.inference.graphs import Signature, from_pair, from_whole
from service.inference.inner import Inner, tensor_types
from service.inference.operations import ENCODE, LAYERS, of_layer
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.inference.ticket import Ticket
from service.repository.golden import GoldenRows, read_golden_rows
from service.repository.packages import read_package
from service.specs import TensorSpec
from tests import tiny
from tests.fakes import WAIT_S, FakeSession
from tests.runtime.test_assembly import with_file

ROWS = np.random.default_rng(5).normal(size=(7, 4)).astype(np.float32)


def spec(*shape, dtype="float32"):
    return TensorSpec(dtype, shape)


def signature(code=2, **more):
    return Signature(spec(4), spec(code), spec(4), **more)


def layers(part, **tensors):
    return {name: Inner(part, tensor, spec(size)) for name, (tensor, size) in tensors.items()}


OUTPUTS = {
    "cluster": Inner("encoder", "cluster", spec(dtype="int64")),
    "total": Inner("encoder", "total", spec()),
}


def run(graph, rows=ROWS):
    return OrtSession(graph, Device()).run(rows)


def run_layers(graphs, names, rows=ROWS):
    assert graphs.cut_layers is not None
    return run(graphs.cut_layers(names), rows)


def exposed(data, tensor, rows):
    """What ONNX Runtime gives for *tensor*, made the one output of the file."""
    model = onnx.inliner.inline_local_functions(onnx.load_model_from_string(data))
    del model.graph.output[:]
    model.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    found = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return found.run(None, {found.get_inputs()[0].name: rows})[0]


def assert_same(got, wanted):
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


class TestLayers:
    @pytest.mark.parametrize(("tensor", "size"), [("h", 6), ("r", 6), ("z", 2)])
    def test_a_layer_of_an_encoder(self, tensor, size):
        encoder, decoder = tiny.layered()
        named = layers("encoder", one=(tensor, size))

        graphs = from_pair(encoder, decoder, signature(layers=named), code_output="z")

        assert_same(run_layers(graphs, ["one"])[0], exposed(encoder, tensor, ROWS))
        assert graphs.encoder_layers == ("one",)

    @pytest.mark.parametrize(("tensor", "size"), [("g", 6), ("y", 4)])
    def test_a_layer_of_a_decoder_is_computed_from_the_input(self, tensor, size):
        encoder, decoder = tiny.layered()
        named = layers("decoder", one=(tensor, size))

        graphs = from_pair(encoder, decoder, signature(layers=named, further=OUTPUTS))

        codes = exposed(encoder, "z", ROWS)
        assert_same(run_layers(graphs, ["one"])[0], exposed(decoder, tensor, codes))
        assert graphs.encoder_layers == ()

    def test_a_layer_of_an_encoder_without_a_decoder(self):
        encoder, _ = tiny.layered()
        named = layers("encoder", one=("r", 6))

        graphs = from_pair(
            encoder, None, Signature(spec(4), spec(2), None, layers=named, further=OUTPUTS)
        )

        assert_same(run_layers(graphs, ["one"])[0], exposed(encoder, "r", ROWS))

    def test_layers_of_one_file_around_a_skip_connection(self):
        whole = tiny.graph(
            [
                tiny.node("Add", ["x", "x"], ["a"]),
                tiny.node("Relu", ["a"], ["z"]),
                tiny.node("Add", ["z", "a"], ["b"]),
                tiny.node("Neg", ["b"], ["y"]),
            ],
            ("x", "float32", [4]),
            [("y", "float32", [4])],
        )
        named = layers("autoencoder", first=("a", 4), code=("z", 4), last=("b", 4))

        graphs = from_whole(whole, "z", signature(4, layers=named))

        for name, tensor in [("first", "a"), ("code", "z"), ("last", "b")]:
            assert_same(run_layers(graphs, [name])[0], exposed(whole, tensor, ROWS))
        assert graphs.encoder_layers == ("first", "code")
        assert graphs.decode is None

    def test_a_layer_inside_a_function_has_the_name_that_inlining_gives(self):
        function = helper.make_function(
            "local", "Twice", ["a"], ["b"],
            [tiny.node("Add", ["a", "a"], ["h"]), tiny.node("Neg", ["h"], ["b"])],
            [helper.make_opsetid("", 18)],
        )  # fmt: skip
        made = onnx.load_model_from_string(tiny.linear("d", "z", np.eye(4, 2)))
        made.functions.append(function)
        made.opset_import.append(helper.make_opsetid("local", 1))
        made.graph.input[0].name = "x"
        made.graph.node.insert(0, tiny.node("Twice", ["x"], ["d"], domain="local"))
        encoder = made.SerializeToString()

        def cut(tensor):
            named = layers("encoder", one=(tensor, 4))
            return from_pair(encoder, None, Signature(spec(4), spec(2), None, layers=named))

        assert_same(run_layers(cut("h__1"), ["one"])[0], ROWS + ROWS)
        with pytest.raises(PackageError, match="layer 'one'; in functions there is h__1"):
            cut("h")

    def test_several_layers_in_one_run_and_one_tensor_by_two_names(self):
        encoder, decoder = tiny.layered()
        named = layers("encoder", one=("h", 6), two=("r", 6), three=("h", 6))

        graphs = from_pair(encoder, decoder, signature(layers=named, further=OUTPUTS))

        one, two, three = run_layers(graphs, ["one", "two", "three"])
        assert_same(one, exposed(encoder, "h", ROWS))
        assert_same(two, exposed(encoder, "r", ROWS))
        assert_same(three, one)

    def test_a_model_without_layers_keeps_nothing_to_cut_them_from(self):
        assert from_pair(*tiny.keeping(4, 2), signature()).cut_layers is None

    @pytest.mark.parametrize(
        ("tensor", "promised", "message"),
        [
            ("nothing", spec(6), "no tensor for the layer 'one'"),
            ("w", spec(6), "no tensor for the layer 'one'"),
            ("r", spec(6, dtype="float64"), "layer 'one' is float32 in the graph, float64"),
            ("r", spec(5), r"layer 'one' is \[6\] in the graph, \[5\]"),
            ("r", spec(2, 3), r"layer 'one' is \[6\] in the graph, \[2, 3\]"),
            ("shape", spec(dtype="int64"), "layer 'one' has a batch axis fixed at 2"),
        ],
    )
    def test_a_layer_that_is_not_as_promised_is_refused(self, tensor, promised, message):
        made = onnx.load_model_from_string(tiny.layered()[0])
        made.graph.node.append(tiny.node("Shape", ["x"], ["shape"]))
        one = {"one": Inner("encoder", tensor, promised)}

        with pytest.raises(PackageError, match=message):
            from_pair(made.SerializeToString(), None, signature(layers=one, further=OUTPUTS))


class TestOutputs:
    def test_further_outputs_come_beside_the_code(self):
        encoder, decoder = tiny.layered()

        graphs = from_pair(encoder, decoder, signature(further=OUTPUTS))

        code, cluster, total = run(graphs.encode)
        assert_same(code, exposed(encoder, "z", ROWS))
        assert_same(cluster, exposed(encoder, "cluster", ROWS))
        assert_same(total, exposed(encoder, "total", ROWS))
        assert len(run(graphs.everything)) == 3

    def test_further_outputs_of_one_file_need_not_lead_to_the_code(self):
        whole = onnx.load_model_from_string(tiny.whole())
        whole.graph.node.append(tiny.node("Neg", ["x"], ["n"]))
        further = {"n": Inner("autoencoder", "n", spec(4))}

        graphs = from_whole(whole.SerializeToString(), "z", signature(further=further))

        assert_same(run(graphs.encode)[1], -ROWS)
        assert graphs.decode is not None

    def test_of_several_outputs_the_manifest_may_name_the_code(self):
        encoder, decoder = tiny.layered()

        graphs = from_pair(encoder, decoder, signature(), code_output="z")

        (code,) = run(graphs.encode)
        assert_same(code, exposed(encoder, "z", ROWS))
        made = onnx.load_model_from_string(graphs.encode or b"")
        assert [node.op_type for node in made.graph.node] == ["MatMul", "Relu", "MatMul"]

    @pytest.mark.parametrize("named", ["nothing", {"cluster": OUTPUTS["cluster"]}], ids=str)
    def test_several_outputs_of_which_none_stands_out_are_refused(self, named):
        further = {} if named == "nothing" else named

        with pytest.raises(PackageError, match="1 inputs and 3 outputs"):
            from_pair(*tiny.layered(), signature(further=further))

    @pytest.mark.parametrize("name", ["nothing", "h"])
    def test_a_code_that_is_no_output_is_refused(self, name):
        with pytest.raises(PackageError, match=f"the encoder has no output '{name}'"):
            from_pair(*tiny.layered(), signature(), code_output=name)

    @pytest.mark.parametrize("output", ["y", None], ids=str)
    def test_the_code_of_one_file_may_be_an_output(self, output):
        whole = onnx.load_model_from_string(tiny.whole())
        whole.graph.output.insert(0, helper.make_tensor_value_info("z", 1, ["batch", 2]))
        data = whole.SerializeToString()

        graphs = from_whole(data, "z", signature(), output=output)

        assert_same(run(graphs.encode)[0], exposed(data, "z", ROWS))
        assert_same(run(graphs.reconstruct)[0], exposed(data, "y", ROWS))

    def test_the_output_of_a_decoder_is_chosen(self):
        encoder, decoder = tiny.keeping(4, 2)
        two = onnx.load_model_from_string(decoder)
        two.graph.node.append(tiny.node("Neg", ["y"], ["n"]))
        two.graph.output.append(helper.make_tensor_value_info("n", 1, ["batch", 4]))

        graphs = from_pair(encoder, two.SerializeToString(), signature(), output="n")

        np.testing.assert_array_equal(run(graphs.reconstruct)[0], -ROWS * [1, 1, 0, 0])


@pytest.fixture
def engine(lanes, metrics):
    return Engine(
        device=Device(), lanes=lanes, make_session=OrtSession, metrics=metrics, max_batch_rows=8
    )


@pytest.fixture
def package(tmp_path):
    return read_package(tiny.write_layered(tmp_path))


async def ended(*awaitables):
    async with asyncio.timeout(WAIT_S):
        return await asyncio.gather(*awaitables)


@pytest.mark.anyio
class TestLiveModel:
    async def test_a_layer_is_opened_by_the_first_who_wants_it(self, package, engine):
        made = []

        def make_session(graph, device):
            made.append(OrtSession(graph, device))
            return made[-1]

        model = assemble(package, replace(engine, make_session=make_session)).autoencoder
        before = len(made)

        first, second = await ended(
            model.layer("hidden", ROWS, Ticket()), model.layer("hidden", ROWS[::-1], Ticket())
        )

        wanted = exposed(tiny.layered()[0], "r", ROWS)
        assert_same(first, wanted)
        assert_same(second, wanted[::-1])
        assert len(made) == before + 1
        assert of_layer("hidden") in model.batchers
        assert of_layer("before") not in model.batchers

    async def test_all_layers_of_the_encoder_come_from_one_run(self, package, engine):
        model = assemble(package, engine).autoencoder

        (found,) = await ended(model.layers(ROWS, Ticket()))

        assert list(found) == ["before", "hidden"]
        assert_same(found["before"], exposed(tiny.layered()[0], "h", ROWS))
        assert_same(found["hidden"], exposed(tiny.layered()[0], "r", ROWS))
        assert model.batchers[LAYERS].max_batch_rows == 8

    async def test_runs_of_layers_have_the_fixed_size_of_the_model(self, tmp_path, engine):
        package = read_package(tiny.write_layered(tmp_path, invariant=True, max_batch_rows=4))
        sizes = []

        def make_session(graph, device):
            real = OrtSession(graph, device)

            def compute(rows):
                sizes.append(len(rows))
                return real.run(rows)

            return FakeSession(compute)

        model = assemble(package, replace(engine, make_session=make_session)).autoencoder
        sizes.clear()

        (found,) = await ended(model.layer("hidden", ROWS, Ticket()))

        np.testing.assert_allclose(found, exposed(tiny.layered()[0], "r", ROWS), rtol=1e-6)
        assert set(sizes) == {4}

    async def test_a_device_that_is_lost_while_a_layer_is_opened_is_told_of(self, package, engine):
        told: list[bool] = []
        late: list[FakeSession] = []

        def make_session(graph, device):
            if not is_loaded:
                return OrtSession(graph, device)
            late.append(FakeSession(lose))
            return late[-1]

        def lose(_):
            raise DeviceLostError("the device failed")

        losing = replace(
            engine, make_session=make_session, on_device_lost=lambda: told.append(True)
        )
        is_loaded = False
        model = assemble(package, losing).autoencoder
        is_loaded = True

        with pytest.raises(DeviceLostError):
            await ended(model.layer("hidden", ROWS, Ticket()))
        assert told == [True]
        assert losing.lost == late

    async def test_the_gauge_of_waiting_rows_counts_all_queues_of_encode(
        self, package, engine, metrics
    ):
        model = assemble(package, engine).autoencoder
        await ended(model.layer("hidden", ROWS, Ticket()))
        labels = {"model": "layered", "version": "1", "operation": "encode"}
        waiting = [
            asyncio.ensure_future(model.encode(ROWS[:2], Ticket())),
            asyncio.ensure_future(model.layer("hidden", ROWS[:3], Ticket())),
        ]
        await asyncio.sleep(0)

        counted = metrics.registry.get_sample_value("hourglass_queue_rows", labels)

        await ended(*waiting)
        assert counted == 5

    async def test_its_series_go_with_the_model(self, package, engine, metrics):
        live = assemble(package, engine)
        await ended(live.autoencoder.layer("hidden", ROWS, Ticket()))

        live.close()
        metrics.remove(live.name, live.version)

        samples = [s for family in metrics.registry.collect() for s in family.samples]
        assert [s for s in samples if s.labels.get("model") == "layered"] == []

    async def test_a_closed_model_opens_no_layer(self, package, engine):
        model = assemble(package, engine).autoencoder
        model.close()

        with pytest.raises(UnavailableError):
            await ended(model.layer("hidden", ROWS, Ticket()))


class TestGoldenRows:
    def test_further_outputs_are_stored_and_compared(self, package, engine):
        golden = read_golden_rows(package.files["golden.npz"])
        assert_same(golden.answers["cluster"], exposed(tiny.layered()[0], "cluster", golden.rows))
        wrong = GoldenRows(
            golden.rows, {**golden.answers, "cluster": golden.answers["cluster"] + 1}
        )

        with pytest.raises(PackageError, match="'encode' does not give the answers"):
            assemble(with_file(package, "golden.npz", wrong.to_bytes()), engine)

    def test_packages_without_them_load(self, package, engine):
        golden = read_golden_rows(package.files["golden.npz"])
        old = {name: golden.answers[name] for name in ("code", "reconstruction", "score")}

        live = assemble(
            with_file(package, "golden.npz", GoldenRows(golden.rows, old).to_bytes()), engine
        )

        assert ENCODE in live.autoencoder.operations


def test_types_are_found_behind_weights_whose_values_nobody_needs_for_that():
    model = onnx.load_model_from_string(tiny.mixing(64, 32)[0])
    shaped = helper.make_node("Reshape", [model.graph.output[0].name, "shape"], ["folded"])
    shape = numpy_helper.from_array(np.array([-1, 4, 8]), "shape")
    model.graph.node.append(shaped)
    model.graph.initializer.append(shape)
    before = model.SerializeToString()

    axes = tensor_types(model)["folded"].type.tensor_type.shape.dim

    assert [axis.dim_value for axis in axes][1:] == [4, 8]
    assert model.SerializeToString() == before
