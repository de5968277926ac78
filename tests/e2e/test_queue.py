"""What waits in front of a device that is held: who gets in, who leaves, and who is next."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from service.inference.providers import Device
from tests import tiny
from tests.api.conftest import Workshop
from tests.api.wire import problem, url
from tests.e2e.client import (
    WAYS,
    Client,
    make_known,
    number,
    request,
    until,
    until_rows_wait,
)
from tests.e2e.embedded import Embedded, embedded
from tests.fakes import FakeSession

FEATURES = 4
ENCODE = url("touchy", "encode")
# the estimate of the wait is not to refuse anybody here: a run may be held for seconds
# clients that are not asked yet stay, however slow the machine is
PATIENT: dict[str, Any] = {
    "max_queue_wait_ms": 1e9,
    "parallel_runs": 1,
    "header_timeout_ms": 600_000,
}
QUEUE_ROWS = 32
SOMETHING = bytes(1 << 15)
NARROW = PATIENT | {"max_queue_rows": QUEUE_ROWS, "max_request_rows": QUEUE_ROWS}


def work(seconds: float) -> None:
    """Take so much of a core, as a model does, and not only of the time."""
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        sha256(SOMETHING)  # which lets others have the interpreter


class Foundry(Workshop):
    """Makes sessions whose rows cost so much each, and keeps the order of all runs."""

    def __init__(self, row_s: float) -> None:
        super().__init__()
        self.row_s = row_s
        self.runs: list[np.ndarray] = []

    def __call__(self, graph: bytes, device: Device) -> FakeSession:
        session = super().__call__(graph, device)
        compute = session.compute

        def at_a_price(rows: np.ndarray) -> tuple[np.ndarray, ...]:
            work(self.row_s * len(rows))
            self.runs.append(rows)
            return compute(rows)

        session.compute = at_a_price
        return session


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models that double their rows, one of four features and one of six."""
    folder = tmp_path_factory.mktemp("models")
    for name, features in (("touchy", FEATURES), ("other", FEATURES + 2)):
        golden = np.ones((1, features), np.float32)
        tiny.write(folder, tiny.touchy(features), golden, name=name, code_shape=(features,))
    return folder


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    made = Workshop()
    yield made
    made.release()


def rows_of(count: int, *, features: int = FEATURES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, features), np.float32)


def encode(rows: np.ndarray, way: str = "short", model: str = "touchy") -> bytes:
    return request(url(model, "encode"), rows.tobytes(), way)


@contextmanager
def clients(server: Embedded, count: int) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Client(server.url)) for _ in range(count)]


def hold(workshop: Workshop, client: Client, data: bytes) -> None:
    """Keep the device busy with a request of *client*, until the workshop releases it."""
    workshop.hold()
    client.send(data)
    until(lambda: bool(workshop.batches))


def make_way(server: Embedded, way: str, *, rows: int = 1) -> None:
    """See that requests of so many rows go *way*."""
    data = encode(rows_of(rows), way)
    make_known(server.url, data)
    assert server.knows(data) == (way == "short")


@pytest.mark.parametrize("way", WAYS)
def test_rows_of_clients_that_have_left_are_not_run(models, workshop, way):
    rows = rows_of(100, seed=1)
    with embedded(models, sessions=workshop, **PATIENT) as server:
        make_way(server, way)
        with Client(server.url) as holder, Client(server.url) as last:
            hold(workshop, holder, encode(rows[0], way))
            with clients(server, len(rows)) as leavers:
                for client, row in zip(leavers, rows, strict=True):
                    client.send(encode(row, way))
                until_rows_wait(server.url, len(rows))
            until_rows_wait(server.url, 0)
            gone = number(server.url, "hourglass_requests_total", outcome="client_gone")

            workshop.release()
            answers = [holder.receive(), last.ask(encode(rows[0], way))]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert gone == len(rows)
    # that of the holder and that of the last; a batch more would still be what is promised
    assert [len(batch) for batch in workshop.batches] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_of_n_and_k_rows_exactly_k_are_refused_by_a_queue_of_n(models, workshop, way):
    refusals = []
    with (
        embedded(models, sessions=workshop, **NARROW) as server,
        Client(server.url) as holder,
        clients(server, QUEUE_ROWS + 64) as senders,
    ):
        make_way(server, way)
        for excess in range(1, 65):
            sent = rows_of(QUEUE_ROWS + excess, seed=excess)
            refused_before = refused(server)
            hold(workshop, holder, encode(sent[0], way))
            for client, row in zip(senders, sent, strict=False):
                client.send(encode(row, way))
            until_rows_wait(server.url, QUEUE_ROWS)
            until_refused(server, refused_before + excess)
            workshop.release()
            answers = [client.receive() for client, _ in zip(senders, sent, strict=False)]
            holder.receive()

            refusals.append([answer for answer in answers if answer.status_code == 429])
            for row, answer in zip(sent, answers, strict=True):
                assert answer.status_code == 429 or answer.content == (row + row).tobytes()

    assert [len(each) for each in refusals] == list(range(1, 65))
    assert all(int(answer.headers["retry-after"]) >= 1 for each in refusals for answer in each)
    assert problem(refusals[0][0])["detail"].startswith("the queue holds 32 of at most 32 rows")


def refused(server: Embedded) -> float:
    return number(server.url, "hourglass_requests_total", outcome="rejected", model="touchy")


