import pytest
from pydantic import ValidationError

from service.repository.manifest import GraphFiles, Manifest

SHA = "0" * 64
SPEC = {"dtype": "float32", "shape": [4]}
CODE = {"dtype": "float32", "shape": [2]}
RECORD = {"sha256": SHA, "bytes": 1}


def content(**more):
    return {
        "name": "ecg",
        "version": 1,
        "graphs": {"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
        "input": SPEC,
        "code": CODE,
        "output": SPEC,
        "files": {"encoder.onnx": RECORD, "decoder.onnx": RECORD},
        **more,
    }


def whole(**more):
    return content(
        **{
            "graphs": {"autoencoder": "whole.onnx"},
            "code": None,
            "files": {"whole.onnx": RECORD},
            **more,
        }
    )


def test_a_plain_manifest_is_taken():
    manifest = Manifest.model_validate(content())

    assert manifest.graphs.names == ["encoder.onnx", "decoder.onnx"]
    assert manifest.reconstructs


def test_an_encoder_alone_does_not_reconstruct():
    manifest = Manifest.model_validate(content(graphs={"encoder": "encoder.onnx"}, output=None))

    assert not manifest.reconstructs


def test_an_output_of_another_kind_does_not_reconstruct_and_may_have_another_shape():
    manifest = Manifest.model_validate(content(output_kind="a larger picture", output=CODE))

    assert not manifest.reconstructs


def test_a_whole_file_needs_no_code():
    assert Manifest.model_validate(whole()).graphs.names == ["whole.onnx"]


def test_a_whole_file_may_name_its_code():
    graphs = {"autoencoder": "whole.onnx", "code_tensor": "z"}

    assert Manifest.model_validate(whole(graphs=graphs, code=CODE)).code is not None


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        ({}, "give encoder and decoder, or an autoencoder"),
        ({"encoder": "e", "autoencoder": "a"}, "give encoder and decoder, or an autoencoder"),
        ({"decoder": "d"}, "nothing to encode with"),
        ({"encoder": "e", "code_tensor": "z"}, "belongs to an autoencoder file"),
    ],
    ids=["none", "both", "a decoder alone", "a code tensor of a pair"],
)
def test_graphs_come_in_one_of_two_ways(graphs, message):
    with pytest.raises(ValidationError, match=message):
        GraphFiles.model_validate(graphs)


@pytest.mark.parametrize(
    "wrong",
    [
        content(code=None),
        content(output=None),
        content(graphs={"encoder": "encoder.onnx"}),
        content(output=CODE),
        whole(code=CODE),
        whole(output=None),
    ],
    ids=[
        "a pair without a code",
        "a decoder without an output",
        "an output without a decoder",
        "a reconstruction of another shape",
        "a code without a tensor",
        "a whole file without an output",
    ],
)
def test_tensors_follow_from_the_graphs(wrong):
    with pytest.raises(ValidationError, match=r"'code'|'output'|shape of the input"):
        Manifest.model_validate(wrong)


@pytest.mark.parametrize(
    "more",
    [
        {"files": {"encoder.onnx": RECORD}},
        {"golden": {"file": "golden.npz"}},
        {"calibration": {"file": "calibration.npz", "data": "rows", "rows": 9}},
    ],
    ids=["decoder", "golden rows", "calibration"],
)
def test_every_file_in_use_needs_a_checksum(more):
    with pytest.raises(ValidationError, match="no checksum for"):
        Manifest.model_validate(content(**more))


def invariance(*reasons, **more):
    return {
        "invariant": not reasons,
        "largest_batch": 64,
        "depends_on": {"encode": list(reasons), "decode": []},
        "provider": "CPUExecutionProvider",
        "onnxruntime": "1.31.1",
        "machine": "x86_64",
        **more,
    }


def test_every_run_has_the_rows_that_came_unless_the_manifest_asks_for_more():
    plain = Manifest.model_validate(content(max_batch_rows=8))
    fixed = Manifest.model_validate(content(max_batch_rows=8, invariant=True))

    assert (plain.fixed_batch_rows, fixed.fixed_batch_rows) == (None, 8)


def test_a_fixed_batch_needs_its_size():
    with pytest.raises(ValidationError, match="'invariant' needs 'max_batch_rows'"):
        Manifest.model_validate(content(invariant=True))


@pytest.mark.parametrize("reasons", [(), ("size",), ("position", "neighbours")], ids=repr)
def test_what_was_found_of_batches_is_taken(reasons):
    manifest = Manifest.model_validate(content(batch_invariance=invariance(*reasons)))

    assert manifest.batch_invariance is not None
    assert manifest.batch_invariance.depends_on["encode"] == list(reasons)


@pytest.mark.parametrize(
    "wrong",
    [
        invariance(invariant=False),
        invariance("size", invariant=True),
        invariance("weather"),
        invariance(largest_batch=0),
    ],
    ids=["nothing found", "something found", "an unknown reason", "no batch"],
)
def test_a_finding_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValidationError):
        Manifest.model_validate(content(batch_invariance=wrong))


def test_a_promise_against_what_was_found_is_refused():
    promise = {"max_batch_rows": 8, "invariant": True}
    Manifest.model_validate(content(**promise, batch_invariance=invariance()))

    with pytest.raises(ValidationError, match="measured not to hold"):
        Manifest.model_validate(content(**promise, batch_invariance=invariance("neighbours")))


