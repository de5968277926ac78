"""The open-loop generator: a request goes when it is due, answered or not.

A program of its own, so that it can have a core to itself; it waits by looking at the clock
again and again, because a timer wakes up to a millisecond late.

    python -m benchmarks.generator URL BODY_FILE MEDIA RATE SECONDS [--timeout-ms MS]
        [--connections N] [--beside BODY_FILE]
"""

import argparse
import gc
import json
import re
import select
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from benchmarks.stats import percentile

SEED: Final = 0
MAX_CONNECTIONS: Final = 256
# how long the last answers are waited for
PATIENCE_S: Final = 5.0
# for the server to take up all connections
SETTLE_S: Final = 0.3
# more than a listener's backlog would be dropped, and come again a second later
CONNECT_AT_ONCE: Final = 256
CONNECT_PAUSE_S: Final = 0.05
# at most this much is read or sent at a time, so that a large body delays no small request
CHUNK_BYTES: Final = 65536
# how long to sleep at most when nothing is due any more
LAST_ANSWERS_S: Final = 0.01
# the line that tells that all planned moments are over
SENT: Final = "sent"
OK: Final = 200
REFUSED: Final = 429

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_STATUS: Final = slice(9, 12)


def arrivals(rate: float, seconds: float) -> list[float]:
    """Plan a Poisson stream of exactly *rate*: independent users do not come in step."""
    rng = np.random.default_rng(SEED)
    moments = np.cumsum(rng.exponential(size=round(rate * seconds)))
    return [float(moment) for moment in moments * (seconds / moments[-1])]


