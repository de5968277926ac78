"""A body or an answer that takes long does not keep the others waiting.

Each request here is of the costly kind; while it is under way somebody else asks again and again,
one answer after the other, and most of them come before it.
"""

import asyncio
import gzip
import json
import zlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx2
import numpy as np
import pytest

from service.specs import ImageSpec
from tests import tiny
from tests.api import wire
from tests.api.asgi import Connection, running
from tests.api.wire import JSON, PNG, RAW, url

# an answer in the loop would let one or two through: at its body, and at its run
MEANWHILE = 5
TRIES = 5

# between two of them the interpreter is free: a loop that never rests starves threads that let go
# of it often, by 5 ms each time
REST_S = 0.0001

FEATURES = 512

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Costly:
    """A request that takes a while."""

    path: str
    body: bytes
    media: str
    accept: str = JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all tests here, so that they can share a running app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("costly")
    write_models(folder)
    # what a run takes is no matter here, and in the loop it lets nobody through
    async with running(
        folder, run_place="loop", max_queue_wait_ms=60_000, max_json_bytes=1 << 23
    ) as server:
        yield server


def write_models(folder: Path) -> None:
    rng = np.random.default_rng(0)
    wide = rng.random((4, FEATURES), np.float32)
    tiny.write(folder, tiny.keeping(FEATURES, 2), wide, name="wide")
    shape = (1, None, None)
    tiny.write(
        folder,
        tiny.halving_pictures(),
        rng.random((4, 1, 4, 4), np.float32),
        name="any-size",
        shape=shape,
        code_shape=shape,
        value_range=(0, 1),
        image=ImageSpec(),
    )
    tiny.write_picture(folder)


@cache
def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def form(*pictures: bytes) -> tuple[bytes, str]:
    request = httpx2.Request("POST", "http://test", files=wire.form(*pictures))
    return request.read(), request.headers["content-type"]


def json_of_many_numbers() -> Costly:
    """The last row is short, so that nothing is run, and all of it parsed."""
    rows = b"[%s]," % b",".join([b"0"] * FEATURES) * 2000
    return Costly(url("wide", "encode"), b'{"inputs": [%s[0]]}' % rows, JSON, status=422)


def json_of_many_lists() -> Costly:
    """One row of a few hundred thousand lists."""
    row = b"[[0]%s]" % (b",[0]" * 400_000)
    return Costly(url("wide", "encode"), b'{"inputs": [%s]}' % row, JSON, status=422)


def many_pictures() -> Costly:
    picture = wire.picture(np.zeros((4, 4), np.uint8))
    body, media = form(*[picture] * 500, b"none")
    return Costly(url("picture", "encode"), body, media, status=400)


def large_picture() -> Costly:
    body = wire.picture(np.zeros((1500, 1500), np.uint8))
    return Costly(url("any-size", "encode"), body, PNG, RAW)


def compressed(write, encoding: str) -> Costly:
    """What is refused at the byte limit and not earlier, for it expands less than 200-fold."""
    headers = {"content-encoding": encoding}
    expanded = np.random.default_rng(0).bytes(10_000) * 4000
    return Costly(url("wide", "encode"), write(expanded), RAW, RAW, 413, headers)


def large_answer(accept: str, **headers: str) -> Costly:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    rows = noise(1, 1, 1000, 2000)
    shape = {"x-shape": "1,1,1000,2000"}
    return Costly(url("any-size", "reconstruct"), rows.tobytes(), RAW, accept, headers=shape | sent)


CASES = {
    "many numbers in JSON": json_of_many_numbers,
    "many lists in JSON": json_of_many_lists,
    "many pictures in a form": many_pictures,
    "a large picture": large_picture,
    "a gzip bomb": lambda: compressed(gzip.compress, "gzip"),
    "a deflate bomb": lambda: compressed(zlib.compress, "deflate"),
    "a large answer in JSON": lambda: large_answer(JSON),
    "a large answer in JSON as gzip": lambda: large_answer(JSON, accept_encoding="gzip"),
    "a large answer as a picture": lambda: large_answer(PNG),
    "raw rows for who takes gzip alone": lambda: large_answer(
        RAW, accept_encoding="gzip, identity;q=0"
    ),
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
async def test_others_are_answered_meanwhile(server, make):
    costly = make()
    most = 0
    for _ in range(TRIES):  # what else the machine does can only make them fewer
        if most <= MEANWHILE:
            most = max(most, await answered_meanwhile(server, costly))

    assert most > MEANWHILE


async def answered_meanwhile(server, costly: Costly) -> int:
    headers = {"content-type": costly.media, "accept": costly.accept, **costly.headers}
    request = asyncio.create_task(
        server.send("POST", costly.path, Connection([costly.body]), headers)
    )
    meanwhile = 0
    while not request.done():
        assert (await server.send("GET", "/livez")).status_code == 200
        await asyncio.sleep(REST_S)
        meanwhile += 1

    assert request.result().status_code == costly.status
    return meanwhile


async def test_a_quick_request_lets_hardly_anybody_through(server):
    """Or the tests above could not fail."""
    body = json.dumps({"inputs": [[0.5] * FEATURES]}).encode()
    request = asyncio.create_task(
        server.send("POST", url("wide", "encode"), Connection([body]), {"content-type": JSON})
    )
    meanwhile = 0
    while not request.done():
        await server.send("GET", "/livez")
        await asyncio.sleep(REST_S)
        meanwhile += 1

    assert request.result().status_code == 200
    assert meanwhile <= MEANWHILE
