"""Twenty ends under load: whoever's request was accepted gets an answer.

What is promised can be tested where a client knows that it holds:

* A request on a connection that has given an answer without ``Connection: close`` is accepted
  when it is written. No answer to it is a loss.
* A request on a new connection is accepted when the process takes the connection. Linux tells
  whether it has. Where nobody has looked: if the connection is closed without an answer, that is
  a loss; if it is *reset* and the next one is refused, the listener was closed while the
  connection was still in the kernel's queue.
* A connection that is silent for longer than the server waits for last requests may be closed
  just as one is on its way; HTTP has no way to avoid it. The clients here are quicker, and one
  that the machine has kept from writing is told apart by its clock.

Beside that, whatever the server has logged as answered has to arrive. What became of all requests
is printed: ``pytest -rP``.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, RemoteDisconnected
from pathlib import Path
from threading import Lock, Thread

import numpy as np
import pytest

from service.inference.providers import Device
from service.inference.session import OrtSession
from service.server import LAST_REQUESTS_S
from tests import tiny
from tests.api.wire import url
from tests.e2e.client import WAYS, Client, make_known, number, request, until
from tests.e2e.server import Process

pytestmark = pytest.mark.slow

FEATURES = 4
ROUNDS = 10
CLIENTS = 4  # of each model, each way
DELAY_S = 0.1
OPTIONS = (
    *("--drain-delay-ms", f"{1e3 * DELAY_S:g}", "--access-log", "--device", "cpu"),
    # what a request waits for on a busy machine is not what is tested
    *("--max-queue-wait-ms", "1e9", "--request-timeout-ms", "600000", "--parallel-runs", "1"),
)
# so long that not all who wait for the slow model are answered when connections are closed
SLOW_RUN_S = 0.12
# whoever writes within this has written while the server still reads
QUICK_S = LAST_REQUESTS_S / 2
# so long that the end of the listener finds some connections without a request
SILENCE_S = 0.03
SOCKETS = Path("/proc/net/tcp")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model that doubles its rows, and one that takes as long as the client says."""
    folder = tmp_path_factory.mktemp("models")
    golden = np.ones((1, FEATURES), np.float32)
    shape = (FEATURES,)
    tiny.write(folder, tiny.touchy(FEATURES), golden, name="touchy", code_shape=shape)
    pair = tiny.dawdling(FEATURES)
    tiny.write(folder, pair, golden, name="dawdling", code_shape=shape, max_batch_rows=1)
    return folder


@pytest.fixture(scope="module")
def slow_row():
    """A row that the second model turns for *SLOW_RUN_S* on this machine."""
    session = OrtSession(tiny.dawdling(FEATURES)[0], Device())
    row = np.array([[10_000, 0.25, 0.5, 0.75]], np.float32)
    took_s = []
    for _ in range(3):
        started = time.perf_counter()
        session.run(row)
        took_s.append(time.perf_counter() - started)
    row[0, 0] *= SLOW_RUN_S / min(took_s)
    return np.rint(row)


class Tally:
    """Counts what became of the requests of one round."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def add(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def __getitem__(self, what: str) -> int:
        return self._counts[what]

    def __str__(self) -> str:
        return ", ".join(f"{number} {what}" for what, number in sorted(self._counts.items()))

    @property
    def losses(self) -> dict[str, int]:
        return {what: n for what, n in self._counts.items() if what.startswith("lost")}


class Caller:
    """Asks the same again and again, until the server takes no connection any more.

    Args:
        address: Of the server.
        data: The request.
        wanted: What is right in its answer.
        tally: Where it counts what becomes of it.
        hurries: Whether it writes as soon as it is connected. Who does not sees first that the
            connection is taken, and is silent for a moment.
    """

    def __init__(
        self, address: str, data: bytes, wanted: bytes, tally: Tally, *, hurries: bool
    ) -> None:
        self._address = address
        self._data = data
        self._wanted = wanted
        self._tally = tally
        self._hurries = hurries
        self._thread = Thread(target=self._call)
        self._thread.start()

    def wait(self) -> None:
        self._thread.join()

    def _call(self) -> None:
        goes_on = True
        while goes_on:
            silent_since = time.monotonic()
            try:
                client = Client(self._address)
            except ConnectionError:
                return
            with client:
                goes_on = self._use(client, silent_since)

    def _use(self, client: Client, silent_since: float) -> bool:
        """Ask until the server announces the connection's end; ``False`` when it does not."""
        is_taken = not self._hurries and self._rest(client)
        silence_s = None
        while True:
            try:
                client.send(self._data)
                silence_s = time.monotonic() - silent_since
                answer = client.receive()
            except (OSError, HTTPException) as error:
                self._tally.add(self._verdict(error, silence_s, is_taken=is_taken))
                return False
            is_right = answer.status_code == 200 and answer.content == self._wanted
            self._tally.add("answered" if is_right else f"lost: {answer}")
            if answer.headers.get("connection") == "close":
                self._tally.add("announced")
                return True
            is_taken, silence_s, silent_since = True, None, time.monotonic()

    @staticmethod
    def _rest(client: Client) -> bool:
        """Be silent on a new connection, and tell whether the process took it meanwhile."""
        is_taken = False
        end = time.monotonic() + SILENCE_S
        while time.monotonic() < end:
            is_taken = is_taken or belongs_to_a_process(client)
            time.sleep(SILENCE_S / 10)
        return is_taken

    def _verdict(self, error: Exception, silence_s: float | None, *, is_taken: bool) -> str:
        """Tell a loss from what is left open by what acceptance means."""
        if silence_s is None:
            return "never written"
        if silence_s >= QUICK_S:
            return "written too late"
        is_reset = isinstance(error, ConnectionError) and not isinstance(error, RemoteDisconnected)
        if not is_taken and is_reset and self._is_refused():
            return "never accepted"
        return f"lost: {error!r}, {'taken' if is_taken else 'not known to be taken'}"

    def _is_refused(self) -> bool:
        try:
            Client(self._address).close()
        except ConnectionError:
            return True
        return False