def make_request(url: str, body: bytes, media: str, more: Mapping[str, str] | None = None) -> bytes:
    """Write a whole POST as it goes over the wire; *more* are further headers."""
    parts = urlsplit(url)
    headers = {"Host": parts.netloc, "Content-Type": media, "Accept": media, **(more or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {parts.path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def answer_length(received: bytes) -> int | None:
    """Tell how long the answer is that begins with *received*; ``None``: its head is not whole.

    Raises:
        ValueError: It has no Content-Length.
    """
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = _LENGTH.search(received, 0, head)
    if length is None:
        raise ValueError("an answer without Content-Length")
    return head + 4 + int(length[1])


@dataclass(slots=True, eq=False)
class Connection:
    """A connection with at most one request on its way."""

    socket: socket.socket
    is_busy: bool = False
    planned: float = 0.0
    sent: float = 0.0
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytes = b""


class Answer(NamedTuple):
    """One answer; its moments in seconds from the start."""

    status: int
    planned: float
    sent: float
    ended: float


@dataclass(slots=True)
class Record:
    """What happened.

    Attributes:
        answers: In the order of their ends.
        lags: Seconds from each planned moment until the generator looked at it: its own fault.
        broken: Connections that broke under a request.
        unsent: Requests that never went, for want of a free connection or of time.
        unanswered: Requests without an answer in the end.
        beside: Answers to the other stream.
    """

    answers: list[Answer] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    broken: int = 0
    unsent: int = 0
    unanswered: int = 0
    beside: int = 0

    @property
    def latencies(self) -> list[float]:
        """From the planned moments to the ends of the answers."""
        return [answer.ended - answer.planned for answer in self.answers]

    @property
    def errors(self) -> int:
        refused = sum(answer.status != OK for answer in self.answers)
        return refused + self.broken + self.unsent + self.unanswered


class Generator:
    """Sends *request* at the *plan*'s moments over as many connections as it takes.

    Args:
        address: Of the server.
        request: As it goes over the wire.
        plan: Moments in seconds from the start.
        connections: How many may be open.
        patience_s: How long the last answers are waited for.
        gives_up_s: Without it a request waits while all connections are busy, and the wait is
            part of its latency, as it would be for a user. With it a request does not go when
            none is free, or when it would go this much too late: the load stays the planned one.
        beside: Another request, sent again and again on a connection of its own.
        on_sent: Called when all planned moments are over.
    """

    def __init__(
        self,
        address: tuple[str, int],
        request: bytes,
        plan: Sequence[float],
        *,
        connections: int = MAX_CONNECTIONS,
        patience_s: float = PATIENCE_S,
        gives_up_s: float | None = None,
        beside: bytes = b"",
        on_sent: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = address
        self._request = request
        self._due = deque(plan)
        self._end = plan[-1] + patience_s
        self._connections = connections
        self._gives_up_s = gives_up_s
        self._beside_request = beside
        self._on_sent = on_sent
        self._waiting: deque[float] = deque()
        self._open: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self._busy = 0
        self._beside: Connection | None = None
        self._epoll = select.epoll()
        self._record = Record()

    def run(self) -> Record:
        """Send everything and wait for the answers."""
        try:
            self._open_all()
            started = perf_counter()
            self._start_beside()
            self._follow_the_plan(started)
            self._on_sent()
            self._wait_for_answers(started)
        finally:
            for connection in self._open.values():
                connection.socket.close()
            self._epoll.close()
        # what was never answered is an error, not a missing number
        self._record.unanswered = self._busy + len(self._waiting) + len(self._due)
        return self._record

    def _open_all(self) -> None:
        for number in range(1, self._connections + 1):
            self._idle.append(self._connect())
            if number % CONNECT_AT_ONCE == 0:
                sleep(CONNECT_PAUSE_S)
        sleep(SETTLE_S)

    def _start_beside(self) -> None:
        if self._beside_request:
            self._beside = self._connect()
            self._send(self._beside, self._beside_request, 0.0, 0.0)

    def _follow_the_plan(self, started: float) -> None:
        while self._due:
            now = perf_counter() - started
            if now > self._end:
                break
            self._send_what_is_due(now)
            self._look(0, started)

    def _wait_for_answers(self, started: float) -> None:
        """Sleep between answers: somebody else may want to measure on this core now."""
        while self._busy or self._waiting:
            now = perf_counter() - started
            if now > self._end:
                break
            self._send_what_is_due(now)
            self._look(LAST_ANSWERS_S, started)

    def _look(self, timeout_s: float, started: float) -> None:
        for number, event in self._epoll.poll(timeout_s):
            self._advance(self._open[number], event, started)

    def _send_what_is_due(self, now: float) -> None:
        while self._due and self._due[0] <= now:
            planned = self._due.popleft()
            self._record.lags.append(now - planned)
            self._waiting.append(planned)
        while self._waiting:
            connection = self._free_connection()
            if connection is None and self._gives_up_s is None:
                return
            planned = self._waiting.popleft()
            if connection is None or now - planned > (self._gives_up_s or float("inf")):
                self._record.unsent += 1
                self._idle += [connection] if connection else []
                continue
            self._busy += 1
            self._send(connection, self._request, planned, now)

    def _free_connection(self) -> Connection | None:
        if self._idle:
            return self._idle.pop()
        wanted = self._connections + (self._beside is not None)
        return self._connect() if len(self._open) < wanted else None

    def _send(self, connection: Connection, request: bytes, planned: float, now: float) -> None:
        connection.is_busy = True
        connection.planned, connection.sent = planned, now
        connection.unsent, connection.received = memoryview(request), b""
        self._push(connection)
        if connection.unsent:
            self._epoll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _push(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.unsent[:CHUNK_BYTES])
        except BlockingIOError:
            return
        except OSError:
            return  # the poll tells of it, too
        connection.unsent = connection.unsent[sent:]

    def _advance(self, connection: Connection, event: int, started: float) -> None:
        if event & select.EPOLLOUT:
            self._push(connection)
            if not connection.unsent:
                self._epoll.modify(connection.socket, select.EPOLLIN)
        if event & ~select.EPOLLOUT:
            try:
                self._receive(connection, started)
            except (OSError, ValueError):
                self._lose(connection)

    def _receive(self, connection: Connection, started: float) -> None:
        chunk = connection.socket.recv(CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError
        connection.received += chunk
        length = answer_length(connection.received)
        if length is None or len(connection.received) < length:
            return
        now = perf_counter() - started
        if connection is self._beside:
            self._record.beside += 1
            self._send(connection, self._beside_request, now, now)
            return
        status = int(connection.received[_STATUS])
        self._record.answers.append(Answer(status, connection.planned, connection.sent, now))
        self._busy -= 1
        connection.is_busy = False
        self._idle.append(connection)

    def _lose(self, connection: Connection) -> None:
        """Forget a connection; one that was idle was closed by the server and is no error."""
        del self._open[connection.socket.fileno()]
        connection.socket.close()
        if connection is self._beside:
            self._start_beside()
        elif connection.is_busy:
            self._record.broken += 1
            self._busy -= 1
        else:
            self._idle.remove(connection)

    def _connect(self) -> Connection:
        made = socket.create_connection(self._address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        self._epoll.register(made, select.EPOLLIN)
        connection = self._open[made.fileno()] = Connection(made)
        return connection


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run of the generator found, for a table of latencies.

    Attributes:
        lag_p99_ms: How late the generator was, for one request in a hundred.
        beside: Answers to the other stream.
    """

    achieved_per_s: float
    p50_ms: float
    p99_ms: float
    lag_p99_ms: float
    errors: int
    beside: int = 0


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of the requests of an overload.

    Attributes:
        planned: How many there were.
        in_time: Answered with success before their deadline and before the load was over.
        late: Answered with success later than that.
        refused: Answered 429.
        others: Answers by any other status.
        broken: See *Record*, as *unsent* and *unanswered*.
        refused_p50_ms: Latency of a refusal from its sending, as the two that follow.
        lag_max_ms: How late the generator was at worst.
    """

    planned: int
    in_time: int
    late: int
    refused: int
    others: Mapping[str, int]
    broken: int
    unsent: int
    unanswered: int
    refused_p50_ms: float
    refused_p99_ms: float
    refused_max_ms: float
    lag_p99_ms: float
    lag_max_ms: float


def figures_of(record: Record) -> Figures:
    """Summarise latencies; infinite without an answer."""
    latencies = record.latencies or [float("inf")]
    return Figures(
        achieved_per_s=len(record.answers) / record.answers[-1].ended if record.answers else 0.0,
        p50_ms=percentile(latencies, 0.5) * 1e3,
        p99_ms=percentile(latencies, 0.99) * 1e3,
        lag_p99_ms=percentile(record.lags, 0.99) * 1e3,
        errors=record.errors,
        beside=record.beside,
    )


def fates_of(record: Record, *, planned: int, seconds: float, timeout_s: float) -> Fates:
    """Sort the answers of a load of *seconds* whose requests are worth nothing after a while.

    A success counts only when it came while the load was on: what the queue still held at its
    end would make the rate of the whole look better.
    """
    good = [answer for answer in record.answers if answer.status == OK]
    in_time = sum(a.ended - a.planned <= timeout_s and a.ended <= seconds for a in good)
    refusals = [a.ended - a.sent for a in record.answers if a.status == REFUSED]
    by_status = Counter(str(answer.status) for answer in record.answers)
    times = refusals or [0.0]
    return Fates(
        planned=planned,
        in_time=in_time,
        late=len(good) - in_time,
        refused=len(refusals),
        others={s: n for s, n in sorted(by_status.items()) if s not in {str(OK), str(REFUSED)}},
        broken=record.broken,
        unsent=record.unsent,
        unanswered=record.unanswered,
        refused_p50_ms=percentile(times, 0.5) * 1e3,
        refused_p99_ms=percentile(times, 0.99) * 1e3,
        refused_max_ms=max(times) * 1e3,
        lag_p99_ms=percentile(record.lags, 0.99) * 1e3,
        lag_max_ms=max(record.lags, default=0.0) * 1e3,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    parts = urlsplit(options.url)
    timeout_s = options.timeout_ms / 1e3 if options.timeout_ms else None
    more = {"X-Request-Timeout-Ms": f"{options.timeout_ms:g}"} if options.timeout_ms else {}
    plan = arrivals(options.rate, options.seconds)
    gc.disable()  # nothing here makes cycles, and a collection would make the generator late
    record = Generator(
        (parts.hostname or "", parts.port or 80),
        make_request(options.url, options.body.read_bytes(), options.media, more),
        plan,
        connections=options.connections,
        gives_up_s=timeout_s,
        beside=_beside(options),
        on_sent=lambda: print(SENT, flush=True),
    ).run()
    result: dict[str, Any] = {"figures": asdict(figures_of(record))}
    if timeout_s is not None:
        fates = fates_of(record, planned=len(plan), seconds=options.seconds, timeout_s=timeout_s)
        result["fates"] = asdict(fates)
    print(json.dumps(result))


def _beside(options: argparse.Namespace) -> bytes:
    if options.beside is None:
        return b""
    return make_request(options.url, options.beside.read_bytes(), options.media)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generator")
    add = parser.add_argument
    add("url")
    add("body", type=Path, help="file of the request's body")
    add("media", help="its type, and that of the answer")
    add("rate", type=float, help="requests a second")
    add("seconds", type=float)
    add("--timeout-ms", type=float, help="deadline of a request; too late, it is not sent at all")
    add("--connections", type=int, default=MAX_CONNECTIONS)
    add("--beside", type=Path, help="body to send again and again on a connection of its own")
    return parser


if __name__ == "__main__":
    main()
