"""Surgery on tiny graphs, with the real ONNX Runtime as the judge."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.errors import PackageError
from service.inference.graphs import Signature, from_pair, from_whole, has_control_flow
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.scoring.measures import mean_squared_error
from service.specs import TensorSpec
from tests import tiny

ROWS = np.random.default_rng(5).normal(size=(7, 4)).astype(np.float32)


def spec(*shape, dtype="float32", **more):
    return TensorSpec(dtype, shape, **more)


SIGNATURE = Signature(spec(4), spec(2), spec(4))
WIDE_CODE = Signature(spec(4), spec(4), spec(4))


def run(graph, rows):
    return OrtSession(graph, Device()).run(rows)


def edited(data, edit):
    """The same file with something changed by hand."""
    model = onnx.load_model_from_string(data)
    edit(model)
    return model.SerializeToString()


class TestPair:
    def test_encoder_and_decoder_become_all_graphs(self):
        graphs = from_pair(*tiny.keeping(4, 2), SIGNATURE)

        kept = ROWS * [1, 1, 0, 0]
        np.testing.assert_array_equal(run(graphs.encode, ROWS)[0], ROWS[:, :2])
        np.testing.assert_array_equal(run(graphs.decode, ROWS[:, :2])[0], kept)
        np.testing.assert_array_equal(run(graphs.reconstruct, ROWS)[0], kept)
        scores = np.square(ROWS[:, 2:]).sum(axis=1) / 4
        np.testing.assert_allclose(run(graphs.score, ROWS)[0], scores, rtol=1e-6)

    def test_the_graph_of_everything_gives_code_reconstruction_and_score(self):
        graphs = from_pair(*tiny.mixing(4, 2), SIGNATURE)

        code, reconstruction, score = run(graphs.everything, ROWS)

        np.testing.assert_array_equal(code, run(graphs.encode, ROWS)[0])
        np.testing.assert_array_equal(reconstruction, run(graphs.reconstruct, ROWS)[0])
        np.testing.assert_array_equal(score, run(graphs.score, ROWS)[0])

    def test_decoding_a_code_gives_the_bits_of_the_reconstruction(self):
        graphs = from_pair(*tiny.mixing(4, 2), SIGNATURE)

        decoded = run(graphs.decode, run(graphs.encode, ROWS)[0])[0]

        np.testing.assert_array_equal(decoded, run(graphs.reconstruct, ROWS)[0])

    @pytest.mark.parametrize("rows", [1, 3, 64], ids=str)
    def test_a_score_has_the_same_bits_alone_and_beside_everything(self, rows):
        batch = np.random.default_rng(rows).random((rows, 1, 4, 4), np.float32)
        picture = spec(1, 4, 4)
        graphs = from_pair(*tiny.halving_pictures(), Signature(picture, picture, picture))

        alone, beside = run(graphs.score, batch)[0], run(graphs.everything, batch)[-1]

        assert alone.tobytes() == beside.tobytes()

    @pytest.mark.parametrize("rows", [1, 3, 64], ids=str)
    def test_a_dense_score_has_the_same_bits_alone_and_beside_everything(self, rows):
        batch = np.random.default_rng(rows).random((rows, 64), np.float32)
        graphs = from_pair(*tiny.mixing(64, 8), Signature(spec(64), spec(8), spec(64)))

        alone, beside = run(graphs.score, batch)[0], run(graphs.everything, batch)[-1]

        assert alone.tobytes() == beside.tobytes()

    def test_an_encoder_alone_can_only_encode(self):
        encoder, _ = tiny.keeping(4, 2)

        graphs = from_pair(encoder, None, Signature(spec(4), spec(2), None, reconstructs=False))

        np.testing.assert_array_equal(run(graphs.encode, ROWS)[0], ROWS[:, :2])
        assert (graphs.decode, graphs.reconstruct, graphs.score, graphs.everything) == (None,) * 4

    def test_an_output_of_another_kind_has_no_score(self):
        signature = Signature(spec(4), spec(2), spec(4), reconstructs=False)

        graphs = from_pair(*tiny.keeping(4, 2), signature)

        assert graphs.score is None
        assert len(run(graphs.everything, ROWS)) == 2

    def test_equal_names_on_both_sides_do_not_collide(self):
        down, up = np.eye(4, 2), np.eye(2, 4) * 3
        encoder, decoder = tiny.linear("x", "y", down), tiny.linear("x", "y", up)

        graphs = from_pair(encoder, decoder, SIGNATURE)

        np.testing.assert_allclose(run(graphs.reconstruct, ROWS)[0], ROWS @ down @ up, rtol=1e-6)

    def test_files_whose_tensors_have_the_public_names_are_taken(self):
        encoder = tiny.linear("code", "input", np.eye(4, 2))
        decoder = tiny.linear("score", "reconstruction", np.eye(2, 4))

        graphs = from_pair(encoder, decoder, SIGNATURE)

        np.testing.assert_array_equal(run(graphs.encode, ROWS)[0], ROWS[:, :2])

    @pytest.mark.parametrize("opsets", [(13, 18), (18, 13), (13, 13), (20, 18)], ids=str)
    def test_different_opsets_are_brought_to_the_same(self, opsets):
        encoder = tiny.linear("x", "z", np.eye(4, 2), opset=opsets[0])
        decoder = tiny.linear("z", "y", np.eye(2, 4), opset=opsets[1])

        graphs = from_pair(encoder, decoder, SIGNATURE)

        np.testing.assert_array_equal(run(graphs.reconstruct, ROWS)[0], ROWS * [1, 1, 0, 0])

    def test_different_ir_versions_are_brought_to_the_higher(self):
        encoder, decoder = tiny.keeping(4, 2)
        old = edited(encoder, lambda model: setattr(model, "ir_version", 8))

        graphs = from_pair(old, decoder, SIGNATURE)

        np.testing.assert_array_equal(run(graphs.reconstruct, ROWS)[0], ROWS * [1, 1, 0, 0])

    @pytest.mark.parametrize("opset", [13, 18], ids=str)
    def test_bodies_of_branches_are_joined_with_the_rest(self, opset):
        pair = (tiny.branching("x", "z", opset=opset), tiny.branching("x", "z"))

        graphs = from_pair(*pair, WIDE_CODE)

        rows = np.abs(ROWS)
        np.testing.assert_array_equal(run(graphs.reconstruct, rows)[0], rows * 4)
        np.testing.assert_array_equal(run(graphs.reconstruct, -rows)[0], -rows)
        assert len(run(graphs.everything, rows)) == 3

    @pytest.mark.parametrize("opsets", [(18, 18), (13, 18), (20, 18), (13, 13)], ids=str)
    def test_functions_of_the_files_own_are_joined_with_the_rest(self, opsets):
        encoder = tiny.with_function("x", "z", np.eye(4, 2), opset=opsets[0])
        decoder = tiny.with_function("z", "y", np.eye(2, 4), opset=opsets[1])

        graphs = from_pair(encoder, decoder, SIGNATURE)

        np.testing.assert_array_equal(run(graphs.reconstruct, ROWS)[0], ROWS * [4, 4, 0, 0])
        np.testing.assert_array_equal(run(graphs.decode, ROWS[:, :2])[0], ROWS * [2, 2, 0, 0])

    def test_weights_that_are_listed_as_inputs_stay_weights(self):
        def list_weights(model):
            weights = model.graph.initializer[0]
            model.graph.input.append(
                helper.make_tensor_value_info(weights.name, weights.data_type, weights.dims)
            )

        encoder, decoder = tiny.keeping(4, 2)

        graphs = from_pair(edited(encoder, list_weights), decoder, SIGNATURE)

        np.testing.assert_array_equal(run(graphs.encode, ROWS)[0], ROWS[:, :2])


class TestWhole:
    def test_a_file_is_cut_at_its_code(self):
        rng = np.random.default_rng(0)
        down, up = rng.normal(size=(4, 2)), rng.normal(size=(2, 4))

        graphs = from_whole(tiny.whole(), "z", SIGNATURE)

        code = run(graphs.encode, ROWS)[0]
        np.testing.assert_allclose(code, ROWS @ down, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            run(graphs.reconstruct, ROWS)[0], ROWS @ down @ up, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(run(graphs.decode, code)[0], run(graphs.reconstruct, ROWS)[0])
        assert len(run(graphs.everything, ROWS)) == 3

    def test_without_a_code_it_reconstructs_and_scores(self):
        graphs = from_whole(tiny.whole(), None, Signature(spec(4), None, spec(4)))

        reconstruction, score = run(graphs.everything, ROWS)
        np.testing.assert_array_equal(reconstruction, run(graphs.reconstruct, ROWS)[0])
        np.testing.assert_array_equal(score, run(graphs.score, ROWS)[0])
        assert (graphs.encode, graphs.decode) == (None, None)

    def test_with_skip_connections_there_is_no_decoder_to_cut_out(self):
        graphs = from_whole(tiny.skipping(), "z", WIDE_CODE)

        assert graphs.decode is None
        np.testing.assert_array_equal(run(graphs.encode, ROWS)[0], ROWS * 2)
        np.testing.assert_array_equal(run(graphs.reconstruct, ROWS)[0], ROWS * 3)
        assert len(run(graphs.everything, ROWS)) == 3

    def test_a_skip_connection_into_a_branch_is_seen(self):
        out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
        bodies = [
            helper.make_graph([tiny.node("Add", ["z", "x"], ["o"])], name, [], [out])
            for name in ("a", "b")
        ]
        data = tiny.graph(
            [
                tiny.node("Add", ["x", "x"], ["z"]),
                tiny.node("If", ["yes"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
            ],
            ("x", "float32", [4]),
            [("y", "float32", [4])],
            {"yes": np.array(True)},
        )

        graphs = from_whole(data, "z", WIDE_CODE)

        assert graphs.decode is None
        np.testing.assert_array_equal(run(graphs.reconstruct, ROWS)[0], ROWS * 3)

    def test_a_code_behind_a_function_is_found(self):
        whole = edited(
            tiny.with_function("x", "z", np.eye(4, 2)),
            lambda model: (
                model.graph.node.append(tiny.node("MatMul", ["z", "up"], ["y"])),
                model.graph.initializer.append(
                    numpy_helper.from_array(np.eye(2, 4, dtype=np.float32), "up")
                ),
                model.graph.output.pop(),
                model.graph.output.append(
                    helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
                ),
            ),
        )

        graphs = from_whole(whole, "z", SIGNATURE)

        np.testing.assert_array_equal(run(graphs.encode, ROWS)[0], ROWS[:, :2] * 2)

    @pytest.mark.parametrize("name", ["nothing", "x", "y"], ids=str)
    def test_a_name_that_is_no_inner_tensor_is_refused(self, name):
        with pytest.raises(PackageError, match="no inner tensor"):
            from_whole(tiny.whole(), name, SIGNATURE)


class TestTypes:
    @pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int64"], ids=str)
    def test_inputs_of_other_types_are_scored_in_single_precision(self, dtype):
        given = spec(4, dtype=dtype)
        pair = tiny.casting("x", "z", dtype, "float32"), tiny.casting("z", "y", "float32", dtype)
        rows = np.arange(12).reshape(3, 4).astype(dtype)

        graphs = from_pair(*pair, Signature(given, spec(4), given))

        assert run(graphs.reconstruct, rows)[0].dtype == rows.dtype
        np.testing.assert_array_equal(run(graphs.score, rows)[0], np.zeros(3, np.float32))

    @pytest.mark.parametrize("features", [3, 9, 16, 33])
    def test_a_score_has_the_same_bits_wherever_its_row_lies(self, features):
        ends = Signature(spec(features), spec(features), spec(features))
        graph = from_pair(*tiny.halving([features]), ends).score
        row = np.random.default_rng(features).normal(size=features).astype(np.float32)

        scores = run(graph, np.tile(row, (20, 1)))[0]

        assert len({score.tobytes() for score in scores}) == 1
        np.testing.assert_allclose(scores[0], np.square(row / 2).mean(), rtol=1e-6)

    def test_features_with_scales_of_their_own_are_scored_by_them(self):
        scale = (1.0, 10.0, 0.5, 2.0)
        given = spec(4, scale=scale)
        graphs = from_pair(*tiny.keeping(4, 2), Signature(given, spec(2), given))

        by_hand = np.square(ROWS[:, 2:] / scale[2:]).sum(axis=1) / 4
        np.testing.assert_allclose(run(graphs.score, ROWS)[0], by_hand, rtol=1e-6)
        by_numpy = mean_squared_error(ROWS, run(graphs.reconstruct, ROWS)[0], width=given.width)
        np.testing.assert_allclose(by_numpy, by_hand, rtol=1e-6)

    def test_a_byte_picture_is_scored_by_the_width_of_its_range(self):
        given = spec(4, dtype="uint8", range=(0, 255))
        half = tiny.graph(
            [tiny.node("Mul", ["z", "half"], ["y"])],
            ("z", "float32", [4]),
            [("y", "float32", [4])],
            {"half": np.array(0.5, np.float32)},
        )
        rows = np.random.default_rng(0).integers(0, 256, (5, 4), np.uint8)

        graphs = from_pair(
            tiny.casting("x", "z", "uint8", "float32"),
            half,
            Signature(given, spec(4), spec(4)),
        )

        by_numpy = mean_squared_error(rows, run(graphs.reconstruct, rows)[0], width=255)
        np.testing.assert_allclose(run(graphs.score, rows)[0], by_numpy, rtol=1e-6)
        assert by_numpy.max() < 0.25

    def test_the_score_of_a_picture_is_the_mean_over_all_its_axes(self):
        picture = spec(1, None, None)
        rows = np.random.default_rng(1).random((3, 1, 5, 6), np.float32)

        graphs = from_pair(*tiny.halving_pictures(), Signature(picture, picture, picture))

        by_hand = np.square(rows / 2).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(run(graphs.score, rows)[0], by_hand, rtol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize(
        "data", [b"", b"not an ONNX file at all", b"\x00" * 20, b"{}"], ids=repr
    )
    def test_bytes_that_are_not_a_graph(self, data):
        with pytest.raises(PackageError):
            from_pair(data, None, SIGNATURE)

    def test_damage_anywhere_is_never_anything_but_a_fault_of_the_package(self):
        random = np.random.default_rng(0)
        encoder, decoder = tiny.keeping(4, 2)
        refused = 0
        for _ in range(150):
            damaged = np.frombuffer(encoder, np.uint8).copy()
            damaged[random.integers(len(damaged), size=2)] = random.integers(256, size=2)
            try:
                from_pair(damaged.tobytes(), decoder, SIGNATURE)
            except PackageError:
                refused += 1

        assert refused > 75

    def test_an_opset_that_nobody_knows(self):
        encoder, decoder = tiny.keeping(4, 2)
        old = edited(encoder, lambda model: setattr(model.opset_import[0], "version", 0))

        with pytest.raises(PackageError, match="opset 0"):
            from_pair(old, decoder, SIGNATURE)

    def test_weights_in_another_file(self):
        encoder, decoder = tiny.keeping(4, 2)

        def move_out(model):
            tensor = model.graph.initializer[0]
            onnx.external_data_helper.set_external_data(tensor, "weights.bin")
            tensor.ClearField("raw_data")

        with pytest.raises(PackageError, match="another file"):
            from_pair(edited(encoder, move_out), decoder, SIGNATURE)

    @pytest.mark.parametrize("where", ["constant", "body"])
    def test_weights_in_another_file_that_an_inner_part_reads(self, where):
        outside = helper.make_tensor("outside", TensorProto.FLOAT, [4], b"\0" * 16, raw=True)
        onnx.external_data_helper.set_external_data(outside, "weights.bin")
        outside.ClearField("raw_data")

        def add_constant(model):
            nodes = model.graph.node
            if where == "body":
                nodes = nodes[-1].attribute[0].g.node
            nodes.insert(0, tiny.node("Constant", [], ["unused"], value=outside))

        with pytest.raises(PackageError, match="another file"):
            from_pair(edited(tiny.branching("x", "z"), add_constant), None, WIDE_CODE)

    def test_two_inputs(self):
        encoder, decoder = tiny.keeping(4, 2)
        second = helper.make_tensor_value_info("second", TensorProto.FLOAT, ["batch", 1])

        with pytest.raises(PackageError, match="2 inputs and 1 outputs"):
            from_pair(
                edited(encoder, lambda model: model.graph.input.append(second)), decoder, SIGNATURE
            )

    def test_a_graph_that_gives_its_input_back_without_a_node(self):
        def short_cut(model):
            model.graph.output[0].name = "x"

        encoder, decoder = tiny.keeping(4, 2)

        with pytest.raises(PackageError, match="without a node"):
            from_pair(edited(encoder, short_cut), decoder, SIGNATURE)

    @pytest.mark.parametrize(
        ("signature", "message"),
        [
            (Signature(spec(5), spec(2), spec(4)), r"input is \[4\] in the graph, \[5\] in the"),
            (Signature(spec(4), spec(3), spec(4)), r"code is \[2\] in the graph, \[3\] in the"),
            (Signature(spec(4), spec(2), spec(2, 2)), r"reconstruction is \[4\] in the graph"),
            (Signature(spec(None), spec(2), spec(4)), r"input is \[4\] in the graph, \[\?\]"),
            (Signature(spec(4, dtype="float64"), spec(2), spec(4)), "input is float32 in the"),
            (Signature(spec(4), spec(2, dtype="int64"), spec(4)), "code is float32 in the"),
            (Signature(spec(4), None, spec(4)), "does not describe the code"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_manifest_that_promises_something_else(self, signature, message):
        with pytest.raises(PackageError, match=message):
            from_pair(*tiny.keeping(4, 2), signature)

    def test_an_encoder_and_a_decoder_that_do_not_meet(self):
        encoder, _ = tiny.keeping(4, 2)
        _, decoder = tiny.keeping(4, 3)

        with pytest.raises(PackageError, match="code"):
            from_pair(encoder, decoder, SIGNATURE)

    def test_a_batch_axis_of_fixed_length(self):
        def fix(model):
            dimension = model.graph.input[0].type.tensor_type.shape.dim[0]
            dimension.dim_value = 8

        encoder, decoder = tiny.keeping(4, 2)

        with pytest.raises(PackageError, match="batch axis fixed at 8"):
            from_pair(edited(encoder, fix), decoder, SIGNATURE)

    def test_an_output_without_any_axis(self):
        lonely = tiny.graph(
            [tiny.node("ReduceSum", ["x"], ["z"], keepdims=0)],
            ("x", "float32", [4]),
            [("z", "float32", [])],
        )

        def drop_axes(model):
            model.graph.output[0].type.tensor_type.shape.ClearField("dim")

        with pytest.raises(PackageError, match="no batch axis"):
            from_pair(edited(lonely, drop_axes), None, SIGNATURE)

    def test_an_output_without_a_shape(self):
        def forget_shape(model):
            model.graph.output[0].type.tensor_type.ClearField("shape")

        encoder, decoder = tiny.keeping(4, 2)

        with pytest.raises(PackageError, match="no shape"):
            from_pair(edited(encoder, forget_shape), decoder, SIGNATURE)


class TestControlFlow:
    def test_a_loop_is_control_flow(self):
        assert has_control_flow(tiny.slow()[0])

    def test_a_branch_is_control_flow(self):
        assert has_control_flow(tiny.branching("x", "z"))

    def test_a_branch_in_a_function_is_control_flow_once_the_function_is_folded_in(self):
        branch = onnx.load_model_from_string(tiny.branching("a", "b"))
        function = helper.make_function(
            "local",
            "Branch",
            ["a"],
            ["b"],
            [
                tiny.node("Constant", [], ["zero"], value_float=0.0),
                *branch.graph.node,
            ],
            [helper.make_opsetid("", 18)],
        )

        def call(model):
            model.functions.append(function)
            model.opset_import.append(helper.make_opsetid("local", 1))
            del model.graph.node[:]
            model.graph.node.append(tiny.node("Branch", ["x"], ["z"], domain="local"))

        graphs = from_pair(edited(tiny.branching("x", "z"), call), None, WIDE_CODE)

        assert graphs.encode is not None
        assert has_control_flow(graphs.encode)
        np.testing.assert_array_equal(run(graphs.encode, np.abs(ROWS))[0], np.abs(ROWS) * 2)

    def test_a_plain_graph_has_none(self):
        assert not has_control_flow(tiny.keeping(4, 2)[0])
