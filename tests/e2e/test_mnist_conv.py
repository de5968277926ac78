"""The bundled digits model through a real server, against ONNX Runtime called directly."""

import asyncio
import io
import json
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from service.blueprint import make_graphs
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.repository.packages import Location, read_package
from tests.e2e.server import ROOT, process

FOLDER = ROOT / "models" / "mnist-conv" / "2"
PATH = "/v1/models/mnist-conv"
NPY = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
RAW = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}


@pytest.fixture(scope="module")
def server():
    with process("--device", "cpu", models=ROOT / "models") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def digits():
    """The first hundred digits of the MNIST test set, as rows of the model."""
    pixels = np.load(Path(__file__).parent / "digits.npy")
    return (pixels[:, None] / np.float32(255)).astype(np.float32)


@pytest.fixture(scope="module")
def graphs():
    return make_graphs(read_package(Location("mnist-conv", 2, FOLDER)))


def directly(graph, rows):
    return OrtSession(graph, Device()).run(rows)[0]


def npy(rows):
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue()


def ask(client, operation, rows):
    answer = client.post(f"{PATH}/{operation}", content=npy(rows), headers=NPY)
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))


OPERATIONS = ["encode", "decode", "reconstruct", "anomaly-score"]


def case(graphs, digits, operation):
    """Rows for an operation, and what ONNX Runtime makes of them."""
    rows = digits[:50]
    if operation == "decode":
        rows = directly(graphs.encode, rows)
    graph = graphs.score if operation == "anomaly-score" else getattr(graphs, operation)
    return rows, directly(graph, rows)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_npy_answers_have_the_bits_of_onnx_runtime(client, graphs, digits, operation):
    rows, expected = case(graphs, digits, operation)

    answer = ask(client, operation, rows)

    np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_raw_answers_have_the_bits_of_onnx_runtime(client, graphs, digits, operation):
    rows, expected = case(graphs, digits, operation)

    answer = client.post(f"{PATH}/{operation}", content=rows.tobytes(), headers=RAW)

    assert answer.content == expected.tobytes()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_json_answers_read_back_as_the_same_float32(client, graphs, digits, operation):
    rows, expected = case(graphs, digits, operation)
    fields = {"encode": "codes", "anomaly-score": "scores"}

    answer = client.post(f"{PATH}/{operation}", json={"inputs": rows.tolist()}).json()

    values = np.array(answer[fields.get(operation, "reconstructions")], np.float32)
    np.testing.assert_array_equal(values, expected)


def test_decode_of_encode_is_reconstruct(client, digits):
    decoded = ask(client, "decode", ask(client, "encode", digits))

    np.testing.assert_allclose(decoded, ask(client, "reconstruct", digits), atol=1e-6)


def test_the_score_is_what_a_client_computes_from_the_reconstruction(client, digits):
    errors = (digits - ask(client, "reconstruct", digits)).astype(np.float64) ** 2

    scores = ask(client, "anomaly-score", digits)

    np.testing.assert_allclose(scores, errors.mean(axis=(1, 2, 3)), atol=1e-6)


def test_a_picture_of_a_digit_comes_back_as_a_picture_of_it(client):
    picture = (ROOT / "docs/pictures/seven.png").read_bytes()
    headers = {"Content-Type": "image/png", "Accept": "image/png"}

    answer = client.post(f"{PATH}/reconstruct", content=picture, headers=headers)

    before, after = (np.asarray(Image.open(io.BytesIO(data))) for data in (picture, answer.content))
    assert after.shape == before.shape == (28, 28)
    assert np.mean((before / 255 - after / 255) ** 2) < 0.01


def test_a_picture_a_form_json_npy_and_raw_give_one_score(client, digits):
    path, row = f"{PATH}/anomaly-score", digits[:1]
    picture = (ROOT / "docs/pictures/seven.png").read_bytes()

    answers = [
        client.post(path, content=picture, headers={"Content-Type": "image/png"}),
        client.post(path, files=[("file", ("seven.png", picture, "image/png"))]),
        client.post(path, json={"inputs": row.tolist()}),
        client.post(path, content=npy(row), headers={"Content-Type": NPY["Content-Type"]}),
        client.post(path, content=row.tobytes(), headers={"Content-Type": RAW["Content-Type"]}),
    ]

    assert len({json.dumps(answer.json()) for answer in answers}) == 1


@pytest.mark.slow
def test_a_thousand_concurrent_requests_each_get_their_own_answer(server, graphs, digits):
    rng = np.random.default_rng(5)
    rows = np.clip(np.tile(digits, (10, 1, 1, 1)) * rng.random((1000, 1, 1, 1)), 0, 1)
    rows = rows.astype(np.float32)

    async def send_all():
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx2.AsyncClient(
            base_url=server.url, limits=limits, timeout=60, trust_env=False
        ) as client:
            answers = [
                client.post(f"{PATH}/encode", content=row.tobytes(), headers=RAW) for row in rows
            ]
            return await asyncio.gather(*answers)

    answers = asyncio.run(send_all())

    got = np.array([np.frombuffer(answer.content, np.float32) for answer in answers])
    np.testing.assert_array_equal(got, directly(graphs.encode, rows))


def test_the_card_names_what_serves_and_what_was_measured(client):
    card = client.get(PATH).json()

    assert card["operations"] == OPERATIONS
    assert card["placement"]["provider"] == "CPUExecutionProvider"
    assert (card["code_size"], card["compression_ratio"]) == (32, 24.5)
    assert card["quality"]["mse"] <= 0.0046 < card["quality"]["pca"]["mse"]


def rows_of(client, rows, batch=1000):
    return np.concatenate(
        [ask(client, "anomaly-score", rows[at : at + batch]) for at in range(0, len(rows), batch)]
    )


@pytest.fixture(scope="module")
def data(request):
    folder = request.config.getoption("--data")
    if folder is None:
        pytest.skip("needs --data FOLDER with mnist/ and bsds500/")
    return folder


@pytest.mark.slow
def test_the_test_set_gives_the_recorded_error_and_few_false_alarms(client, data):
    from training.data import mnist  # noqa: PLC0415 - only with the data

    rows = mnist.as_rows(mnist.load(data / "mnist")["test"].images)
    card = client.get(PATH).json()

    scores = rows_of(client, rows)

    share = (scores > np.float32(card["calibration"]["thresholds"]["mse"]["0.01"])).mean()
    print(f"\ntest MSE {scores.mean(dtype=float):.6f}, called anomalous {share:.2%}")  # noqa: T201
    assert scores.mean(dtype=float) == pytest.approx(card["quality"]["mse"], abs=1e-6)
    assert scores.mean(dtype=float) <= 0.0046
    assert share <= 0.015


@pytest.mark.slow
def test_cut_outs_of_photographs_are_called_anomalous(client, data):
    from training.data.photographs import cut_outs  # noqa: PLC0415 - only with the data

    pixels = cut_outs(data / "bsds500" / "train", rows=10_000, side=28, seed=0)
    rows = (pixels[:, None] / np.float32(255)).astype(np.float32)
    card = client.get(PATH).json()

    scores = rows_of(client, rows)

    threshold = np.float32(card["calibration"]["thresholds"]["mse"]["0.01"])
    missed = rows[scores <= threshold]
    share, brightness = 1 - len(missed) / len(rows), missed.mean() if len(missed) else 0
    print(f"\ncalled anomalous {share:.2%}, mean brightness of the missed {brightness:.3f}")  # noqa: T201
    assert share >= 0.95
