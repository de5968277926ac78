"""One connection of a client: uvicorn's HTTP protocol, and a short way past it.

A request whose head has come before, whole and alone in what was received, is answered without
being parsed again and without a task (``service.api.express``). An answer of the ordinary way
that is whole goes out in one step instead of two ASGI messages. No client is waited for without
end (``service.doorkeeper``), and a head that nobody should act on is refused
(``service.api.heads``). Everything else is uvicorn's.
"""

import asyncio
from functools import partial
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.api.errors import problem_of
from service.api.heads import HEADERS_MAX_BYTES, TARGET_MAX_BYTES, check_headers, check_target
from service.api.limits import Edge
from service.api.protocol import in_form_of
from service.api.records import record
from service.api.responses import WHOLE_ANSWER, Headers
from service.api.runtime import STATE, Exchange, Runtime
from service.doorkeeper import Doorkeeper, reset, unsent_bytes
from service.errors import (
    HourglassError,
    LongHeadError,
    LongTargetError,
    MalformedBodyError,
    SlowRequestError,
    UnavailableError,
)
from service.inference.ticket import Ticket

_CLOSE: Final = (b"connection", b"close")
_END_OF_LINE: Final = b"\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_NEVER: Final = float("inf")
_EXPIRED: Final = 504

# what machines must hear when nobody else can be served
_HEALTH: Final = frozenset({b"/livez", b"/readyz", b"/metrics"})
# a connection over the limit is there for one quick question
_EXTRA_PATIENCE_S: Final = 1.0
# requests that read their bodies have a deadline, which is answered within some 20 ms
_LATE_S: Final = 1.0
# how long those who are refused while they send may take to notice
_LINGER_S: Final = 1.0
# a client that takes less of its answer in its time is not reading it
_TAKEN_MIN_BYTES: Final = 64 * 1024
# bytes in a row that are no body: heads that are checked when they end, chunks' lengths, trailers
_OVERHEAD_MAX_BYTES: Final = TARGET_MAX_BYTES + 2 * HEADERS_MAX_BYTES
# each chunk costs as much as hundreds of bytes; so many may be as small as they like
_CHUNKS_MAX: Final = 16 * 1024
_CHUNK_MIN_BYTES: Final = 64

# a second write costs as much as to copy so much
_COPIED_MAX_BYTES: Final = 256 * 1024


