"""A server driven through memory."""

import asyncio
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from benchmarks.contenders import bare
from benchmarks.wire import Crowd, Wire, hosting

pytestmark = pytest.mark.anyio

REQUEST = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"


class Counting:
    """An application that counts who is inside at the same time, and repeats what it is sent."""

    def __init__(self) -> None:
        self.requests = self.inside = self.most = 0
        self.state: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["greeting"] = "hello"
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.requests += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.state.append(scope["state"]["greeting"])
        body = (await receive())["body"]
        await asyncio.sleep(0)
        self.inside -= 1
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Filling(asyncio.BufferedProtocol):
    """Takes bytes into a buffer of its own, four at a time."""

    def __init__(self) -> None:
        self.buffer = bytearray(4)
        self.received = b""

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the protocol's
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]


def config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(app, access_log=False, log_config=None, lifespan="on")


async def test_a_request_has_its_whole_answer():
    async with hosting(bare.make_config(0)) as host:
        answer = await host.ask(REQUEST)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert answer.endswith(b"\r\n\r\n" + bare.ANSWER)


async def test_requests_see_what_the_lifespan_yielded():
    app = Counting()

    async with hosting(config(app)) as host:
        await host.ask(REQUEST)

    assert app.state == ["hello"]


async def test_an_application_that_does_not_start_is_told():
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": ""})

    with pytest.raises(RuntimeError, match="did not start"):
        async with hosting(config(app)):
            pass


async def test_a_crowd_asks_at_the_same_time_and_again_when_all_are_answered():
    app = Counting()

    async with hosting(config(app)) as host:
        crowd = Crowd(host, REQUEST, b"abc", 5)
        await crowd.run(3)
        crowd.hang_up()

    assert (app.requests, app.most, app.inside) == (15, 5, 0)


async def test_an_answer_that_is_not_the_expected_one_is_noticed(monkeypatch):
    monkeypatch.setattr("benchmarks.wire.ANSWER_WITHIN_S", 0.05)

    async with hosting(config(Counting())) as host:
        crowd = Crowd(host, REQUEST, b"another", 2)
        with pytest.raises(RuntimeError, match="2 answers are not as expected"):
            await crowd.run(1)
        crowd.hang_up()


async def test_a_protocol_with_a_buffer_of_its_own_gets_every_byte():
    protocol = Filling()

    Wire(protocol, print).feed(b"0123456789")

    assert protocol.received == b"0123456789"


async def test_a_protocol_that_takes_no_bytes_is_refused():
    with pytest.raises(TypeError, match="BaseProtocol takes no bytes"):
        Wire(asyncio.BaseProtocol(), print)


async def test_what_is_written_in_pieces_arrives_in_order():
    written: list[bytes] = []
    wire = Wire(asyncio.Protocol(), lambda data: written.append(bytes(data)))

    wire.write(b"a")
    wire.writelines([b"b", memoryview(b"c")])

    assert written == [b"a", b"b", b"c"]
    assert wire.get_extra_info("peername") == ("127.0.0.1", 50000)
