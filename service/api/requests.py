"""Receiving: a body within its limits and deadline, headers, options, and who has left."""

import asyncio
import re
import secrets
from collections.abc import Mapping
from itertools import count
from time import perf_counter
from typing import Any, Final
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

# how often somebody looks at the requests in flight: a late body is answered within this of its
# deadline, and rows of a client that left are taken out within twice this
_LOOK_AFTER_S: Final = 0.02

# digits of a length that could be one; Python refuses to read thousands of zeros as a number
LENGTH_MAX_DIGITS: Final = 18

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Give the headers by their lower-case names; repeated ones are joined (RFC 9110, 5.3)."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if len(headers) < len(scope["headers"]):
        headers.clear()
        for name, value in scope["headers"]:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


class RequestIds:
    """Gives every request its id.

    Eight random hexadecimal digits of this process and a running number: as unlike any other as
    sixteen random ones, at a tenth of their price.
    """

    def __init__(self) -> None:
        self._process = secrets.token_hex(4).encode()
        self._numbers = count(1)

    def of(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Take the client's id over when it is harmless, else make one."""
        return self.theirs(headers) or self.make()

    @staticmethod
    def theirs(headers: Mapping[bytes, bytes]) -> bytes | None:
        theirs = headers.get(b"x-request-id")
        return theirs if theirs is not None and _REQUEST_ID.fullmatch(theirs) else None

    def make(self) -> bytes:
        return b"%s%08x" % (self._process, next(self._numbers))


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
    receive: Receive,
    headers: Mapping[bytes, bytes],
    ticket: Ticket,
    watch: "Watch",
    *,
    max_bytes: int,
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
    watch.reading(ticket)
    try:
        return await _read(receive, max_bytes)
    except asyncio.CancelledError:
        if not watch.is_late(ticket):
            raise
        raise DeadlineExceededError("the deadline passed before the body was complete") from None
    finally:
        watch.forget(ticket)


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


class Watch:
    """Looks over all requests in flight: whose body is late, and whose client has left.

    One timer for all: a timeout for each body and a task for each client would cost more than
    most runs. Only requests that have waited for a while get a task that listens for the end of
    their connection.
    """

    def __init__(self) -> None:
        self._reading: dict[Ticket, asyncio.Task[Any]] = {}
        self._late: set[Ticket] = set()
        self._waiting: dict[Ticket, Receive] = {}
        self._listeners: dict[Ticket, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def reading(self, ticket: Ticket) -> None:
        """Cancel this task when the ticket's deadline passes before *forget*."""
        task = asyncio.current_task()
        if task is not None:
            self._reading[ticket] = task
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_LOOK_AFTER_S, self._look)

    def is_late(self, ticket: Ticket) -> bool:
        """Whether this task was cancelled because of that; it then goes on as if it were not."""
        if ticket not in self._late:
            return False
        self._late.discard(ticket)
        task = asyncio.current_task()
        return task is not None and task.uncancel() == 0

    def waiting(self, ticket: Ticket, receive: Receive) -> None:
        """Begin to look whether the client is still there, until *forget*; its body is read."""
        self._waiting[ticket] = receive
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AFTER_S, self._look)

    def forget(self, ticket: Ticket) -> None:
        self._reading.pop(ticket, None)
        self._waiting.pop(ticket, None)
        if self._listeners and (listener := self._listeners.pop(ticket, None)) is not None:
            listener.cancel()

    def _look(self) -> None:
        now = perf_counter()
        for ticket, task in list(self._reading.items()):
            if ticket.deadline <= now:
                del self._reading[ticket]
                self._late.add(ticket)
                task.cancel()
        loop = asyncio.get_running_loop()
        for ticket, receive in list(self._waiting.items()):
            if ticket.started + ticket.parse_s + _LOOK_AFTER_S <= now:
                del self._waiting[ticket]
                self._listeners[ticket] = loop.create_task(_listen(ticket, receive))
        has_more = self._reading or self._waiting
        self._timer = loop.call_later(_LOOK_AFTER_S, self._look) if has_more else None


async def _listen(ticket: Ticket, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ticket.leave()