class Connection(HttpToolsProtocol):
    """A connection to an *Edge*.

    Args:
        doorkeeper: Looks after all connections of the server.

    Attributes:
        due: When the client must have done what is waited for, by the clock of the loop.
    """

    def __init__(self, *args: Any, doorkeeper: Doorkeeper, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **kwargs)
        self._express = cast("Edge", self.app).express
        self._doorkeeper = doorkeeper
        settings = self._runtime.settings
        self._header_timeout_s = settings.header_timeout_ms / 1000
        self._body_timeout_s = settings.request_timeout_s + _LATE_S
        self._send_timeout_s = settings.send_timeout_ms / 1000
        self.due = _NEVER
        # since when the client has left how much of what was sent to it
        self._unread: tuple[float, int] | None = None
        self._is_extra = False
        # on the ordinary way: the parser is within a request, or one is not answered yet
        self._is_reading = False
        self._is_answering = False
        self._is_in_head = False
        self._overhead_bytes = 0
        self._chunks = 0
        self._body_bytes = 0
        # nothing more is read; what is to be said of it when the requests before it are answered
        self._is_deaf = False
        self._refusal: HourglassError | None = None
        # on the short way: a request, and what was received behind it
        self._is_short = False
        self._ticket: Ticket | None = None
        self._held: list[bytes] = []
        self._ends_after_answer = False
        # what the ordinary way reads just now, when its head came twice in a row
        self._last_head = b""
        self._repeated: bytes | None = None

    @property
    def _runtime(self) -> Runtime:
        runtime: Runtime = self.app_state[STATE]
        return runtime

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._runtime.metrics.connections.inc()
        self._doorkeeper.enter(self)
        patience_s = self._header_timeout_s
        if self._doorkeeper.is_full:
            self._is_extra = self._is_answering = True  # which keeps it off the short way
            patience_s = min(patience_s, _EXTRA_PATIENCE_S)
            if self._doorkeeper.is_overrun:
                self._cut("crowded")
        self.due = self.loop.time() + patience_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._doorkeeper.leave(self)
        self._runtime.metrics.connections.dec()
        super().connection_lost(exc)
        self._held.clear()
        if self._ticket is not None:
            self._ticket.leave()

    def data_received(self, data: bytes) -> None:
        if self._is_short:  # pipelined: one at a time, in their order
            self.flow.pause_reading()
            self._held.append(data)
            return
        if not (self._is_reading or self._is_answering):
            if self._take_short_way(data):
                return
            self._note_head(data)
        if not self._is_deaf:
            self._parse(data)

    def _take_short_way(self, data: bytes) -> bool:
        if self.flow.write_paused:  # a client that does not read its answers has to wait
            return False
        self._is_short = True
        due, self.due = self.due, _NEVER
        ticket = self._express.take(data, self._runtime, self._reply)
        if ticket is None:
            self._is_short = False
            self.due = due
            return False
        self._ticket = ticket if self._is_short else None  # it may be answered already
        return True

    def _parse(self, data: bytes) -> None:
        """Let the parser read what came."""
        self._overhead_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        except httptools.HttpParserError as error:
            # one of ours was raised in a callback
            ours = error.__context__
            if not isinstance(ours, HourglassError):
                ours = MalformedBodyError("this is not an HTTP request", expected="HTTP/1.1")
            self._refuse(ours)
        else:
            if self._is_reading and self._overhead_bytes > _OVERHEAD_MAX_BYTES:
                self._refuse(self._endless())

    def _endless(self) -> HourglassError:
        if not self._is_in_head:
            return MalformedBodyError("there is more around the body than in it")
        if len(self.url) > TARGET_MAX_BYTES:
            return LongTargetError(
                "path and query are too long", expected=f"at most {TARGET_MAX_BYTES} bytes"
            )
        return LongHeadError(
            "the headers are too long", expected=f"at most {HEADERS_MAX_BYTES} bytes together"
        )

    def on_message_begin(self) -> None:
        self._is_reading = self._is_answering = self._is_in_head = True
        self._overhead_bytes = self._chunks = self._body_bytes = 0
        if not self._is_extra:
            self.due = self.loop.time() + self._header_timeout_s
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # a trailer must not pass for a header (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes = 0
        self._chunks += 1
        self._body_bytes += len(body)
        if self._chunks > _CHUNKS_MAX and self._body_bytes < self._chunks * _CHUNK_MIN_BYTES:
            raise MalformedBodyError(
                "the body comes in too many tiny chunks",
                expected=f"chunks of {_CHUNK_MIN_BYTES} bytes and more",
            )
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_reading = False
        self.due = _NEVER
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._rest()

    def on_headers_complete(self) -> None:
        self.url = check_target(self.url)
        check_headers(self.parser.get_http_version(), self.headers)
        if self._is_extra and self.url.partition(b"?")[0] not in _HEALTH:
            raise UnavailableError("there are too many connections; only health is answered")
        super().on_headers_complete()
        self._is_in_head = False
        self.due = self.loop.time() + self._body_timeout_s
        if self._is_extra:
            self.cycle.keep_alive = False
        if self.cycle.scope is not self.scope:  # an upgrade, which has no answer of its own
            return
        # in time: the app's task begins in the next turn of the loop
        extensions: dict[str, Any] = {WHOLE_ANSWER: partial(self._send_whole, self.cycle)}
        self.scope["extensions"] = extensions
        if self._repeated is not None:
            self._express.learn(self._repeated, cast("dict[str, Any]", self.scope), self._runtime)
            self._repeated = None

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            if self._is_reading and not self._is_in_head:  # it may send its body only now
                self.due = self.loop.time() + self._body_timeout_s
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._is_answering = False
        if self._refusal is not None:
            self._say_no(self._refusal)
            self.transport.close()
        elif not self._is_reading:
            self._rest()
        elif not self._is_in_head:  # the rest of its body is not waited for much longer
            self.due = self.loop.time() + self._header_timeout_s

    def look(self, now: float) -> None:
        """Cut the client off if its time is up."""
        if self.flow.write_paused or self.transport.is_closing():
            self._look_at_sending(now)
        elif now >= self.due:
            self._expire(now)
        else:
            self._unread = None

    @property
    def is_resting(self) -> bool:
        """Whether nothing of a request has come since the last one was answered."""
        return not (self._is_reading or self._is_busy)

    def make_room(self) -> None:
        """Let a resting connection go, for those who are waiting."""
        self._runtime.metrics.cuts["crowded"].inc()
        self.transport.close()

    @property
    def _is_busy(self) -> bool:
        """Whether the client waits for us."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return self._is_short or (cycle is not None and not cycle.response_complete)

    def _look_at_sending(self, now: float) -> None:
        """Cut a client that does not take its answer, or too little of it."""
        left = self.transport.get_write_buffer_size() + unsent_bytes(self.transport)
        if self._unread is None or left <= self._unread[1] - _TAKEN_MIN_BYTES:
            self._unread = now, left
        elif now - self._unread[0] >= self._send_timeout_s:
            self._cut("unread")

    def _expire(self, now: float) -> None:
        if self._is_deaf or self.is_resting:
            if unsent_bytes(self.transport):
                self._look_at_sending(now)
            else:
                self.transport.close()
        elif self._is_in_head:
            if not self._is_busy:
                self._runtime.metrics.cuts["head"].inc()
                self._refuse(SlowRequestError("the head of the request did not come in time"))
        elif not self.pipeline:
            self._runtime.metrics.cuts["body"].inc()
            self._refuse(SlowRequestError("the body of the request did not come in time"))

    def _cut(self, reason: str) -> None:
        """End the connection, whatever is under way and on its way."""
        self._runtime.metrics.cuts[reason].inc()
        if (cycle := cast("RequestResponseCycle | None", self.cycle)) is not None:
            cycle.disconnected = True  # or what writes next would hear of it by an exception
        reset(self.transport)

    def _refuse(self, error: HourglassError) -> None:
        """Read no more, and answer what is no request to the app after those that came before."""
        self._is_deaf = self._is_answering = True
        if self._is_reading and not self._is_in_head:  # a body's request is the app's already
            if self.pipeline:
                self.pipeline.popleft()
                self._refusal = error
            elif self.cycle.response_started:
                self.transport.close()
            else:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
                self._say_no(error)
                self._linger()
        elif self._is_busy:
            self._refusal = error
        else:
            self._say_no(error)
            if isinstance(error, (LongHeadError, LongTargetError)):
                self._linger()
            else:
                self.transport.close()

    def _linger(self) -> None:
        """Let a client that is sending see its answer; a reset would throw that away."""
        self.due = self.loop.time() + _LINGER_S

    def _say_no(self, error: HourglassError) -> None:
        """Write the last answer of this connection, and count it."""
        request_id = self._express.request_ids.of(dict(self.headers or ()))
        exchange = Exchange(self._runtime, "-", request_id)
        exchange.fault = error
        target = cast("bytes | None", self.url) or b""
        asked = {"path": target.partition(b"?")[0].decode("latin-1")}
        problem = in_form_of(asked, problem_of(error, request_id.decode()))
        exchange.status = problem.status
        length = (b"content-length", b"%d" % len(problem.body))
        headers = [*problem.headers, length, (b"x-request-id", request_id), _CLOSE]
        self._write(problem.status, headers, problem.body)
        record(exchange)

    def shutdown(self) -> None:
        if self._is_short:
            self._ends_after_answer = True
        else:
            super().shutdown()

    def _note_head(self, data: bytes) -> None:
        """See whether *data* begins with the same head as the request before it."""
        head = data[: data.find(_END_OF_HEAD) + len(_END_OF_HEAD)]
        self._repeated = data if head == self._last_head else None
        self._last_head = head

    def _reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer on the short way."""
        self._is_short = False
        self._ticket = None
        if self.transport.is_closing():
            return
        is_last = self._ends_after_answer or _CLOSE in headers
        if self._ends_after_answer and _CLOSE not in headers:
            headers = [*headers, _CLOSE]
        self._write(status, headers, body)
        self.server_state.total_requests += 1
        if is_last:
            self.transport.close()
            return
        self._rest()
        if self._held:
            held, self._held = b"".join(self._held), []
            self.flow.resume_reading()
            self.data_received(held)

    def _send_whole(
        self, cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes
    ) -> bool:
        """Answer on the ordinary way; ``False`` when the client has to read others before."""
        if self.flow.write_paused:
            return False
        if cycle.disconnected:
            return True
        if cycle.more_body and (status == _EXPIRED or cycle.waiting_for_100_continue):
            cycle.keep_alive = False  # the rest of the body may come, or never
        if _CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers = [*headers, _CLOSE]
        self._write(status, headers, b"" if cycle.scope["method"] == "HEAD" else body)
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _write(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole answer; the app vouches that no header breaks out of its line."""
        lines = [b": ".join(header) for header in (*self.server_state.default_headers, *headers)]
        head = _END_OF_LINE.join(lines)
        if len(body) > _COPIED_MAX_BYTES:
            self.transport.write(b"".join((STATUS_LINE[status], head, _END_OF_HEAD)))
            self.transport.write(body)
        else:
            self.transport.write(b"".join((STATUS_LINE[status], head, _END_OF_HEAD, body)))

    def _rest(self) -> None:
        """Wait for the next request, for as long as an idle connection may."""
        self.due = self.loop.time() + self.timeout_keep_alive
