"""Clients of the server's own protocol, in memory: uvicorn's connection without a socket."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.api.express import Express
from service.api.limits import Edge
from service.api.runtime import STATE, Runtime
from service.assembly import SessionFactory
from service.connection import Connection
from service.doorkeeper import Doorkeeper
from service.server import make_config
from tests.api.asgi import WITHIN_S, Answer, Server, running

# where asyncio and uvloop ask a protocol to stop writing
HIGH_WATER_BYTES = 64 * 1024

# an idle time that no test lives to see
LONG_S = 60.0

END_OF_HEAD = b"\r\n\r\n"


@dataclass(slots=True)
class Reply(Answer):
    """An answer with its bytes as they came."""

    raw: bytes = b""


def first_reply(data: bytes, *, has_body: bool = True) -> Reply | None:
    """The answer at the beginning of *data*, once it is whole."""
    end = data.find(END_OF_HEAD)
    if end < 0:
        return None
    status, *lines = data[:end].decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    start = end + len(END_OF_HEAD)
    stop = start + int(headers.get("content-length", "0")) * has_body
    if len(data) < stop:
        return None
    return Reply(int(status.split()[1]), headers, data[start:stop], data[:stop])


class Line(asyncio.Transport):
    """The server's end of a connection; *send*, *stall* and the ways to leave are the client's.

    Like a socket: nothing arrives while reading is paused, nothing goes out after the end, and
    whoever writes to a client that has vanished hears of it in the next turn of the loop.

    Attributes:
        received: What the client has got so far, behind the last whole answer.
        replies: Every whole answer that it has got.
        skips_bodies: Answers have none, because HEAD was asked.
        unread: Bytes that a stalled client has not taken.
        is_closed: The protocol knows that the connection is over.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 8000)})
        self.received = b""
        self.replies: list[Reply] = []
        self.skips_bodies = False
        self.unread = 0
        self.is_closed = False
        self.protocol = protocol
        self._arriving: deque[bytes] = deque()
        self._is_reading = True
        self._is_closing = False
        self._is_stalled = False
        self._has_vanished = False
        self._news = asyncio.Event()
        protocol.connection_made(self)

    def send(self, *pieces: bytes) -> None:
        """Let *pieces* arrive one by one."""
        self._arriving.extend(pieces)
        self._deliver()

    def hang_up(self) -> None:
        """Close the connection in good order."""
        self.protocol.eof_received()
        self.close()

    def reset(self) -> None:
        """Tear the connection down."""
        self._end(ConnectionResetError())

    def vanish(self) -> None:
        """Be gone without a sign until somebody writes."""
        self._has_vanished = True

    def stall(self) -> None:
        """Read nothing until *go_on*."""
        self._is_stalled = True

    def go_on(self) -> None:
        self._is_stalled, self.unread = False, 0
        if self._is_closing:
            self.abort()
        else:
            self.protocol.resume_writing()

    async def answers(self, number: int) -> list[Reply]:
        """Wait until so many answers have come, and give all that have."""
        async with asyncio.timeout(WITHIN_S):
            while len(self.replies) < number:
                assert not self._is_closing, (self.replies[-1:], self.received)
                self._news.clear()
                await self._news.wait()
        return self.replies

    async def ask(self, request: bytes) -> Reply:
        """Send one request, and wait for its answer."""
        before = len(self.replies)
        self.send(request)
        return (await self.answers(before + 1))[before]

    async def closed(self) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(WITHIN_S):
            while not self.is_closed:
                self._news.clear()
                await self._news.wait()

    def write(self, data: Any) -> None:
        if self._is_closing:
            return
        if self._has_vanished:
            self._end(BrokenPipeError())
            return
        self.received += bytes(data)
        has_body = not self.skips_bodies
        while (reply := first_reply(self.received, has_body=has_body)) is not None:
            self.replies.append(reply)
            self.received = self.received[len(reply.raw) :]
        self._news.set()
        if self._is_stalled:
            self.unread += len(data)
            if self.unread > HIGH_WATER_BYTES:
                self.protocol.pause_writing()

    def close(self) -> None:
        if self.unread:  # like a socket it goes when all that was written has gone
            self._is_closing = True
        else:
            self._end(None)

    def abort(self) -> None:
        self._is_closing = False
        self._end(None)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def take(self, number: int) -> None:
        """Read so many of the bytes that wait."""
        self.unread -= number

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        while self._arriving and self._is_reading and not self._is_closing:
            self.protocol.data_received(self._arriving.popleft())

    def _end(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        self.protocol.connection_lost(error)
        self.is_closed = True
        self._news.set()


class Counting:
    """The app, with a count of the requests that reach it by the ordinary way.

    Attributes:
        requests: All so far.
        reading: Those that wait for more of their bodies, or for the end of their connections.
    """

    def __init__(self, app: Edge) -> None:
        self.express = app.express
        self.requests = 0
        self.reading = 0
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            self.reading += 1
            try:
                return await receive()
            finally:
                self.reading -= 1

        self.requests += 1
        await self._app(scope, counted, send)


class Long(Connection):
    """Our protocol without the short way."""

    def _take_short_way(self, data: bytes) -> bool:  # noqa: ARG002 - the original's
        return False


class Port:
    """Where clients connect to a running app.

    Args:
        server: The app.
        keep_alive_s: How long a connection may be idle; longer than any test unless given.
        protocol: What answers on it; what the server configures unless given.
    """

    def __init__(
        self,
        server: Server,
        *,
        keep_alive_s: float = LONG_S,
        protocol: type[HttpToolsProtocol] | None = None,
    ) -> None:
        self.server = server
        self.state = ServerState()
        self._app = Counting(server.app)
        runtime: Runtime = server.state[STATE]
        self._config = make_config(cast("Edge", self._app), runtime.settings)
        self._config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]
        self._config.load()
        made: Any = self._config.http_protocol_class
        self._doorkeeper: Doorkeeper = made.keywords["doorkeeper"]
        self._protocol = protocol or made

    @property
    def ordinary(self) -> int:
        """Requests so far that took the ordinary way."""
        return self._app.requests

    @property
    def express(self) -> Express:
        """What all its connections have learned."""
        return self._app.express

    @property
    def open(self) -> set[Connection]:
        """The connections whose time is looked after."""
        return set(self._doorkeeper._connections)

    @property
    def ordinary_only(self) -> "Port":
        """The same app behind our protocol without its short way."""
        return Port(self.server, protocol=cast("Any", partial(Long, doorkeeper=Doorkeeper(1000))))

    async def look(self, after_s: float) -> None:
        """Let the server see to everybody's time as if so many seconds had passed."""
        self._doorkeeper.look(asyncio.get_running_loop().time() + after_s)
        await asyncio.sleep(0)

    async def settled(self) -> None:
        """Wait until every request has its answer, or waits for the rest of its body.

        Where runs are made in the loop: a request on the short way has its answer at once.
        """
        async with asyncio.timeout(WITHIN_S):
            while True:
                for _ in range(10):
                    await asyncio.sleep(0)
                if len(self.state.tasks) <= self._app.reading:
                    return
                await asyncio.sleep(0.001)

    def connect(self) -> Line:
        return Line(self._protocol(self._config, self.state, dict(self.server.state)))


@asynccontextmanager
async def listening(
    models: Path,
    *,
    sessions: SessionFactory | None = None,
    keep_alive_s: float = LONG_S,
    **settings: Any,
) -> AsyncIterator[Port]:
    """Run the app, and let clients connect to it."""
    async with running(models, sessions=sessions, **settings) as server:
        yield Port(server, keep_alive_s=keep_alive_s)


def request(path: str, body: bytes = b"", method: str = "POST", **headers: str) -> bytes:
    """The bytes of a request; underscores in the names of headers stand for hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
