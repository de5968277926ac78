"""``infer`` against ONNX Runtime called directly: the same bits, whatever is asked together."""

from itertools import combinations
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests import tiny
from tests.api.tensors import arrays, binary_request, infer_url, json_request, wanted
from tests.conftest import serve

ROWS = np.random.default_rng(23).random((7, 6), np.float32)
PICTURES = np.random.default_rng(24).random((3, 1, 28, 28), np.float32)
NAMES = ("code", "reconstruction", "score")
SUBSETS = [names for size in (1, 2, 3) for names in combinations(NAMES, size)]
BUNDLED = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    tiny.write(folder, tiny.mixing(6, 3), ROWS[:2], name="mixed", code_shape=(3,))
    with serve(folder) as client:
        yield client


@pytest.fixture(scope="module")
def bundled():
    with serve(BUNDLED) as client:
        yield client


def run(graph: bytes, rows: np.ndarray) -> np.ndarray:
    """What the runtime gives when nobody stands between."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: rows})[0]
    return found


def direct(encoder: bytes, decoder: bytes, rows: np.ndarray) -> dict[str, np.ndarray]:
    code = run(encoder, rows)
    reconstruction = run(decoder, code)
    error = np.square(rows - reconstruction).reshape(len(rows), -1).mean(axis=1)
    return {"code": code, "reconstruction": reconstruction, "score": error}


def check(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Codes and reconstructions to the bit; scores are defined to 1e-6 relative."""
    for name, values in got.items():
        if name == "score":
            np.testing.assert_allclose(values, wanted[name], rtol=1e-6)
        else:
            assert values.tobytes() == wanted[name].tobytes()


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
@pytest.mark.parametrize("is_binary", [False, True], ids=["json", "binary"])
def test_every_subset_in_every_form_is_what_the_runtime_gives(client, names, is_binary):
    outputs = wanted(*names, is_binary=is_binary)
    body, headers = binary_request(ROWS, outputs=outputs)
    if not is_binary:
        body, headers = json_request(ROWS, outputs=outputs), {}

    got = arrays(client.post(infer_url("mixed"), content=body, headers=headers))

    assert tuple(got) == names
    check(got, direct(*tiny.mixing(6, 3), ROWS))


def test_the_decoder_is_what_the_runtime_gives(client):
    encoder, decoder = tiny.mixing(6, 3)
    codes = run(encoder, ROWS)
    body, headers = binary_request(codes, name="code")

    got = arrays(client.post(infer_url("mixed.decoder"), content=body, headers=headers))

    assert got["reconstruction"].tobytes() == run(decoder, codes).tobytes()


@pytest.mark.parametrize("names", [*NAMES, ""])
def test_the_bundled_model_gives_what_the_runtime_gives(bundled, names):
    files = BUNDLED / "mnist-conv" / "2"
    outputs = wanted(names) if names else []
    body, headers = binary_request(
        PICTURES, outputs=outputs, parameters={"binary_data_output": True}
    )

    got = arrays(bundled.post(infer_url("mnist-conv"), content=body, headers=headers))

    encoder, decoder = ((files / f"{part}.onnx").read_bytes() for part in ("encoder", "decoder"))
    check(got, direct(encoder, decoder, PICTURES))


def test_a_score_has_the_same_bits_alone_and_with_others(client):
    def scores(*names):
        body, headers = binary_request(ROWS, outputs=wanted(*names, is_binary=True))
        return arrays(client.post(infer_url("mixed"), content=body, headers=headers))["score"]

    assert scores("score").tobytes() == scores("score", "code").tobytes()
