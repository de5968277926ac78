"""Deadlines of requests to a model that would compute for hours, and what is left of its run.

Times are what is promised here, so these tests look at the clock. A machine that does something
else meanwhile can delay any one answer: the promise has to be kept in one of several rounds, and
in none may an answer be late by a second. What was measured is printed: ``pytest -rP``.
"""

import time
from datetime import datetime, timedelta
from threading import Thread
from typing import Any

import numpy as np
import pytest

from benchmarks.proc import PROC, cpu_s
from tests import tiny
from tests.api.asgi import Answer
from tests.api.wire import problem, url
from tests.e2e.client import WAYS, Client, make_known, number, request, until, until_rows_wait
from tests.e2e.server import process

pytestmark = pytest.mark.slow

FEATURES = 4
ENCODE = url("dawdling", "encode")
DEADLINES_MS = (50, 100, 200, 500, 1000, 2000)
LATE_S = 0.05
FAR_TOO_LATE_S = 1.0
ROUNDS = 5

# so many turns that no machine is done before the last deadline
ENDLESS = np.array([[1e9, 0.25, 0.5, 0.75]], np.float32)
QUICK = np.array([[0, 0.25, 0.5, 0.75]], np.float32)

# CPU time that the process may use after nobody waits any more: the 100 ms within which a run
# has to end, and as much again for a scrape, the housekeeping and the clock's ticks of 10 ms
CPU_AFTERWARDS_S = 0.2
# a run that goes on would use more of this, even with a sixth of a core
WATCHED_S = 1.5


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dawdling")
    tiny.write(folder, tiny.dawdling(FEATURES), QUICK, name="dawdling", code_shape=(FEATURES,))
    # the estimate of the wait is not to refuse anybody: the runs are far from what was measured
    patience = ("--max-queue-wait-ms", "1e9", "--parallel-runs", "1", "--device", "cpu")
    with process(*patience, models=folder) as server:
        yield server


def encode(rows: np.ndarray, way: str, timeout_ms: int) -> bytes:
    return request(ENCODE, rows.tobytes(), way, x_request_timeout_ms=str(timeout_ms))


class Expiring:
    """A request that will not be answered in time, asked on a connection of its own."""

    def __init__(self, address: str, way: str, timeout_ms: int) -> None:
        self.timeout_ms = timeout_ms
        self.answer = Answer()
        self.took_s = 0.0
        self._client = Client(address)
        self._data = encode(ENDLESS, way, timeout_ms)
        self._thread = Thread(target=self._ask)
        self._thread.start()

    @property
    def lateness_s(self) -> float:
        return self.took_s - self.timeout_ms / 1e3

    def wait(self) -> "Expiring":
        self._thread.join()
        return self

    def _ask(self) -> None:
        started = time.perf_counter()
        with self._client as client:
            self.answer = client.ask(self._data)
        self.took_s = time.perf_counter() - started


def all_at_once(address: str, way: str) -> list[Expiring]:
    """One is in the run and the others wait behind it; who is who is left to chance."""
    asked = [Expiring(address, way, timeout_ms) for timeout_ms in DEADLINES_MS]
    return [each.wait() for each in asked]


def one_by_one(address: str, way: str) -> list[Expiring]:
    """Each is alone in its run when its time is up."""
    return [Expiring(address, way, timeout_ms).wait() for timeout_ms in DEADLINES_MS]


@pytest.mark.parametrize("ask", [all_at_once, one_by_one])
@pytest.mark.parametrize("way", WAYS)
def test_a_deadline_is_answered_when_it_passes(server, way, ask):
    make_known(server.url, *(encode(QUICK, way, timeout_ms) for timeout_ms in DEADLINES_MS))

    for _ in range(ROUNDS):
        ended = ask(server.url, way)
        lateness = [each.lateness_s for each in ended]
        print("late by", ", ".join(f"{1e3 * late:.1f}" for late in lateness), "ms")  # noqa: T201
        assert [each.answer.status_code for each in ended] == [504] * len(DEADLINES_MS)
        assert min(lateness) >= 0
        assert max(lateness) < FAR_TOO_LATE_S
        if max(lateness) < LATE_S:
            break
    else:
        pytest.fail(f"in none of {ROUNDS} rounds were all deadlines answered within {LATE_S} s")
    details = {problem(each.answer)["detail"] for each in ended}
    assert details <= {
        "the deadline passed during the run",
        "the deadline passed in the queue",
    }


@pytest.mark.skipif(not PROC.is_dir(), reason="CPU times are read from /proc")
@pytest.mark.parametrize("way", WAYS)
def test_the_cpu_is_free_once_everybody_in_a_run_has_expired(server, way):
    address = server.url
    deadlines_ms = (1200, 1500, 2500)
    make_known(address, *(encode(QUICK, way, timeout_ms) for timeout_ms in deadlines_ms))
    failed = number(address, "hourglass_requests_total", outcome="failed")
    runs = number(address, "hourglass_batch_rows_count")
    begin = len(server.lines)

    alone = Expiring(address, way, deadlines_ms[0])
    until(lambda: number(address, "hourglass_batch_rows_count") > runs)
    # these two share the next run
    together = [Expiring(address, way, timeout_ms) for timeout_ms in deadlines_ms[1:]]
    until_rows_wait(address, 2)
    ended = [each.wait() for each in (alone, *together)]
    before_s = cpu_s(server.pid)
    time.sleep(WATCHED_S)
    used_s = cpu_s(server.pid) - before_s

    print(f"{1e3 * used_s:.0f} ms of CPU in the {WATCHED_S} s afterwards")  # noqa: T201
    assert [each.answer.status_code for each in ended] == [504] * 3
    assert used_s < CPU_AFTERWARDS_S
    # nor is a stopped run taken for one that failed
    assert number(address, "hourglass_requests_total", outcome="failed") == failed
    with Client(address) as client:
        answer = client.ask(encode(QUICK, way, 2000))
    assert answer.content == QUICK.tobytes()
    # the second run went on for the last of its members: there is a second between the deadlines
    stopped = when(server.lines[begin:], "a run was stopped")
    expired = when(server.lines[begin:], "request answered")
    assert len(stopped) == 2
    assert stopped[-1] - expired[1] > timedelta(seconds=0.5)


def when(lines: list[dict[str, Any]], message: str) -> list[datetime]:
    """The times of the lines that begin with *message*."""
    return [
        datetime.fromisoformat(line["time"])
        for line in lines
        if line["message"].startswith(message)
    ]
