"""The real app over the real ONNX Runtime, many batches of which each has a row that fails it."""

import asyncio

import numpy as np
import pytest

from tests import tiny
from tests.api.asgi import Answer, Connection, Server, running
from tests.api.wire import RAW, problem, url

FEATURES = 4
ENCODE = url("touchy", "encode")
BATCH_ROWS = 32
BATCHES = 1000

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(scope="module")
def touchy(tmp_path_factory):
    """A repository with a model that doubles its rows and fails on those that begin with 9."""
    folder = tmp_path_factory.mktemp("touchy")
    golden = np.ones((1, FEATURES), np.float32)
    tiny.write(folder, tiny.touchy(FEATURES), golden, name="touchy", code_shape=(FEATURES,))
    return folder


async def send(server: Server, rows: np.ndarray) -> Answer:
    headers = {"content-type": RAW, "accept": RAW}
    return await server.send("POST", ENCODE, Connection([rows.tobytes()]), headers)


def is_doubled(answer: Answer, rows: np.ndarray) -> bool:
    """Whether every bit of the answer is right: doubling a float is exact."""
    return answer.status_code == 200 and answer.content == (rows + rows).tobytes()


async def batches_of(server: Server) -> tuple[float, float]:
    """The number of runs and their rows, without those that looked for a culprit."""
    name = "hourglass_batch_rows"
    return await server.number(f"{name}_count"), await server.number(f"{name}_sum")


@pytest.mark.parametrize(("place", "batches"), [("loop", BATCHES), ("thread", BATCHES // 5)])
async def test_of_every_batch_only_the_request_with_the_bad_row_fails(touchy, place, batches):
    rng = np.random.default_rng(4)
    altered, spared = [], []
    async with running(touchy, run_place=place, max_batch_rows=BATCH_ROWS) as server:
        for number in range(batches):
            sent = rng.random((BATCH_ROWS, 1, FEATURES), np.float32)
            bad = int(rng.integers(BATCH_ROWS))
            sent[bad, 0, 0] = 9

            answers = await asyncio.gather(*(send(server, rows) for rows in sent))

            failed = answers.pop(bad)
            good = np.delete(sent, bad, axis=0)
            if failed.status_code != 500 or problem(failed).get("row") != 0:
                spared.append(number)
            if not all(map(is_doubled, answers, good)):
                altered.append(number)
        # that each 32 requests really were one batch is the point
        counted = await batches_of(server)

    assert counted == (batches, batches * BATCH_ROWS)
    assert (altered, spared) == ([], [])


async def test_the_bad_rows_of_larger_requests_are_named_by_their_place(touchy):
    rng = np.random.default_rng(5)
    wrong = []
    async with running(touchy, max_batch_rows=BATCH_ROWS) as server:
        for number in range(BATCHES // 10):
            sizes = [int(size) for size in rng.integers(1, 2 * BATCH_ROWS, 8)]
            sent = [rng.random((size, FEATURES), np.float32) for size in sizes]
            culprits = {int(job): int(rng.integers(sizes[job])) for job in rng.integers(8, size=2)}
            for job, row in culprits.items():
                sent[job][row, 0] = 9

            answers = await asyncio.gather(*(send(server, rows) for rows in sent))

            failed = {
                job: problem(answer).get("row")
                for job, answer in enumerate(answers)
                if answer.status_code == 500
            }
            right = [job for job in range(8) if is_doubled(answers[job], sent[job])]
            if failed != culprits or len(right) + len(failed) != len(sent):
                wrong.append((number, culprits, failed, right))

    assert wrong == []
