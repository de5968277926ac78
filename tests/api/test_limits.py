"""Limits of bytes, rows, pixels and waiting rows: what is above is refused, what is at it not."""

import asyncio
import gzip
import json
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.api import wire
from tests.api.asgi import Answer, Connection, Server, running, until
from tests.api.conftest import Workshop
from tests.api.wire import JSON, NPY, PNG, RAW, problem, url
from tests.conftest import serve

ROW = [0.25, 0.5, 0.75, 1.0]
ENCODE = url("tabular", "encode")
PICTURE = url("picture", "encode")


@pytest.fixture(scope="module")
def narrow(models) -> Iterator[TestClient]:
    """A server with small limits."""
    with serve(
        models,
        max_body_bytes=400,
        max_json_bytes=200,
        max_request_rows=8,
        max_picture_pixels=100,
    ) as client:
        yield client


async def start(server: Server, workshop: Workshop) -> asyncio.Task[Answer]:
    """Begin a request whose run is held."""
    task = asyncio.create_task(server.post(ENCODE, [ROW]))
    await until(lambda: bool(workshop.batches))
    return task


def body_of(size: int) -> bytes:
    """A JSON body of one row and *size* bytes."""
    plain = json.dumps({"inputs": [ROW]}).encode()
    return plain + b" " * (size - len(plain))


def post(client, content, media=JSON, path=ENCODE, **headers):
    sent = {"content-type": media}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=content, headers=sent)


def chunks(content: bytes) -> Iterator[bytes]:
    """The same without a length in front."""
    for start in range(0, len(content), 64):
        yield content[start : start + 64]


def test_a_json_body_of_the_largest_size_is_taken(narrow):
    assert post(narrow, body_of(200)).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(body_of(201), id="with a length"),
        pytest.param(chunks(body_of(400)), id="without"),
    ],
)
def test_a_json_body_above_it_is_413(narrow, content):
    answer = post(narrow, content)

    assert answer.status_code == 413
    assert problem(answer)["expected"] == "at most 200 bytes"


def test_a_json_limit_above_the_limit_of_bodies_has_no_effect(models):
    with serve(models, max_body_bytes=100, max_json_bytes=1000) as client:
        answer = post(client, body_of(101))

    assert answer.status_code == 413


def test_other_bodies_have_the_larger_limit(narrow):
    array = wire.npy(np.zeros((8, 4), np.float32))
    assert 200 < len(array) <= 400

    assert post(narrow, array, NPY).status_code == 200


def test_a_body_above_the_larger_limit_is_413(narrow):
    answer = post(narrow, b"\0" * 416, RAW)

    assert answer.status_code == 413
    assert problem(answer)["received"] == "416 bytes"


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_what_comes_out_of_compression_counts(narrow, encoding, compress):
    bomb = compress(b"\0" * 100_000)
    assert len(bomb) <= 400

    answer = post(narrow, bomb, RAW, content_encoding=encoding)

    assert answer.status_code == 413
    assert problem(answer)["expected"] == "at most 400 bytes"


def test_what_comes_out_of_compression_may_have_the_largest_size(narrow):
    answer = post(narrow, gzip.compress(body_of(200)), content_encoding="gzip")

    assert answer.status_code == 200


def test_as_many_rows_as_allowed_are_taken(narrow):
    assert post(narrow, b"\0" * 16 * 8, RAW).status_code == 200


def test_a_row_too_many_is_413(narrow):
    answer = post(narrow, b"\0" * 16 * 9, RAW)

    assert answer.status_code == 413
    assert problem(answer)["expected"] == "at most 8 rows"


def test_a_part_too_many_is_413(models):
    files = wire.form(*[wire.picture(np.zeros((4, 4), np.uint8))] * 3)
    with serve(models, max_request_rows=2, max_queue_rows=2) as client:
        answer = client.post(PICTURE, files=files)

    assert answer.status_code == 413
    assert problem(answer)["expected"] == "at most 2 parts"


def test_a_picture_with_too_many_pixels_is_413_whatever_its_size_should_be(narrow):
    picture = wire.picture(np.zeros((11, 10), np.uint8))

    answer = post(narrow, picture, PNG, PICTURE + "?resize=true")

    assert answer.status_code == 413
    assert problem(answer)["received"] == "110 pixels"


def test_a_picture_with_as_many_pixels_as_allowed_is_taken(narrow):
    picture = wire.picture(np.zeros((10, 10), np.uint8))

    assert post(narrow, picture, PNG, PICTURE + "?resize=true").status_code == 200


