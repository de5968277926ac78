"""The open-loop generator: a request goes when it is due, answered or not.

A program of its own, so that it can have a core to itself; it waits by looking at the clock
again and again, because a timer wakes up to a millisecond late.

    python -m benchmarks.generator URL BODY_FILE MEDIA RATE SECONDS
"""

import json
import select
import socket
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from benchmarks.stats import percentile

SEED: Final = 0
MAX_CONNECTIONS: Final = 256
# how long the last answers are waited for
PATIENCE_S: Final = 5.0
# for the server to take up all connections
SETTLE_S: Final = 0.3
CHUNK_BYTES: Final = 65536


def arrivals(rate: float, seconds: float) -> list[float]:
    """Plan a Poisson stream of exactly *rate*: independent users do not come in step."""
    rng = np.random.default_rng(SEED)
    moments = np.cumsum(rng.exponential(size=round(rate * seconds)))
    return [float(moment) for moment in moments * (seconds / moments[-1])]


def make_request(url: str, body: bytes, media: str) -> bytes:
    """Write a whole POST as it goes over the wire."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {media}\r\n"
        f"Accept: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answer_length(received: bytes) -> int | None:
    """Tell how long the answer is that begins with *received*; ``None``: its head is not whole.

    Raises:
        ValueError: It has no Content-Length.
    """
    head, separator, _ = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return len(head) + len(separator) + int(value)
    raise ValueError("an answer without Content-Length")


@dataclass(slots=True, eq=False)
class Connection:
    """A connection with at most one request on its way."""

    socket: socket.socket
    planned: float = 0.0
    unsent: bytes = b""
    received: bytes = b""


@dataclass(slots=True)
class Record:
    """What happened, in seconds from the start.

    Attributes:
        latencies: From the planned moment to the end of the answer.
        lags: From the planned moment until the generator looked at it: its own fault.
        errors: Answers that were no success, and connections that broke.
        last: When the last answer ended.
    """

    latencies: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    errors: int = 0
    last: float = 0.0


class Generator:
    """Sends *request* at the *plan*'s moments over as many connections as it takes.

    With all connections busy a request waits; as it counts from its planned moment, the wait
    is part of its latency, as it would be for a user.
    """

    def __init__(
        self,
        address: tuple[str, int],
        request: bytes,
        plan: Sequence[float],
        *,
        connections: int = MAX_CONNECTIONS,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._address = address
        self._request = request
        self._due = deque(plan)
        self._waiting: deque[float] = deque()
        self._idle: list[Connection] = []
        self._busy: dict[int, Connection] = {}
        self._poll = select.poll()
        self._record = Record()
        self._end = plan[-1] + patience_s
        self._connections = connections

    def run(self) -> Record:
        """Send everything and wait for the answers."""
        self._idle = [self._connect() for _ in range(self._connections)]
        try:
            sleep(SETTLE_S)
            self._follow_the_plan(perf_counter())
        finally:
            for connection in [*self._idle, *self._busy.values()]:
                connection.socket.close()
        # what was never answered is an error, not a missing number
        self._record.errors += len(self._busy) + len(self._waiting) + len(self._due)
        return self._record

    def _follow_the_plan(self, started: float) -> None:
        while self._due or self._waiting or self._busy:
            now = perf_counter() - started
            if now > self._end:
                break
            self._send_what_is_due(now)
            for number, event in self._poll.poll(0):
                self._advance(self._busy[number], event, started)

    def _send_what_is_due(self, now: float) -> None:
        while self._due and self._due[0] <= now:
            planned = self._due.popleft()
            self._record.lags.append(now - planned)
            self._waiting.append(planned)
        while self._waiting and self._idle:
            connection = self._idle.pop()
            connection.planned = self._waiting.popleft()
            connection.unsent, connection.received = self._request, b""
            self._busy[connection.socket.fileno()] = connection
            self._send(connection)

    def _advance(self, connection: Connection, event: int, started: float) -> None:
        try:
            if event & select.POLLOUT:
                self._send(connection)
            if event & ~select.POLLOUT:
                self._receive(connection, started)
        except (OSError, ValueError):
            self._record.errors += 1
            self._release(connection)
            self._idle.remove(connection)
            connection.socket.close()
            self._idle.append(self._connect())

    def _send(self, connection: Connection) -> None:
        sent = connection.socket.send(connection.unsent)
        connection.unsent = connection.unsent[sent:]
        events = select.POLLIN | (select.POLLOUT if connection.unsent else 0)
        self._poll.register(connection.socket, events)

    def _receive(self, connection: Connection, started: float) -> None:
        chunk = connection.socket.recv(CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError
        connection.received += chunk
        length = answer_length(connection.received)
        if length is None or len(connection.received) < length:
            return
        now = perf_counter() - started
        self._record.last = now
        self._record.latencies.append(now - connection.planned)
        self._record.errors += not connection.received.startswith(b"HTTP/1.1 200")
        self._release(connection)

    def _release(self, connection: Connection) -> None:
        self._poll.unregister(connection.socket)
        del self._busy[connection.socket.fileno()]
        self._idle.append(connection)

    def _connect(self) -> Connection:
        made = socket.create_connection(self._address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        return Connection(made)


def main(url: str, body: str, media: str, rate: str, seconds: str) -> None:
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)
    plan = arrivals(float(rate), float(seconds))
    record = Generator(address, make_request(url, Path(body).read_bytes(), media), plan).run()
    latencies = record.latencies or [float("inf")]
    result = {
        "achieved_per_s": len(record.latencies) / record.last if record.last else 0.0,
        "p50_ms": percentile(latencies, 0.5) * 1e3,
        "p99_ms": percentile(latencies, 0.99) * 1e3,
        "lag_p99_ms": percentile(record.lags, 0.99) * 1e3,
        "errors": record.errors,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
