"""The Open Inference Protocol of a real server: one connection, and both protocols at once."""

import asyncio
import gzip
from pathlib import Path

import httpx2
import numpy as np
import pytest

from service.blueprint import make_graphs
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.repository.packages import Location, read_package
from tests.api.tensors import arrays, binary_request, infer_url, json_request, wanted
from tests.api.wire import RAW, sample
from tests.e2e.server import ROOT, process

FOLDER = ROOT / "models" / "mnist-conv" / "2"
INFER = infer_url("mnist-conv")
DECODER = infer_url("mnist-conv.decoder")
WITHIN_S = 30.0

RUNS = "hourglass_batch_rows_count"
OF_ENCODE = {"model": "mnist-conv", "operation": "encode"}


@pytest.fixture(scope="module")
def server():
    with process("--device", "cpu", models=ROOT / "models") as server:
        yield server


@pytest.fixture(scope="module")
def digits():
    pixels = np.load(Path(__file__).parent / "digits.npy")
    return (pixels[:, None] / np.float32(255)).astype(np.float32)


@pytest.fixture(scope="module")
def right(digits):
    """What the graphs give when they are called directly."""
    graphs = make_graphs(read_package(Location("mnist-conv", 2, FOLDER)))
    assert graphs.encode is not None
    assert graphs.reconstruct is not None
    assert graphs.score is not None
    return {
        name: OrtSession(graph, Device()).run(digits)[0]
        for name, graph in (
            ("code", graphs.encode),
            ("reconstruction", graphs.reconstruct),
            ("score", graphs.score),
        )
    }


def test_every_form_of_a_request_has_the_same_bits_on_one_connection(server, digits, right):
    every = wanted("code", "reconstruction", "score", is_binary=True)
    body, headers = binary_request(digits, outputs=every)
    packed = gzip.compress(body)
    pieces = (body[start : start + 10_000] for start in range(0, len(body), 10_000))
    with server.client() as client:
        answers = [
            client.post(INFER, content=body, headers=headers),
            client.post(INFER, content=pieces, headers=headers),
            client.post(INFER, content=packed, headers=headers | {"content-encoding": "gzip"}),
            client.post(INFER, content=json_request(digits, outputs=every)),
            client.post(INFER, content=json_request(digits)),
            client.post(
                INFER, content=digits.tobytes(), headers={"inference-header-content-length": "0"}
            ),
        ]

    for answer in answers:
        got = arrays(answer)
        assert {name: values.tobytes() for name, values in got.items()} == {
            name: values.tobytes() for name, values in right.items()
        }


@pytest.mark.anyio
async def test_both_protocols_at_once_share_runs_and_are_not_mixed_up(server, digits, right):
    def ask(client: httpx2.AsyncClient, number: int):
        row = digits[number % 100][None]
        if number % 2:
            headers = {"content-type": RAW, "accept": RAW}
            return client.post(
                "/v1/models/mnist-conv/encode", content=row.tobytes(), headers=headers
            )
        body, headers = binary_request(row, outputs=wanted("code", is_binary=True))
        return client.post(INFER, content=body, headers=headers)

    many = httpx2.AsyncClient(
        base_url=server.url,
        timeout=WITHIN_S,
        trust_env=False,
        limits=httpx2.Limits(max_connections=32),
    )
    async with many as client:
        before = sample((await client.get("/metrics")).text, RUNS, **OF_ENCODE)
        answers = await asyncio.gather(*(ask(client, number) for number in range(400)))
        after = sample((await client.get("/metrics")).text, RUNS, **OF_ENCODE)

    for number, answer in enumerate(answers):
        code = answer.content if number % 2 else arrays(answer)["code"].tobytes()
        assert code == right["code"][number % 100].tobytes()
    assert after - before < 400


def test_an_error_is_one_text_and_the_connection_goes_on(server, digits):
    with server.client() as client:
        broken = client.post(INFER, content=b"{")
        body, headers = binary_request(digits[:1, :, :, 0].copy(), name="code")
        wrong = client.post(DECODER, content=body, headers=headers)
        good = client.post(INFER, content=json_request(digits[:1], outputs=wanted("score")))

    assert (broken.status_code, wrong.status_code, good.status_code) == (400, 422, 200)
    assert broken.json().keys() == wrong.json().keys() == {"error"}
