"""Reading files of others: weights in other files, damage, and paths that lead astray."""

import os
from hashlib import sha256

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from service.errors import PackageError
from service.inference.external import Beside
from service.inference.foreign import keep_outputs, random_operators, read_foreign
from service.inference.probing import Probe
from tests import foreign

ROWS = np.random.default_rng(3).normal(size=(3, 12)).astype(np.float32)


def write(folder, data, name="foreign.onnx"):
    path = folder / name
    path.write_bytes(data)
    return path


def outside(folder, location="weights.bin", **changes):
    """A dense model whose weights lie in another file, with *changes* of what it says of them."""
    model = onnx.load_model_from_string(foreign.dense())
    onnx.save_model(
        model,
        str(folder / "foreign.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    model = onnx.load(str(folder / "foreign.onnx"), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            wanted = {"location": location, **changes}
            entry.value = str(wanted.get(entry.key, entry.value))
    return write(folder, model.SerializeToString())


class TestWeightsOutside:
    def test_they_are_taken_in(self, tmp_path):
        found = read_foreign(outside(tmp_path))

        assert not any(
            external_data_helper.uses_external_data(t) for t in found.model.graph.initializer
        )
        inside = Probe(onnx.load_model_from_string(foreign.dense()), ["y"]).run(ROWS)["y"]
        np.testing.assert_array_equal(Probe(found.model, ["y"]).run(ROWS)["y"], inside)
        assert "weights were taken in from weights.bin" in found.notes
        data = (tmp_path / "weights.bin").read_bytes()
        assert found.facts.beside == (Beside("weights.bin", sha256(data).hexdigest(), len(data)),)

    @pytest.mark.parametrize(
        "location",
        [
            "../secret.bin",
            "../../etc/passwd",
            "/etc/passwd",
            "a/../../secret.bin",
            "..\\secret",
            "",
        ],
    )
    def test_a_path_out_of_the_folder_is_refused_before_it_is_opened(self, tmp_path, location):
        inner = tmp_path / "inner"
        inner.mkdir()
        (tmp_path / "secret.bin").write_bytes(bytes(4096))

        with pytest.raises(PackageError, match="outside the folder"):
            read_foreign(outside(inner, location))

    @pytest.mark.parametrize("name", ["link.bin", "folder/weights.bin"])
    def test_links_are_not_followed(self, tmp_path, name):
        inner, other = tmp_path / "inner", tmp_path / "other"
        inner.mkdir()
        other.mkdir()
        path = outside(inner, name)
        (inner / "weights.bin").rename(other / "weights.bin")
        (inner / "link.bin").symlink_to(other / "weights.bin")
        (inner / "folder").symlink_to(other, target_is_directory=True)

        with pytest.raises(PackageError, match="is a link"):
            read_foreign(path)

    def test_a_pipe_is_not_waited_for(self, tmp_path):
        path = outside(tmp_path, "pipe")
        os.mkfifo(tmp_path / "pipe")

        with pytest.raises(PackageError, match="not a regular file"):
            read_foreign(path)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(PackageError, match=r"'gone\.bin', which holds weights, is missing"):
            read_foreign(outside(tmp_path, "gone.bin"))

    @pytest.mark.parametrize(
        "changes", [{"offset": 1 << 40}, {"offset": -1}, {"length": 1 << 40}, {"length": "many"}]
    )
    def test_no_more_is_read_than_is_there(self, tmp_path, changes):
        with pytest.raises(PackageError, match=r"bytes|whole offset"):
            read_foreign(outside(tmp_path, **changes))

    def test_a_weight_of_terabytes_is_refused_by_its_shape(self, tmp_path):
        path = outside(tmp_path)
        model = onnx.load(str(path), load_external_data=False)
        model.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]

        with pytest.raises(PackageError, match="2 GiB"):
            read_foreign(write(tmp_path, model.SerializeToString()))


class TestPlainForm:
    def test_old_opsets_are_brought_up_and_answers_stay(self, tmp_path):
        found = read_foreign(write(tmp_path, foreign.dense(opset=9, ir_version=4)))

        assert found.facts.opsets == {"ai.onnx": 9}
        assert found.facts.ir_version == 4
        assert "opset 9 was brought up to 18" in found.notes
        before = Probe(found.original, ["y"]).run(ROWS)["y"]
        np.testing.assert_allclose(Probe(found.model, ["y"]).run(ROWS)["y"], before, rtol=1e-6)

    def test_weights_that_are_listed_as_inputs_are_none(self, tmp_path):
        model = onnx.load_model_from_string(foreign.dense(ir_version=3, opset=9))
        model.graph.input.extend(
            onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
            for t in model.graph.initializer
        )

        found = read_foreign(write(tmp_path, model.SerializeToString()))

        assert [value.name for value in found.inputs] == ["x"]

    def test_functions_are_inlined(self, tmp_path):
        found = read_foreign(write(tmp_path, foreign.with_functions()))

        assert not found.model.functions
        assert {node.domain for node in found.model.graph.node} == {""}

    def test_what_a_left_out_output_needed_goes_with_it(self, tmp_path):
        found = read_foreign(write(tmp_path, foreign.variational()))

        kept = keep_outputs(found, ["y"])

        assert [value.name for value in kept.outputs] == ["y"]
        assert "log_variance" not in {n for node in kept.model.graph.node for n in node.output}
        assert "outputs left out: code, log_variance" in kept.notes


class TestRandomOperators:
    def test_a_sample_on_the_way_is_seen(self, tmp_path):
        found = read_foreign(write(tmp_path, foreign.variational(draws=True)))

        assert random_operators(keep_outputs(found, ["y"])) == ["RandomNormalLike"]
        assert random_operators(keep_outputs(found, ["log_variance"])) == []

    @pytest.mark.parametrize(("training", "named"), [(True, ["Dropout"]), (False, [])])
    def test_dropout_counts_in_training_alone(self, tmp_path, training, named):
        net = foreign.Net(4)
        mode = net.constant(np.array(training))
        net("Dropout", "x", net.constant(np.float32(0.5)), mode, name="y")

        assert random_operators(read_foreign(write(tmp_path, net.model(("y", [4]))))) == named

    def test_batch_normalisation_in_training_is_named(self, tmp_path):
        net = foreign.Net(4)
        names = ["y", "mean", "variance"]
        given = [net.constant(np.ones(4, np.float32)) for _ in range(4)]
        net.several("BatchNormalization", "x", *given, names=names, training_mode=1)

        found = random_operators(read_foreign(write(tmp_path, net.model(("y", [4])))))
        assert found == ["BatchNormalization in training mode"]


class TestDamage:
    @pytest.mark.parametrize("data", [b"", b"no onnx", bytes(100), b"\xff" * 50, b"{}"])
    def test_what_is_no_onnx_file_is_called_that(self, tmp_path, data):
        with pytest.raises(PackageError, match="not an ONNX file"):
            read_foreign(write(tmp_path, data))

    def test_a_file_that_is_not_there_is_named_as_it_was_typed(self, tmp_path):
        with pytest.raises(PackageError, match=r"gone\.onnx cannot be read"):
            read_foreign(tmp_path / "gone.onnx")

    def test_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(PackageError, match="is not a file"):
            read_foreign(tmp_path)

    def test_text_of_the_file_comes_without_control_characters(self, tmp_path):
        net = foreign.Net(4)
        net("Nonsense\x1b[2J" + "x" * 500, "x", name="y")

        with pytest.raises(PackageError) as caught:
            read_foreign(write(tmp_path, net.model(("y", [4]))))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
