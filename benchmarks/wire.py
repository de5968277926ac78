"""A server without sockets: its own protocol class, driven through memory.

Everything between the bytes of a request and the bytes of its answer runs as it does in the
server, on its event loop; the kernel, the load generator and their noise are left out.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import uvicorn

from benchmarks.generator import answer_length

Data: TypeAlias = bytes | bytearray | memoryview
OnWrite: TypeAlias = Callable[[Data], object]

CLIENT: Final = ("127.0.0.1", 50000)
SERVER: Final = ("127.0.0.1", 8000)
ANSWER_WITHIN_S: Final = 30.0


class Wire(asyncio.Transport):
    """One connection, seen from the server; what it writes goes to *on_write*."""

    def __init__(self, protocol: asyncio.BaseProtocol, on_write: OnWrite) -> None:
        super().__init__({"peername": CLIENT, "sockname": SERVER})
        self._protocol = protocol
        self._on_write = on_write
        self._is_closing = False
        self.feed = _feeder(protocol)
        protocol.connection_made(self)

    def write(self, data: Data) -> None:
        self._on_write(data)

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        for data in list_of_data:
            self._on_write(data)

    def hang_up(self) -> None:
        """Leave, as a client does."""
        self._is_closing = True
        self._protocol.connection_lost(None)

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def is_closing(self) -> bool:
        return self._is_closing

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: a write is never kept waiting."""

    def pause_reading(self) -> None:
        """Do nothing: the next request is sent when this one was answered."""

    def resume_reading(self) -> None:
        """Do nothing."""


class Host:
    """A started server, as far as its connections see it."""

    def __init__(self, server: uvicorn.Server, state: dict[str, Any]) -> None:
        self._server = server
        self._state = state

    def connect(self, on_write: OnWrite) -> Wire:
        """Open a connection."""
        make: Any = self._server.config.http_protocol_class
        protocol = make(
            config=self._server.config,
            server_state=self._server.server_state,
            app_state=self._state,
            _loop=asyncio.get_running_loop(),
        )
        return Wire(protocol, on_write)

    async def ask(self, request: bytes) -> bytes:
        """Send one request on a connection of its own and give the whole answer."""
        received = bytearray()
        whole = asyncio.Event()

        def on_write(data: Data) -> None:
            received.extend(data)
            length = answer_length(bytes(received))
            if length is not None and len(received) >= length:
                whole.set()

        wire = self.connect(on_write)
        wire.feed(request)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await whole.wait()
        wire.hang_up()
        return bytes(received)


@asynccontextmanager
async def hosting(config: uvicorn.Config) -> AsyncIterator[Host]:
    """Start what uvicorn would start for *config*, but no listener; stop it in the end."""
    if not config.loaded:
        config.load()
    server = uvicorn.Server(config)
    lifespan = config.lifespan_class(config)
    await lifespan.startup()
    if lifespan.should_exit:
        raise RuntimeError("the application did not start")
    await server.on_tick(0)  # makes the headers that every answer has
    try:
        yield Host(server, lifespan.state)
    finally:
        await lifespan.shutdown()


class Crowd:
    """Connections that ask at the same time, and again as soon as all of them are answered.

    Args:
        host: Who is asked.
        request: What each of them sends.
        tail: What every answer ends with, and nothing before it does: its body.
        connections: How many they are.
    """

    def __init__(self, host: Host, request: bytes, tail: bytes, connections: int) -> None:
        self._request = request
        self._tail = tail
        self._loop = asyncio.get_running_loop()
        self._wires = [host.connect(self._on_write) for _ in range(connections)]
        self._feeds = [wire.feed for wire in self._wires]
        self._turns = self._missing = 0
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def run(self, turns: int) -> None:
        """Let everybody ask *turns* times.

        Raises:
            RuntimeError: An answer was another one, or never came.
        """
        self._done = self._loop.create_future()
        self._turns = turns
        self._loop.call_soon(self._ask)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._done
        except TimeoutError:
            raise RuntimeError(f"{self._missing} answers are not as expected") from None

    def hang_up(self) -> None:
        for wire in self._wires:
            wire.hang_up()

    def _ask(self) -> None:
        # all in one turn of the loop, as it finds them when many sockets are readable
        self._missing = len(self._feeds)
        for feed in self._feeds:
            feed(self._request)

    def _on_write(self, data: Data) -> None:
        if not bytes(data).endswith(self._tail):
            return
        self._missing -= 1
        if self._missing:
            return
        self._turns -= 1
        if self._turns:
            self._loop.call_soon(self._ask)
        elif not self._done.done():
            self._done.set_result(None)


def _feeder(protocol: asyncio.BaseProtocol) -> Callable[[bytes], None]:
    """Say how bytes that have arrived reach *protocol*."""
    if isinstance(protocol, asyncio.Protocol):
        return protocol.data_received
    if not isinstance(protocol, asyncio.BufferedProtocol):
        raise TypeError(f"{type(protocol).__name__} takes no bytes")

    def fill(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            buffer = memoryview(protocol.get_buffer(-1))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]

    return fill
