"""The short way of known heads, beside the ordinary way of the same bytes.

What a connection receives lies behind record separators, piece by piece. It is sent several times
on connections of both kinds, so that what can be learned from it is known when it comes again.
"""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import tiny
from tests.api.asgi import WITHIN_S
from tests.api.line import Line, Port, listening
from tests.fuzz.harness import Check, Harness

SEPARATOR = b"\x1e"
ROUNDS = 3
MAX_PIECES = 32

# what no two answers share
_ID = re.compile(rb'(?m)(x-request-id: |"request_id":")[0-9a-f]{16}(?=\r$|")')
_TIMES = re.compile(rb"dur=[0-9.]+")


class Collecting(Line):
    """A client that keeps what it gets as it is: after HEAD nobody knows how long an answer is."""

    def write(self, data: Any) -> None:
        if not self.is_closing():
            self.received += bytes(data)


@contextmanager
def checker() -> Iterator[Check]:
    with (
        tempfile.TemporaryDirectory(prefix="hourglass-fuzz-") as folder,
        asyncio.Runner() as runner,
    ):
        tiny.write_tabular(Path(folder))
        loop = runner.get_loop()
        opened: asyncio.Future[Port] = loop.create_future()
        closing = asyncio.Event()
        serving = loop.create_task(_serve(Path(folder), opened, closing))
        port = loop.run_until_complete(opened)
        try:
            yield lambda data: loop.run_until_complete(check(port, data))
        finally:
            closing.set()
            loop.run_until_complete(serving)


async def _serve(models: Path, opened: asyncio.Future[Port], closing: asyncio.Event) -> None:
    """Run the app; it has to be closed in the task in which it was opened."""
    async with listening(models, run_place="loop", max_request_rows=8) as port:
        opened.set_result(port)
        await closing.wait()


async def check(port: Port, data: bytes) -> None:
    pieces = data.split(SEPARATOR, MAX_PIECES)
    for last in (False, False, True):  # a run that takes long by chance is given up by its client
        try:
            await _compare(port, pieces)
        except AssertionError:
            if last:
                raise
        else:
            return


async def _compare(port: Port, pieces: list[bytes]) -> None:
    ordinary = port.ordinary_only
    port.express._heads.clear()
    wanted = await _answered(ordinary, pieces)
    for _ in range(ROUNDS):
        found = await _answered(port, pieces)
        if _is_comparable(wanted) and _is_comparable(found):
            assert _plain(found) == _plain(wanted), (found, wanted)


async def _answered(port: Port, pieces: list[bytes]) -> bytes:
    """Everything that comes back, and a word about the end."""
    line = Collecting(port._protocol(port._config, port.state, dict(port.server.state)))
    async with asyncio.timeout(WITHIN_S):
        for piece in pieces:
            line.send(piece)
            await port.settled()
        end = b"closed" if line.is_closing() else b"open"
        line.hang_up()
        await line.closed()
    return line.received + end


def _is_comparable(raw: bytes) -> bool:
    """Whether the answers hold nothing that time or the requests before have changed."""
    return b"HTTP/1.1 504 " not in raw and b"\ncontent-type: text/plain; version=" not in raw


def _plain(raw: bytes) -> bytes:
    return _TIMES.sub(b"dur=-", _ID.sub(rb"\1-", raw))


HARNESS = Harness(
    checker,
    (
        *(b"POST /v1/models/tabular/encode HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\n"),
        *(b"Host: x\r\n",),
        *(b"POST /v1/models/tabular/anomaly-score?threshold=0.5 HTTP/1.1\r\n", b"HTTP/1.0\r\n"),
        *(b"Content-Type: application/json\r\n", b"Content-Type: application/octet-stream\r\n"),
        *(b"Content-Length: 16\r\n", b"Content-Length: 0016\r\n"),
        *(b"Content-Length:32\r\n", b"\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n"),
        *(b"Accept: application/x-npy\r\n", b"X-Request-ID: a\r\n"),
        *(b"X-Request-Timeout-Ms: 900\r\n",),
        *(b"Upgrade: h2c\r\n", b"Content-Encoding: gzip\r\n", b"X-Shape: 1,4\r\n", b"\r\n\r\n"),
        *(b"\x1e", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"10\r\n", b"0\r\n\r\n", b'{"inputs": '),
        *(b"[[0, 1, 0, 1]]}", b'"metric": "mse"', b"?", b"HEAD ", b"/versions/1"),
    ),
    max_bytes=2048,
)
