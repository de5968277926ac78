"""Receiving: a body within its limits and deadline, headers, options, and who has left."""

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Receive

from service.api.runtime import Scope
from service.errors import (
    ClientGoneError,
    DeadlineExceededError,
    InvalidRowsError,
    MalformedBodyError,
    TooLargeError,
)
from service.inference.ticket import Ticket

# how long rows may wait before somebody looks whether their client is still there; a task for
# each request would cost more than most runs
_LOOK_AFTER_S: Final = 0.02


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Give the headers by their lower-case names; repeated ones are joined (RFC 9110, 5.3)."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def timeout_of(headers: Mapping[bytes, bytes], longest_s: float) -> float:
    """Give the seconds that a request may take, by ``X-Request-Timeout-Ms`` and the server.

    Raises:
        MalformedBodyError: The header is not a positive number.
    """
    text = headers.get(b"x-request-timeout-ms")
    if text is None:
        return longest_s
    if not text.isdigit() or len(text) > 9 or int(text) == 0:  # noqa: PLR2004
        raise MalformedBodyError(
            "X-Request-Timeout-Ms must be a positive whole number", expected="milliseconds"
        )
    return min(longest_s, int(text) / 1000)


def query_of(scope: Scope) -> dict[str, str]:
    """Give the query parameters.

    Raises:
        MalformedBodyError: The query cannot be read.
        InvalidRowsError: A parameter is given twice.
    """
    if not scope["query_string"]:
        return {}
    try:
        pairs = parse_qsl(
            scope["query_string"].decode("ascii"), keep_blank_values=True, max_num_fields=32
        )
    except ValueError:
        raise MalformedBodyError("the query string cannot be read") from None
    query = dict(pairs)
    if len(query) < len(pairs):
        raise InvalidRowsError("an option is given twice", expected="each option once")
    return query


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], ticket: Ticket, *, max_bytes: int
) -> bytes:
    """Read a body to its end.

    Raises:
        TooLargeError: It is longer than *max_bytes*, by its header or by what comes.
        DeadlineExceededError: It does not end in time.
        ClientGoneError: The connection closes first.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > max_bytes:
        raise _too_large(max_bytes, f"{int(length[:20])} bytes")
    try:
        async with asyncio.timeout(max(0.0, ticket.deadline - perf_counter())):
            return await _read(receive, max_bytes)
    except TimeoutError:
        raise DeadlineExceededError("the deadline passed before the body was complete") from None


async def _read(receive: Receive, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client left before its body was complete")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes, f"more than {max_bytes} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(max_bytes: int, received: str) -> TooLargeError:
    return TooLargeError(
        f"a body of this kind may have {max_bytes} bytes",
        expected=f"at most {max_bytes} bytes",
        received=received,
    )


class Departures:
    """Notices clients that leave while their rows wait, so that nobody computes for them.

    One timer looks over all requests in flight; only those that have waited for a while get a
    task that listens for the end of their connection.
    """

    def __init__(self) -> None:
        self._waiting: dict[Ticket, tuple[float, Receive]] = {}
        self._watchers: dict[Ticket, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, ticket: Ticket, receive: Receive) -> None:
        """Begin to look whether the client of *ticket* is still there; its body is read."""
        self._waiting[ticket] = (perf_counter(), receive)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AFTER_S, self._look)

    def forget(self, ticket: Ticket) -> None:
        """End it: the answer is there."""
        self._waiting.pop(ticket, None)
        watcher = self._watchers.pop(ticket, None)
        if watcher is not None:
            watcher.cancel()

    def _look(self) -> None:
        self._timer = None
        before = perf_counter() - _LOOK_AFTER_S
        loop = asyncio.get_running_loop()
        for ticket, (since, receive) in list(self._waiting.items()):
            if since > before:
                break  # they stand in the order of their arrival
            del self._waiting[ticket]
            self._watchers[ticket] = loop.create_task(_listen(ticket, receive))
        if self._waiting:
            self._timer = loop.call_later(_LOOK_AFTER_S, self._look)


async def _listen(ticket: Ticket, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ticket.leave()
