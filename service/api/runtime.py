"""What a request needs and what is kept of it: found in its scope."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, TypeAlias, cast

from starlette.types import Send

from service.api.responses import WHOLE_ANSWER, Headers, WholeAnswer
from service.inference.ticket import Ticket
from service.metrics import Metrics, OperationMetrics
from service.registry import Registry
from service.settings import Settings

Scope: TypeAlias = MutableMapping[str, Any]

STATE: Final = "runtime"
EXCHANGE: Final = "hourglass.exchange"

UNMATCHED: Final = "unmatched"


@dataclass(slots=True)
class Lifecycle:
    """How far the process is on its way from start to end.

    Attributes:
        is_draining: Readiness is withdrawn; requests are still answered.
        is_device_lost: No answer will come until the process restarts.
        is_stuck: The end has come, and a model is still being loaded that cannot be stopped.
    """

    is_draining: bool = False
    is_device_lost: bool = False
    is_stuck: bool = False


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a running server that requests use."""

    settings: Settings
    metrics: Metrics
    registry: Registry
    lifecycle: Lifecycle


class Exchange:
    """One request and its answer, as the edge sees them.

    Args:
        runtime: The server that it came to.
        method: The request's.
        request_id: The client's, or made here.

    Attributes:
        route: The path's template, ``unmatched`` until it is known.
        ticket: The times of the request.
        model: Name and version that answer, where the request is an operation of one.
        metrics: The series of that operation.
        status: Of the answer, once it is sent.
        fault: What went wrong, for the log.
        key: Name of the API key that let it in, for the log.
    """

    # defaults of the class, not of each request: most are never or only once written
    route = UNMATCHED
    status: int | None = None
    model: tuple[str, str] | None = None
    metrics: OperationMetrics | None = None
    fault: Exception | None = None
    key: str | None = None

    def __init__(self, runtime: Runtime, method: str, request_id: bytes) -> None:
        self.runtime = runtime
        self.method = method
        self.request_id = request_id
        self.ticket = Ticket()

    @property
    def elapsed_s(self) -> float:
        return perf_counter() - self.ticket.started

    @property
    def marks(self) -> Headers:
        """The headers that every answer carries."""
        request_id = (b"x-request-id", self.request_id)
        if self.runtime.lifecycle.is_draining:
            # the client opens its next connection elsewhere, and none is cut off at the end
            return [request_id, (b"connection", b"close")]
        return [request_id]

    def follow(self, model: tuple[str, str], metrics: OperationMetrics, route: str) -> None:
        """Note which model answers, and by which route it was asked."""
        self.model = model
        self.metrics = metrics
        self.route = route

    def count(self, outcome: str) -> None:
        """Note how a request to an operation ended, and the time of every phase it came to."""
        if self.metrics is None:
            return
        ticket = self.ticket
        self.metrics.requests.take(
            (
                outcome,
                ticket.rows,
                perf_counter() - ticket.started,
                ticket.parse_s,
                ticket.queue_s,
                ticket.infer_s,
                ticket.render_s,
                ticket.started,
            )
        )

    async def answer(
        self, scope: Scope, send: Send, status: int, headers: Headers, body: bytes
    ) -> None:
        """Send a whole answer: at once where the server can, else in two ASGI messages."""
        self.status = status
        whole = [*headers, (b"content-length", b"%d" % len(body)), *self.marks]
        extensions = scope.get("extensions")
        if extensions is not None and WHOLE_ANSWER in extensions:
            send_whole: WholeAnswer = extensions[WHOLE_ANSWER]
            if send_whole(status, whole, body):
                return
        await send({"type": "http.response.start", "status": status, "headers": whole})
        await send({"type": "http.response.body", "body": body})


def path_of(scope: Scope) -> str:
    """Give the path, without what a proxy or a mount has put before it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def runtime_of(scope: Scope) -> Runtime:
    """Find what the lifespan yielded."""
    return cast("Runtime", scope["state"][STATE])


def exchange_of(scope: Scope) -> Exchange:
    """Find what the edge keeps of this request."""
    return cast("Exchange", scope[EXCHANGE])