def until_refused(server: Embedded, count: float) -> None:
    until(lambda: refused(server) == count)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [2, 3, 5, 7, 31, 32])
def test_rows_are_counted_and_not_requests(models, workshop, way, size):
    fitting, rest = divmod(QUEUE_ROWS, size)
    excess = 5
    with (
        embedded(models, sessions=workshop, **NARROW) as server,
        Client(server.url) as holder,
        Client(server.url) as small,
        clients(server, fitting + excess) as senders,
    ):
        make_way(server, way, rows=size)
        hold(workshop, holder, encode(rows_of(1), way))
        for client in senders:
            client.send(encode(rows_of(size), way))
        until_rows_wait(server.url, QUEUE_ROWS - rest)
        until_refused(server, excess)
        if rest:  # what is too much for them is room for a smaller one
            small.send(encode(rows_of(rest), way))
            until_rows_wait(server.url, QUEUE_ROWS)
        with Client(server.url) as too_late:
            full = too_late.ask(encode(rows_of(1), way))
        workshop.release()
        answers = [client.receive().status_code for client in senders]
        if rest:
            answers.append(small.receive().status_code)
        holder.receive()

    assert full.status_code == 429
    assert answers.count(429) == excess
    assert answers.count(200) == fitting + bool(rest)


def test_large_requests_are_cut_and_small_ones_overtake_them(models):
    """All are in the queue before the first run, so the runs alone say what happened."""
    # two milliseconds, the most that a run is to take while others wait, are four rows
    foundry = Foundry(row_s=5e-4)
    largest = 128
    large, small = 3, 40
    sizes = [512] * large + [1] * small
    # a row says in its second feature which request it belongs to
    sent = [np.full((size, FEATURES), job, np.float32) for job, size in enumerate(sizes)]
    for rows in sent:
        rows[:, 0] = np.arange(len(rows)) % 9
    with (
        embedded(models, sessions=foundry, max_batch_rows=largest, **PATIENT) as server,
        Client(server.url) as holder,
        clients(server, len(sent)) as senders,
    ):
        foundry.runs.clear()
        senders[0].ask(encode(sent[0]))
        alone = [len(run) for run in foundry.runs]
        # by a run of the other model: one that is held would be thought to be slow
        hold(foundry, holder, encode(rows_of(1, features=FEATURES + 2), model="other"))
        foundry.runs.clear()
        for job, (client, rows) in enumerate(zip(senders, sent, strict=True)):
            client.send(encode(rows))
            if job < large:  # they are there before any small one
                until_rows_wait(server.url, 512 * (job + 1))
        until_rows_wait(server.url, sum(sizes))
        foundry.release()
        answers = [client.receive() for client in senders]
        holder.receive()

    assert set(alone) == {largest}
    assert all(
        answer.content == (rows + rows).tobytes()
        for answer, rows in zip(answers, sent, strict=True)
    )
    runs = [run[:, 1].astype(int) for run in foundry.runs[1:]]
    left_before = left_before_each(runs, sizes)
    beside_others = [
        len(run) for run, left in zip(runs, left_before, strict=True) if np.count_nonzero(left) > 1
    ]
    # a good deal more than four, for a machine that was disturbed when it measured
    assert max(beside_others) <= largest / 2
    # the oldest has a quarter of each run while there are small ones that could have more of it
    before_small = [
        run for run, left in zip(runs, left_before[1:], strict=False) if left[large:].any()
    ]
    for run in before_small:
        assert np.bincount(run, minlength=large)[:large].max() <= -(-len(run) // 4)
    # of rows all in all no more, on a machine so busy that runs are of one row, too
    of_all = np.concatenate([[], *before_small])
    assert np.count_nonzero(of_all < large) <= (len(of_all) + 3) / 4


def left_before_each(runs: list[np.ndarray], sizes: list[int]) -> list[np.ndarray]:
    """Give the rows of each request that still waited when each run was made."""
    left = [np.array(sizes)]
    for run in runs:
        left.append(left[-1] - np.bincount(run, minlength=len(sizes)))
    assert not left.pop().any()
    return left


def test_a_model_with_long_runs_lets_another_have_its_turn(models):
    """Thirty long runs are in the line before the other model's requests come."""
    foundry = Foundry(row_s=5e-3)
    long, other = 30, 8
    with (
        embedded(models, sessions=foundry, max_batch_rows=1, **PATIENT) as server,
        Client(server.url) as holder,
        clients(server, long) as first,
        clients(server, other) as second,
    ):
        hold(foundry, holder, encode(rows_of(1)))
        foundry.runs.clear()
        for client in first:
            client.send(encode(rows_of(1)))
        until_rows_wait(server.url, long)
        rows = rows_of(1, features=FEATURES + 2)
        for client in second:
            client.send(encode(rows, model="other"))
        until_rows_wait(server.url, long + other)
        foundry.release()
        answers = [client.receive().status_code for client in (*second, *first, holder)]

    assert set(answers) == {200}
    is_other = [run.shape[1] == FEATURES + 2 for run in foundry.runs]
    # one turn each, as runs cost the same: with a line of its own it would wait for all thirty
    assert is_other.index(True) <= 2
    last_other = len(is_other) - 1 - is_other[::-1].index(True)
    assert last_other <= 3 * other
