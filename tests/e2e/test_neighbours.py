"""Requests that share runs over kept connections: what is wrong with one is nobody else's."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event, Thread

import numpy as np
import pytest

from tests import tiny
from tests.api.asgi import Answer
from tests.api.wire import problem, url
from tests.e2e.client import WAYS, Client, make_known, number, request
from tests.e2e.server import process

pytestmark = pytest.mark.slow

FEATURES = 4
ENCODE = url("touchy", "encode")
AT_ONCE = 32
TURNS = 20_000  # of a loop: some 30 ms, so that clients are quick beside it


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    golden = np.ones((1, FEATURES), np.float32)
    shape = (FEATURES,)
    tiny.write(folder, tiny.touchy(FEATURES), golden, name="touchy", code_shape=shape)
    # of the other model every request is a run of its own
    pair = tiny.dawdling(FEATURES)
    tiny.write(folder, pair, golden, name="dawdling", code_shape=shape, max_batch_rows=1)
    options = ("--max-queue-wait-ms", "1e9", "--parallel-runs", "1", "--max-batch-rows", "32")
    with process(*options, "--device", "cpu", models=folder) as server:
        yield server


@contextmanager
def clients(address: str, count: int) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Client(address)) for _ in range(count)]


def rows_of(rng: np.random.Generator, count: int = AT_ONCE) -> np.ndarray:
    return rng.random((count, 1, FEATURES), np.float32)


def is_doubled(answer: Answer, rows: np.ndarray) -> bool:
    """Whether every bit of the answer is right: doubling a float is exact."""
    return answer.status_code == 200 and answer.content == (rows + rows).tobytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_fails_its_run_fails_its_request_alone(server, way):
    rng = np.random.default_rng(6)
    wrong = []
    make_known(server.url, request(ENCODE, rows_of(rng, 1).tobytes(), way))
    with clients(server.url, AT_ONCE) as kept:
        for turn in range(100):
            sent = rows_of(rng)
            bad = int(rng.integers(AT_ONCE))
            sent[bad, 0, 0] = 9

            for client, rows in zip(kept, sent, strict=True):
                client.send(request(ENCODE, rows.tobytes(), way))
            answers = [client.receive() for client in kept]

            failed = answers.pop(bad)
            good = map(is_doubled, answers, np.delete(sent, bad, axis=0))
            if failed.status_code != 500 or problem(failed).get("row") != 0 or not all(good):
                wrong.append(turn)

    assert wrong == []


@dataclass(frozen=True)
class Wrong:
    """A request that cannot be answered with 200.

    Attributes:
        make: Writes it, from rows that are right.
        status: Of its answer; without one its client leaves.
    """

    make: Callable[[np.ndarray, str], bytes]
    status: int | None = None


def not_a_number(rows: np.ndarray, way: str) -> bytes:
    rows[0, 1] = np.nan
    return request(ENCODE, rows.tobytes(), way)


def too_short(rows: np.ndarray, way: str) -> bytes:
    return request(ENCODE, rows.tobytes()[:-3], way)


def of_no_rows(rows: np.ndarray, way: str) -> bytes:
    return request(ENCODE, b"", way)


def with_an_unknown_option(rows: np.ndarray, way: str) -> bytes:
    return request(f"{ENCODE}?colour=red", rows.tobytes(), way)


def with_a_strange_deadline(rows: np.ndarray, way: str) -> bytes:
    return request(ENCODE, rows.tobytes(), way, x_request_timeout_ms="soon")


def failing(rows: np.ndarray, way: str) -> bytes:
    rows[0, 0] = 9
    return request(ENCODE, rows.tobytes(), way)


def right(rows: np.ndarray, way: str) -> bytes:
    return request(ENCODE, rows.tobytes(), way)


def half(rows: np.ndarray, way: str) -> bytes:
    return right(rows, way)[: -rows.nbytes // 2]


WRONG = (
    Wrong(not_a_number, 422),
    Wrong(too_short, 422),
    Wrong(of_no_rows, 422),
    Wrong(with_an_unknown_option, 422),
    Wrong(with_a_strange_deadline, 400),
    Wrong(failing, 500),
    Wrong(right),
    Wrong(half),
)


@pytest.mark.parametrize("way", WAYS)
def test_wrong_requests_and_leavers_among_others_disturb_nobody(server, way):
    rng = np.random.default_rng(7)
    make_known(server.url, right(rows_of(rng, 1)[0], way))
    statuses, altered = set(), 0
    with clients(server.url, AT_ONCE) as kept, clients(server.url, len(WRONG)) as odd:
        for turn in range(50):
            sent = rows_of(rng)
            # each wrong one after some that are right, in another place every time
            places = sorted(rng.integers(AT_ONCE, size=len(WRONG)))
            for place, (client, rows) in enumerate(zip(kept, sent, strict=True)):
                client.send(right(rows, way))
                for each in np.flatnonzero(np.array(places) == place):
                    which = (int(each) + turn) % len(WRONG)
                    misbehave(odd[which], WRONG[which], rows_of(rng, 1)[0], way)
            altered += sum(
                not is_doubled(client.receive(), rows)
                for client, rows in zip(kept, sent, strict=True)
            )
            statuses |= {
                (wrong.make.__name__, wrong.status, problem(client.receive())["status"])
                for wrong, client in zip(WRONG, odd, strict=True)
                if wrong.status is not None
            }

    assert altered == 0
    assert {name for name, wanted, got in statuses if wanted != got} == set()
    assert len(statuses) == sum(wrong.status is not None for wrong in WRONG)


def misbehave(client: Client, wrong: Wrong, rows: np.ndarray, way: str) -> None:
    client.send(wrong.make(rows, way))
    if wrong.status is None:
        client.come_back()


@pytest.mark.parametrize("way", WAYS)
def test_a_busy_model_with_long_runs_does_not_keep_another_waiting(server, way):
    """Eight clients of the one always wait, and one of the other asks twenty times in turn.

    Each time it waits for the run that is on, whatever stands in line: one run a question, and
    some more on a machine where the client is slow to ask again. In a line for all it would be
    eight, and for ever if the busy model went on until nobody waited.
    """
    slow, asked = 8, 20
    rng = np.random.default_rng(8)
    rows = rows_of(rng, 1)[0]
    go_on = Event()
    go_on.set()
    lazy = request(url("dawdling", "encode"), dawdler().tobytes(), way)
    make_known(server.url, right(rows, way))

    def keep_asking() -> None:
        with Client(server.url) as client:
            while go_on.is_set():
                client.ask(lazy)

    threads = [Thread(target=keep_asking) for _ in range(slow)]
    for thread in threads:
        thread.start()
    with Client(server.url) as client:
        client.ask(right(rows, way))
        before = runs(server.url)
        answers = [client.ask(right(rows, way)) for _ in range(asked)]
        between = runs(server.url) - before
    go_on.clear()
    for thread in threads:
        thread.join()

    assert all(is_doubled(answer, rows) for answer in answers)
    assert between < asked * slow / 2


def dawdler() -> np.ndarray:
    return np.array([[TURNS, 0.25, 0.5, 0.75]], np.float32)


def runs(address: str) -> float:
    return number(address, "hourglass_batch_rows_count", model="dawdling")
