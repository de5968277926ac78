"""The usual request without a task: a head that is known, a body that is whole, one queue.

Clients on a kept connection send the same head again and again, byte for byte. Once the ordinary
way has read such a head, what follows from it is kept under its bytes; when it comes again with
its whole body in one piece, the body goes straight to the queue and the answer straight back to
the connection. Everything else, and whatever is in doubt, takes the ordinary way through ASGI,
which gives the same answers.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from service.api.errors import outcome_of, problem_of
from service.api.gate import Gate
from service.api.operations import Answer, parse, render
from service.api.outputs import Given
from service.api.plans import Plan, Plans
from service.api.records import record
from service.api.requests import LENGTH_MAX_DIGITS, RequestIds, headers_of, timeout_of
from service.api.responses import Headers, Reply
from service.api.runtime import Exchange, Runtime, Scope
from service.bodies.negotiation import PNG
from service.errors import ClientGoneError, HourglassError
from service.inference import operations
from service.inference.batcher import Batcher
from service.inference.jobs import Outputs
from service.inference.ticket import Ticket

_END_OF_HEAD: Final = b"\r\n\r\n"

# heads of honest clients are few; this bounds what the others can make the server keep
_KEPT_MAX: Final = 1024
_HEAD_MAX_BYTES: Final = 8192

# a head with one of these asks for more than a body and an answer
_UNUSUAL: Final = frozenset({b"expect", b"transfer-encoding", b"upgrade", b"connection"})


@dataclass(frozen=True, slots=True)
class _Head:
    """What follows from the bytes of a head.

    Attributes:
        body_bytes: Length of the body that belongs to it.
        request_id: The client's own, where it sends always the same.
        key: Name of the API key in it, which a server that asks for keys knows.
    """

    plan: Plan
    body_bytes: int
    timeout_s: float
    request_id: bytes | None
    key: str | None


class Express:
    """The short way of requests whose heads have come before.

    Args:
        plans: Of the ordinary way.
        request_ids: Makes the ids of requests without one.
        gate: Asks for keys; a head that it does not let in is never kept.

    Attributes:
        request_ids: The same.
    """

    def __init__(self, plans: Plans, request_ids: RequestIds, gate: Gate | None) -> None:
        self._plans = plans
        self._gate = gate
        self.request_ids = request_ids
        self._heads: dict[bytes, _Head] = {}
        self._changes = -1

    def take(self, data: bytes, runtime: Runtime, reply: Reply) -> Ticket | None:
        """Answer the one whole request that *data* is; ``None`` when the ordinary way must.

        Returns:
            The request's ticket, by which its client may leave.
        """
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        head = self._heads.get(data[:end])
        if head is None or len(data) - end != head.body_bytes:
            return None
        if runtime.registry.changes != self._changes:
            self._heads.clear()
            return None
        plan = head.plan
        batcher = plan.live.autoencoder.batchers.get(plan.queue)
        if batcher is None:
            return None
        exchange = Exchange(runtime, "POST", head.request_id or self.request_ids.make())
        exchange.follow(plan.model, plan.metrics, plan.template)
        if head.key is not None:
            exchange.key = head.key
        exchange.ticket.deadline = exchange.ticket.started + head.timeout_s
        is_taken = _Call(plan, exchange, reply).start(data[end:], batcher)
        return exchange.ticket if is_taken else None

    def learn(self, data: bytes, scope: Scope, runtime: Runtime) -> None:
        """Keep the head at the beginning of *data*, which the ordinary way reads as *scope*."""
        head = data[: data.find(_END_OF_HEAD) + len(_END_OF_HEAD)]
        if len(head) > _HEAD_MAX_BYTES or not _is_regular(head, len(scope["headers"])):
            return
        try:
            meaning = self._read(scope, runtime)
        except HourglassError:  # the ordinary way says what is wrong, every time
            return
        if meaning is None:
            return
        if runtime.registry.changes != self._changes or len(self._heads) >= _KEPT_MAX:
            self._heads.clear()
            self._changes = runtime.registry.changes
        self._heads[head] = meaning

    def _read(self, scope: Scope, runtime: Runtime) -> _Head | None:
        headers = headers_of(scope)
        # a plan is of all who ask the same, whatever their keys
        key = None if self._gate is None else self._gate.admit(scope, headers)
        is_usual = (
            scope["method"] == "POST"
            and scope["http_version"] == "1.1"
            and _UNUSUAL.isdisjoint(headers)
            and headers.get(b"content-length", b"").isdigit()
            and len(headers[b"content-length"]) <= LENGTH_MAX_DIGITS
        )
        plan = self._plans.find(scope, headers, runtime.registry.changes) if is_usual else None
        body_bytes = int(headers[b"content-length"]) if is_usual else 0
        if plan is None or not _is_plain(plan, body_bytes) or body_bytes > plan.body.max_bytes:
            return None
        return _Head(
            plan=plan,
            body_bytes=body_bytes,
            timeout_s=timeout_of(headers, runtime.settings.request_timeout_s),
            request_id=self.request_ids.theirs(headers),
            key=key,
        )


def _is_regular(head: bytes, headers: int) -> bool:
    """Whether *head* ends where the parser says: a line, so many headers, and nothing folded.

    A parser that takes a bare line feed for the end of a line would see another end.
    """
    lines = head.split(b"\r\n")
    has_stray_end = any(b"\r" in line or b"\n" in line for line in lines)
    return len(lines) == headers + 3 and not has_stray_end


def _is_plain(plan: Plan, body_bytes: int) -> bool:
    """Whether parsing is quick, and one run of the operation's own graph is all it takes."""
    is_drawn = plan.operation == operations.ANOMALY_SCORE and plan.media == PNG
    is_one_run = not is_drawn and plan.wish.is_one_run
    is_costly = plan.body.encoding or plan.body.is_costly(body_bytes, plan.wish.options)
    return is_one_run and not is_costly


