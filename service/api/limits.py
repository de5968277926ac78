"""The outermost layer: request id, the hot path's way past FastAPI, errors that nobody caught.

Pure ASGI: a ``BaseHTTPMiddleware`` would cost more than the rest of a small request, and hides
a client's departure.
"""

import logging
import re
import secrets
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import Counter
from starlette.datastructures import State
from starlette.types import Message, Receive, Send

from service.api.errors import make_problem, problem_of
from service.api.operations import Operations, route_of
from service.api.responses import send_answer
from service.api.runtime import EXCHANGE, UNMATCHED, Exchange, Runtime, Scope, runtime_of
from service.errors import ClientGoneError, HourglassError

logger = logging.getLogger(__name__)

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Edge:
    """The ASGI application: answers the operations itself and leaves the rest to FastAPI.

    Args:
        app: Models, health, metrics and documentation, and the lifespan.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._operations = Operations()
        self._counters: dict[tuple[str, int], Counter] = {}

    @property
    def state(self) -> State:
        """What the composition root put there: the lifecycle."""
        return self.app.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = scope[EXCHANGE] = Exchange(_request_id(scope))
        marks = [(b"x-request-id", exchange.request_id.encode())]
        if runtime_of(scope).lifecycle.is_draining:
            # the client opens its next connection elsewhere, and none is cut off at the end
            marks.append((b"connection", b"close"))

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *marks]
            await send(message)

        try:
            await self._answer(scope, receive, send_marked)
        except Exception as error:  # noqa: BLE001 - ours by the table, any other as a bare 500
            exchange.fault = error
            if exchange.status is None and not isinstance(error, ClientGoneError):
                problem = problem_of(error, exchange.request_id)
                await send_answer(send_marked, problem.status, problem.headers, problem.body)
        finally:
            self._record(scope, exchange, runtime_of(scope))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = route_of(scope)
        if route is None:
            await self.app(scope, receive, send)
            return
        exchange: Exchange = scope[EXCHANGE]
        exchange.route = route.template
        if scope["method"] == "POST":
            await self._operations.answer(route, scope, receive, send)
        else:
            await _refuse_method(exchange, send)

    def _record(self, scope: Scope, exchange: Exchange, runtime: Runtime) -> None:
        if exchange.status is None:
            _log(scope, exchange)
            return
        if exchange.route == UNMATCHED:
            exchange.route = _template_of(scope)
        key = (exchange.route, exchange.status)
        counter = self._counters.get(key)
        if counter is None:
            counter = runtime.metrics.http_responses.labels(exchange.route, str(exchange.status))
            self._counters[key] = counter
        counter.inc()
        is_failure = exchange.status >= 400 or exchange.fault is not None  # noqa: PLR2004
        if is_failure or runtime.settings.access_log:
            _log(scope, exchange)


async def _refuse_method(exchange: Exchange, send: Send) -> None:
    problem = make_problem(
        405, "an operation is asked for by POST", exchange.request_id, fields={"expected": "POST"}
    )
    headers = [*problem.headers, (b"allow", b"POST")]
    await send_answer(send, problem.status, headers, problem.body)


def _template_of(scope: Scope) -> str:
    """Name the route that answered, out of a closed set."""
    if "route" in scope:
        return str(getattr(scope["route"], "path", UNMATCHED))
    path = scope["path"]
    if path.startswith("/static-offline-docs/"):
        return "/static-offline-docs/{file}"
    return path if path == "/openapi.json" else UNMATCHED


def _request_id(scope: Scope) -> str:
    """Take the client's id over when it is harmless, else make one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(8)


def _log(scope: Scope, exchange: Exchange) -> None:
    """Write one line of a request: successes when asked for, failures always."""
    fields: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": scope["method"],
        "route": exchange.route,
        "status": exchange.status,
        "seconds": round(exchange.elapsed_s, 6),
    }
    if exchange.model is not None:
        fields["model"], fields["version"] = exchange.model
    if exchange.ticket is not None:
        fields["rows"] = exchange.ticket.rows
    fault = exchange.fault
    if isinstance(fault, HourglassError):
        fields["fault"] = str(fault)
    is_unknown = fault is not None and not isinstance(fault, HourglassError)
    level = logging.WARNING if fault is not None or (exchange.status or 0) >= 400 else logging.INFO  # noqa: PLR2004
    if is_unknown or exchange.status in {500, 504}:  # these want somebody to look
        level = logging.ERROR
    message = "request answered" if exchange.status is not None else "client left"
    logger.log(level, message, extra=fields, exc_info=fault if is_unknown else None)
