"""Many requests at once: each gets its own answer, and nobody's misfortune is another's."""

import asyncio
import json

import numpy as np
import pytest

from tests.api.asgi import Connection, running, until
from tests.api.wire import JSON, NPY, RAW, url

ROW = [0.25, 0.5, 0.75, 1.0]
ENCODE = url("tabular", "encode")

pytestmark = pytest.mark.anyio


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 4), np.float32)


async def send_raw(server, rows, operation="encode", model="tabular"):
    headers = {"content-type": RAW, "accept": RAW}
    return await server.send("POST", url(model, operation), Connection([rows.tobytes()]), headers)


async def test_a_thousand_clients_each_get_their_own_answer(tabular):
    sent = rows(1000)
    async with running(tabular) as server:
        answers = await asyncio.gather(*(send_raw(server, row) for row in sent))

    got = np.concatenate([np.frombuffer(answer.content, "<f4") for answer in answers])
    assert {answer.status_code for answer in answers} == {200}
    assert np.array_equal(got.reshape(-1, 2), sent[:, :2])


async def test_requests_at_once_share_runs(tabular):
    async with running(tabular) as server:
        await asyncio.gather(*(send_raw(server, row) for row in rows(256)))
        runs = await server.number("hourglass_batch_rows_count", operation="encode")

    assert runs < 64


async def test_requests_of_different_sizes_are_not_mixed_up(tabular):
    rng = np.random.default_rng(2)
    sent = [rows(int(size), seed) for seed, size in enumerate(rng.integers(1, 150, 40))]
    async with running(tabular) as server:
        answers = await asyncio.gather(*(send_raw(server, each) for each in sent))

    for each, answer in zip(sent, answers, strict=True):
        assert answer.content == each[:, :2].tobytes()


async def test_operations_and_formats_at_once_are_not_mixed_up(tabular):
    sent = rows(200)
    operations = ("encode", "reconstruct", "anomaly-score")
    async with running(tabular) as server:
        answers = await asyncio.gather(
            *(send_raw(server, row, operations[n % 3]) for n, row in enumerate(sent)),
            *(server.post(ENCODE, [row.tolist()]) for row in sent),
        )

    for n, (row, answer) in enumerate(zip(sent, answers, strict=False)):
        got = np.frombuffer(answer.content, "<f4")
        wanted = [row[:2], [*row[:2], 0, 0], [np.square(row[2:]).sum() / 4]][n % 3]
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    codes = [answer.json()["codes"][0] for answer in answers[200:]]
    assert np.array_equal(np.array(codes, np.float32), sent[:, :2])


async def test_models_at_once_are_not_mixed_up(zoo):
    sent = np.random.default_rng(0).random((60, 6), np.float32)
    async with running(zoo, required_models=("aged",)) as server:
        alone = {
            v: await server.post(url("aged", "encode", v), sent.tolist()) for v in ("2", "9", "10")
        }
        versions = ["2", "9", "10"] * 20
        answers = await asyncio.gather(
            *(
                server.post(url("aged", "encode", version), [row.tolist()])
                for version, row in zip(versions, sent, strict=True)
            )
        )

    for n, (version, answer) in enumerate(zip(versions, answers, strict=True)):
        assert answer.json()["version"] == version
        np.testing.assert_allclose(
            answer.json()["codes"][0], alone[version].json()["codes"][n], rtol=1e-5, atol=1e-7
        )


async def test_a_bad_body_harms_nobody(tabular):
    sent = rows(64).tolist()
    sent[10], sent[20], sent[30] = [0, 0, 0], [0, 0, 0, 7], ["a", 0, 0, 0]
    async with running(tabular) as server:
        answers = await asyncio.gather(*(server.post(ENCODE, [row]) for row in sent))

    statuses = [answer.status_code for answer in answers]
    assert [n for n, status in enumerate(statuses) if status == 422] == [10, 20, 30]
    assert statuses.count(200) == 61


async def test_a_row_that_fails_harms_nobody_in_its_run(zoo):
    sent = [[n % 9, 0, 0, 0] for n in range(64)]
    sent[17] = [9, 0, 0, 0]
    async with running(zoo, required_models=("poison",)) as server:
        path = url("poison", "encode")
        answers = await asyncio.gather(*(server.post(path, [row]) for row in sent))

    assert [n for n, answer in enumerate(answers) if answer.status_code != 200] == [17]
    assert answers[17].status_code == 500
    codes = [answer.json()["codes"] for answer in answers if answer.status_code == 200]
    assert codes == [[[float(row[0])]] for n, row in enumerate(sent) if n != 17]