@pytest.mark.parametrize(
    "more",
    [
        {"unheard_of": 1},
        {"name": "No Capitals"},
        {"name": "ecg\n"},
        {"name": ""},
        {"version": 0},
        {"schema_version": 2},
        {"max_batch_rows": 0},
        {"runtime": {"unheard_of": 1}},
        {"runtime": {"device_id": -1}},
        {"runtime": {"intra_op_threads": 0}},
        {"runtime": {"intra_op_threads": "many"}},
        {"runtime": {"cuda_memory_limit_mib": -1}},
        {"runtime": {"cuda_arena_extend": "kSameAsRequested"}},
        {"runtime": {"cuda_conv_search": "slow"}},
        {"files": {"../encoder.onnx": RECORD}},
        {"files": {"folder/encoder.onnx": RECORD}},
        {"files": {".hidden": RECORD}},
        {"graphs": {"encoder": "/etc/passwd"}},
        {"files": {"encoder.onnx": {"sha256": "abc", "bytes": 1}}},
        {"files": {"encoder.onnx": {"sha256": SHA, "bytes": -1}}},
        {"golden": {"file": "encoder.onnx", "tolerance": 0}},
        {"golden": {"file": "encoder.onnx", "tolerance": float("inf")}},
        {"golden": {"file": "encoder.onnx", "tolerance": float("nan")}},
        {"input": {"dtype": "float128", "shape": [4]}},
        {"input": {"dtype": "float32", "shape": [0]}},
        {"input": {"dtype": "float32", "shape": [4], "unheard_of": 1}},
    ],
    ids=repr,
)
def test_what_cannot_be_right_is_refused(more):
    with pytest.raises(ValidationError):
        Manifest.model_validate(content(**more))


def test_what_a_manifest_says_of_its_runs_is_kept_and_the_rest_left_open():
    runtime = Manifest.model_validate(
        content(runtime={"device_id": 1, "intra_op_threads": "auto", "cuda_tf32": True})
    ).runtime

    assert runtime is not None
    assert (runtime.device_id, runtime.intra_op_threads, runtime.cuda_tf32) == (1, "auto", True)
    assert runtime.cuda_conv_search is None


def test_without_a_word_on_runs_nothing_of_them_is_written():
    assert "runtime" not in Manifest.model_validate(content()).model_dump(exclude_none=True)


@pytest.mark.parametrize("runtime", [None, {}, {"cuda_tf32": False}], ids=repr)
def test_a_calibrated_model_may_say_nothing_of_tf32_or_no(runtime):
    files = {**content()["files"], "calibration.npz": RECORD}
    calibration = {"file": "calibration.npz", "data": "rows", "rows": 9}

    Manifest.model_validate(content(files=files, calibration=calibration, runtime=runtime))


def test_a_calibrated_model_may_not_ask_for_tf32():
    files = {**content()["files"], "calibration.npz": RECORD}
    calibration = {"file": "calibration.npz", "data": "rows", "rows": 9}

    with pytest.raises(ValidationError, match="out of their calibration"):
        Manifest.model_validate(
            content(files=files, calibration=calibration, runtime={"cuda_tf32": True})
        )


INNER = {"file": "encoder", "tensor": "relu", "dtype": "float32", "shape": [8]}


def test_inner_tensors_may_be_named_as_layers_and_further_outputs():
    cluster = INNER | {"dtype": "int64", "shape": []}
    manifest = Manifest.model_validate(
        content(layers={"encoder.0": INNER}, further_outputs={"cluster": cluster})
    )

    assert manifest.layers["encoder.0"].spec.shape == (8,)
    assert manifest.further_outputs["cluster"].spec.dtype == "int64"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"layers": {"one": INNER | {"file": "autoencoder"}}}, "there is none"),
        ({"further_outputs": {"codes": INNER}}, "already a field"),
        ({"further_outputs": {"one": INNER | {"file": "decoder"}}}, "the encoder's side"),
        ({"layers": {"../one": INNER}}, "pattern"),
        ({"further_outputs": {"score": INNER}}, "the golden rows"),
        ({"further_outputs": {"file": INNER}}, "the golden rows"),
        (
            {
                "graphs": {"autoencoder": "whole.onnx"},
                "code": None,
                "files": {"whole.onnx": RECORD},
                "layers": {"one": INNER | {"file": "autoencoder"}},
            },
            "have no code",
        ),
    ],
    ids=[
        "no such file",
        "a field of the answer",
        "behind the code",
        "a path",
        "a golden answer",
        "an argument",
        "no code",
    ],
)
def test_inner_tensors_that_cannot_be_given_are_refused(more, message):
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate(content(**more))


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        ({"autoencoder": "whole.onnx", "code_output": "z"}, "belongs to an encoder"),
        ({"encoder": "encoder.onnx", "output": "y"}, "belongs to a decoder or autoencoder"),
    ],
    ids=["code of a whole", "output of an encoder"],
)
def test_an_output_of_a_file_that_there_is_not_is_refused(graphs, message):
    with pytest.raises(ValidationError, match=message):
        GraphFiles.model_validate(graphs)
