"""Clients that ask again as soon as they are answered, each over a connection of its own."""

import asyncio
import re
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from service.bodies import json, raw
from service.bodies.negotiation import JSON, RAW
from service.errors import HourglassError
from service.specs import Rows

FORMATS: Final = {"raw": RAW, "json": JSON}

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OK: Final = b"HTTP/1.1 200"

# a slice that has not ended so long after its time never will
_PATIENCE_S: Final = 60.0


@dataclass(slots=True)
class Sample:
    """What was measured in one slice of time.

    Attributes:
        seconds: How long it took.
        latencies: Seconds of each request that was answered well.
        failures: Requests that were refused or failed.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: int = 0


def make_request(path: str, rows: Rows, form: str) -> bytes:
    """Write a whole request; the answer is asked for in the format of the body."""
    body = json.render({"inputs": rows}) if form == "json" else raw.render(rows)
    shape = ",".join(map(str, rows.shape))
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORMATS[form]}\r\n"
        f"Accept: {FORMATS[form]}\r\nContent-Length: {len(body)}\r\n"
    )
    if form == "raw":
        head += f"X-Shape: {shape}\r\n"
    return head.encode() + b"\r\n" + body


async def ask(port: int, request: bytes, *, clients: int, seconds: float) -> Sample:
    """Let some clients ask for a while; each ends with an answer.

    Raises:
        HourglassError: The server closed a connection, or did not answer.
    """
    loop = asyncio.get_running_loop()
    sample = Sample()
    try:
        pairs = [
            await loop.create_connection(lambda: _Client(request, sample), "127.0.0.1", port)
            for _ in range(clients)
        ]
    except OSError as error:
        raise HourglassError("the server takes no connections") from error
    started = perf_counter()
    try:
        for _, client in pairs:
            client.begin(started + seconds)
        ends = asyncio.gather(*(client.end for _, client in pairs))
        await asyncio.wait_for(ends, seconds + _PATIENCE_S)
    except TimeoutError:
        raise HourglassError("the server did not answer") from None
    finally:
        sample.seconds = perf_counter() - started
        for transport, _ in pairs:
            transport.close()
    return sample


class _Client(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self, request: bytes, sample: Sample) -> None:
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._sample = sample
        self._answer = bytearray()
        self._until = self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def begin(self, until: float) -> None:
        """Ask, and again and again until then."""
        self._until = until
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head_end = self._answer.find(_HEAD_END)
        if head_end < 0:
            return
        found = _LENGTH.search(self._answer, 0, head_end)
        length = int(found.group(1)) if found else 0
        if len(self._answer) >= head_end + len(_HEAD_END) + length:
            self._take()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        if not self.end.done():
            self.end.set_exception(HourglassError("the server closed a connection"))

    def _take(self) -> None:
        now = perf_counter()
        if self._answer.startswith(_OK):
            self._sample.latencies.append(now - self._sent_at)
        else:
            self._sample.failures += 1
        self._answer.clear()
        if now < self._until:
            self._send()
        elif not self.end.done():
            self.end.set_result(None)

    def _send(self) -> None:
        self._sent_at = perf_counter()
        if self._transport is not None:
            self._transport.write(self._request)