def vast(width: int, height: int) -> bytes:
    """A PNG that says it is vast and is not."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


@pytest.mark.parametrize("side", [1_000, 10_000, 100_000])
def test_a_picture_that_claims_to_be_vast_is_413_before_it_is_decoded(narrow, side):
    answer = post(narrow, vast(side, side), PNG, PICTURE)

    assert answer.status_code == 413
    problem(answer)


def test_a_contact_sheet_holds_256_pictures(client):
    rows = np.zeros((256, 16), np.float32).tobytes()

    answer = post(client, rows, RAW, url("picture", "reconstruct"), accept=PNG)

    assert wire.pixels(answer.content).shape == (16 * 4 + 15 * 2, 16 * 4 + 15 * 2)


@pytest.mark.parametrize("operation", ["reconstruct", "anomaly-score", "decode"])
def test_more_pictures_than_a_contact_sheet_holds_are_413(client, operation):
    rows = np.zeros((257, 16), np.float32).tobytes()

    answer = post(client, rows, RAW, url("picture", operation), accept=PNG)

    assert answer.status_code == 413
    assert problem(answer)["expected"] == "at most 256 rows"


@pytest.mark.anyio
async def test_the_queue_holds_as_many_rows_as_set_and_refuses_the_next(tabular, workshop):
    async with running(tabular, sessions=workshop, max_queue_rows=6, max_request_rows=6) as server:
        workshop.hold()
        tasks = [await start(server, workshop)]
        tasks += [asyncio.create_task(server.post(ENCODE, [ROW] * 2)) for _ in range(3)]
        await server.until_rows_wait(6)

        refused = await server.post(ENCODE, [ROW])

        workshop.release()
        answers = await asyncio.gather(*tasks)
    assert refused.status_code == 429
    assert [answer.status_code for answer in answers] == [200] * 4


@pytest.mark.anyio
async def test_a_refusal_says_when_to_come_back(tabular, workshop):
    async with running(tabular, sessions=workshop, max_queue_rows=4, max_request_rows=4) as server:
        workshop.hold()
        tasks = [await start(server, workshop)]
        tasks.append(asyncio.create_task(server.post(ENCODE, [ROW] * 4)))
        await server.until_rows_wait(4)

        refused = await server.post(ENCODE, [ROW])

        workshop.release()
        await asyncio.gather(*tasks)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["detail"] == "the queue holds 4 of at most 4 rows"


@pytest.mark.anyio
async def test_there_is_room_again_after_the_run(tabular, workshop):
    async with running(tabular, sessions=workshop, max_queue_rows=1, max_request_rows=1) as server:
        workshop.hold()
        tasks = [await start(server, workshop), asyncio.create_task(server.post(ENCODE, [ROW]))]
        await server.until_rows_wait(1)
        refused = await server.post(ENCODE, [ROW])
        workshop.release()
        await asyncio.gather(*tasks)

        again = await server.post(ENCODE, [ROW])

    assert (refused.status_code, again.status_code) == (429, 200)


@pytest.mark.anyio
async def test_the_queues_of_operations_are_apart(tabular, workshop):
    async with running(tabular, sessions=workshop, max_queue_rows=1, max_request_rows=1) as server:
        workshop.hold()
        tasks = [await start(server, workshop), asyncio.create_task(server.post(ENCODE, [ROW]))]
        await server.until_rows_wait(1)
        tasks.append(asyncio.create_task(server.post(url("tabular", "reconstruct"), [ROW])))
        await server.until("hourglass_queue_rows", 1, operation="reconstruct")

        workshop.release()
        answers = await asyncio.gather(*tasks)

    assert [answer.status_code for answer in answers] == [200] * 3


@pytest.mark.anyio
async def test_a_body_announced_too_long_is_refused_before_it_comes(tabular):
    async with running(tabular, max_body_bytes=100) as server:
        silent = Connection([], is_complete=False)

        answer = await server.send(
            "POST", ENCODE, silent, {"content-type": RAW, "content-length": "101"}
        )

    assert answer.status_code == 413


@pytest.mark.anyio
async def test_a_length_that_lies_does_not_help(tabular):
    async with running(tabular, max_body_bytes=100) as server:
        lying = Connection([b"\0" * 60, b"\0" * 60])

        answer = await server.send(
            "POST", ENCODE, lying, {"content-type": RAW, "content-length": "16"}
        )

    assert answer.status_code == 413