async def test_a_client_that_leaves_while_it_waits_is_not_computed_for(tabular, workshop):
    marked = [0.125, 0.125, 0.0, 0.0]
    async with running(tabular, sessions=workshop) as server:
        workshop.hold()
        first = asyncio.create_task(server.post(ENCODE, [ROW]))
        await until(lambda: bool(workshop.batches))
        connection = Connection([json.dumps({"inputs": [marked]}).encode()])
        leaver = asyncio.create_task(
            server.send("POST", ENCODE, connection, {"content-type": JSON})
        )
        mate = asyncio.create_task(server.post(ENCODE, [[0.5, 0.75, 0, 0]]))
        await server.until_rows_wait(2)

        connection.leave()
        left = await leaver
        workshop.release()
        answers = await asyncio.gather(first, mate)

    assert (left.status_code, left.content) == (0, b"")
    assert [answer.json()["codes"] for answer in answers] == [[ROW[:2]], [[0.5, 0.75]]]
    assert not any(
        (batch == np.array(marked, np.float32)).all(1).any() for batch in workshop.batches
    )


async def test_a_client_that_leaves_during_the_run_does_not_disturb_its_mates(tabular, workshop):
    async with running(tabular, sessions=workshop) as server:
        workshop.hold()
        connection = Connection([json.dumps({"inputs": [ROW]}).encode()])
        leaver = asyncio.create_task(
            server.send("POST", ENCODE, connection, {"content-type": JSON})
        )
        mate = asyncio.create_task(server.post(ENCODE, [[0.5, 0.75, 0, 0]]))
        await until(lambda: bool(workshop.batches))

        connection.leave()
        await leaver
        workshop.release()
        answer = await mate

    assert len(workshop.batches[0]) == 2
    assert answer.json()["codes"] == [[0.5, 0.75]]


async def test_a_client_that_leaves_before_its_body_is_complete_gets_nothing(tabular):
    half = Connection([b'{"inputs": [['], is_complete=False)
    half.leave()
    async with running(tabular) as server:
        left = await server.send("POST", ENCODE, half, {"content-type": JSON})
        gone = await server.number("hourglass_requests_total", outcome="client_gone")

    assert left.status_code == 0
    assert gone == 1


async def test_a_full_queue_harms_nobody_who_is_in_it(tabular, workshop):
    sent = rows(12).tolist()
    async with running(tabular, sessions=workshop, max_queue_rows=4, max_request_rows=4) as server:
        workshop.hold()
        first = asyncio.create_task(server.post(ENCODE, [ROW]))
        await until(lambda: bool(workshop.batches))
        tasks = [asyncio.create_task(server.post(ENCODE, [row])) for row in sent]
        await server.until_rows_wait(4)

        workshop.release()
        answers = await asyncio.gather(first, *tasks)

    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (5, 8)
    for row, answer in zip(sent, answers[1:5], strict=False):
        assert np.array_equal(
            np.array(answer.json()["codes"][0], np.float32), np.array(row[:2], np.float32)
        )


async def test_a_request_that_expires_harms_nobody(tabular, workshop):
    async with running(tabular, sessions=workshop) as server:
        workshop.hold()
        first = asyncio.create_task(server.post(ENCODE, [ROW]))
        await until(lambda: bool(workshop.batches))
        mate = asyncio.create_task(server.post(ENCODE, [[0.5, 0.75, 0, 0]]))
        expired = await server.post(ENCODE, [ROW], x_request_timeout_ms="20")

        workshop.release()
        answers = await asyncio.gather(first, mate)

    assert expired.status_code == 504
    assert [answer.json()["codes"] for answer in answers] == [[ROW[:2]], [[0.5, 0.75]]]


async def test_at_the_end_everybody_who_is_in_is_answered(tabular, workshop):
    async with running(tabular, sessions=workshop) as server:
        workshop.hold()
        tasks = [asyncio.create_task(server.post(ENCODE, [ROW])) for _ in range(3)]
        await until(lambda: bool(workshop.batches))
        asyncio.get_running_loop().call_later(0.02, workshop.release)

    answers = await asyncio.gather(*tasks)
    assert [answer.status_code for answer in answers] == [200] * 3


async def test_whoever_is_not_answered_within_the_drain_timeout_is_told_so(tabular, workshop):
    async with running(tabular, sessions=workshop, drain_timeout_ms=20) as server:
        workshop.hold()
        task = asyncio.create_task(server.post(ENCODE, [ROW]))
        await until(lambda: bool(workshop.batches))

    workshop.release()
    answer = await task
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


async def test_a_slow_body_holds_nobody_up(tabular):
    async with running(tabular) as server:
        slow = Connection([b'{"inputs": [['], is_complete=False)
        waiting = asyncio.create_task(server.send("POST", ENCODE, slow, {"content-type": JSON}))
        answer = await server.post(ENCODE, [ROW], accept=NPY)
        slow.leave()
        await waiting

    assert answer.status_code == 200
