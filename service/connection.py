"""One connection of a client: uvicorn's HTTP protocol, and a short way past it.

A request whose head has come before, whole and alone in what was received, is answered without
being parsed again and without a task (``service.api.express``). An answer of the ordinary way
that is whole goes out in one step instead of two ASGI messages. The alarm for idle connections is
set when it rings instead of at every answer. Everything else is uvicorn's.
"""

from functools import partial
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.api.limits import Edge
from service.api.responses import WHOLE_ANSWER, Headers
from service.api.runtime import STATE, Runtime
from service.inference.ticket import Ticket

_CLOSE: Final = (b"connection", b"close")
_END_OF_LINE: Final = b"\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"

# a second write costs as much as to copy so much
_COPIED_MAX_BYTES: Final = 256 * 1024


class Connection(HttpToolsProtocol):
    """A connection to an *Edge*."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **kwargs)
        self._express = cast("Edge", self.app).express
        self._idle_since: float | None = None
        # on the ordinary way: the parser is within a request, or one is not answered yet
        self._is_reading = False
        self._is_answering = False
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

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
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
        super().data_received(data)

    def _take_short_way(self, data: bytes) -> bool:
        if self.flow.write_paused:  # a client that does not read its answers has to wait
            return False
        self._is_short = True
        self._idle_since = None
        ticket = self._express.take(data, self._runtime, self._reply)
        if ticket is None:
            self._is_short = False
            return False
        self._ticket = ticket if self._is_short else None  # it may be answered already
        return True

    def on_message_begin(self) -> None:
        self._is_reading = self._is_answering = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._is_reading = False
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
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
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._is_answering = False
        self._rest()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for as long as it may."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:  # a request is under way, and its answer sets the alarm
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._set_alarm(left_s)
        else:
            super().timeout_keep_alive_handler()

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

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _rest(self) -> None:
        """Wait for the next request, for as long as an idle connection may."""
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._set_alarm(self.timeout_keep_alive)

    def _set_alarm(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            after_s, self.timeout_keep_alive_handler
        )