def belongs_to_a_process(client: Client) -> bool:
    """Whether the server's end of a connection has left the listener's queue, where Linux tells.

    In the queue it has no inode yet.
    """
    if not SOCKETS.exists():
        return False
    ours, theirs = (b"%04X" % port for port in client.ports)
    # both addresses, six fields between, the inode
    line = rb":%b \w{8}:%b (?:\S+ +){6}(\d+)" % (theirs, ours)
    found = re.search(line, SOCKETS.read_bytes())
    return found is not None and found[1] != b"0"


@contextmanager
def one_after_another(models: Path) -> Iterator[Iterator[Process]]:
    """Give one server after another; the next one starts while the last one is used."""
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(*OPTIONS, models=models))
        return started[-1]

    def servers() -> Iterator[Process]:
        upcoming = start()
        while True:
            server, upcoming = upcoming, start()
            server.wait_until_ready()
            yield server

    try:
        yield servers()
    finally:
        for server in started:
            server.kill()


def encode(model: str, row: np.ndarray, way: str) -> bytes:
    return request(url(model, "encode"), row.tobytes(), way)


def start_callers(address: str, rows: dict[str, np.ndarray], tally: Tally) -> list[Caller]:
    """Let clients of either way ask for the row of each model."""
    callers = []
    for model, row in rows.items():
        wanted = (row + row if model == "touchy" else row).tobytes()
        for way in WAYS:
            data = encode(model, row, way)
            callers += [
                Caller(address, data, wanted, tally, hurries=bool(client % 2))
                for client in range(CLIENTS)
            ]
    return callers


def answered(server: Process) -> list[datetime]:
    """When the server has answered rows, by its own log."""
    return [
        datetime.fromisoformat(line["time"])
        for line in server.lines
        if line.get("route", "").endswith("/encode") and line["status"] == 200
    ]


def is_loaded(server: Process, tally: Tally, rows: dict[str, np.ndarray]) -> bool:
    """Whether answers come, and rows of a slow model wait for their turn."""
    waiting = number(server.url, "hourglass_queue_rows", model="dawdling", operation="encode")
    return tally["answered"] > 10 * CLIENTS and ("dawdling" not in rows or waiting > 1)


def test_no_accepted_request_is_lost_in_ten_ends_under_load(models, slow_row):
    quick_row = np.array([[1, 0.25, 0.5, 0.75]], np.float32)
    known = [encode(model, quick_row, way) for model in ("touchy", "dawdling") for way in WAYS]
    at_the_last = 0
    with one_after_another(models) as servers:
        for turn, server in zip(range(ROUNDS), servers, strict=False):
            # every other time the quick model alone: then the loop has no rest at all
            rows = {"touchy": quick_row} | ({"dawdling": slow_row} if turn % 2 else {})
            tally = Tally()
            make_known(server.url, *known)
            callers = start_callers(server.url, rows, tally)
            until(lambda: is_loaded(server, tally, rows))  # noqa: B023 - waited for here
            time.sleep(0.007 * turn)  # that the signal comes at another moment every time
            signalled = datetime.now(UTC)
            server.terminate()
            status = server.wait()
            for caller in callers:
                caller.wait()

            print(tally)  # noqa: T201
            times = answered(server)
            closed = signalled + timedelta(seconds=DELAY_S + LAST_REQUESTS_S)
            at_the_last += sum(time > closed for time in times)
            assert status == 0
            assert tally.losses == {}
            assert tally["announced"] > 0
            # the first three of each kind of request were not the callers'
            assert len(times) == tally["answered"] + 3 * len(known)
    # some were in the queue still when every connection was told to end
    assert at_the_last > 0