class _Call:
    """One request on its short way."""

    __slots__ = ("_exchange", "_plan", "_reply", "_wish")

    def __init__(self, plan: Plan, exchange: Exchange, reply: Reply) -> None:
        self._plan = plan
        self._exchange = exchange
        self._reply = reply
        self._wish = plan.wish

    def start(self, data: bytes, batcher: Batcher) -> bool:
        """Queue the body's rows; ``False`` when its options ask for more than one run."""
        ticket = self._exchange.ticket
        try:
            batcher.check_room()  # before a body is parsed in vain
            try:
                rows, self._wish = parse(self._plan, data)
            finally:
                ticket.parse_s = perf_counter() - ticket.started
            if self._wish is not self._plan.wish and self._is_more():
                return False
            ticket.rows = len(rows)
            batcher.submit(rows, ticket, self._finish)
        except Exception as error:  # noqa: BLE001 - ours by the table, any other as a bare 500
            self._fail(error)
        return True

    def _is_more(self) -> bool:
        """Whether the options in the body ask for another run than those of the head."""
        return not self._wish.is_one_run or self._wish.layer != self._plan.wish.layer

    def _finish(self, outcome: Outputs | HourglassError) -> None:
        if isinstance(outcome, HourglassError):
            self._fail(outcome)
            return
        exchange = self._exchange
        try:
            given = Given(outcome[0], further=outcome[1:])
            answer = render(self._plan, self._wish, given, exchange.ticket)
        except Exception as error:  # noqa: BLE001 - nobody else of the batch may suffer from it
            self._fail(error)
            return
        if isinstance(answer, tuple):
            self._succeed(answer)
            return
        work = asyncio.get_running_loop().run_in_executor(None, answer)
        work.add_done_callback(self._finish_later)

    def _finish_later(self, work: asyncio.Future[Answer]) -> None:
        """Answer with what a thread has made."""
        if work.cancelled():  # the loop ends
            return
        error = work.exception()
        if isinstance(error, Exception):
            self._fail(error)
        else:
            self._succeed(work.result())

    def _succeed(self, answer: Answer) -> None:
        self._exchange.count("ok")
        self._send(*answer)

    def _fail(self, error: Exception) -> None:
        exchange = self._exchange
        exchange.fault = error
        exchange.count(outcome_of(error))
        if isinstance(error, ClientGoneError):
            record(exchange)
            return
        problem = problem_of(error, exchange.request_id.decode())
        self._send(problem.status, problem.headers, problem.body)

    def _send(self, status: int, headers: Headers, body: bytes) -> None:
        exchange = self._exchange
        exchange.status = status
        length = (b"content-length", b"%d" % len(body))
        self._reply(status, [*headers, length, *exchange.marks], body)
        record(exchange)
