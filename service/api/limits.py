"""The outermost layer: request id, the hot path's way past FastAPI, errors that nobody caught.

Pure ASGI: a ``BaseHTTPMiddleware`` would cost more than the rest of a small request, and hides
a client's departure.
"""

import asyncio
from functools import partial

from fastapi import FastAPI
from starlette.datastructures import State
from starlette.types import Message, Receive, Send

from service.api.errors import problem_of
from service.api.express import Express
from service.api.gate import Gate
from service.api.open_inference import OpenInference
from service.api.operations import Operations
from service.api.protocol import in_form_of, is_open_inference
from service.api.records import record
from service.api.requests import RequestIds, headers_of
from service.api.runtime import EXCHANGE, UNMATCHED, Exchange, Scope, runtime_of
from service.errors import ClientGoneError


class Edge:
    """The ASGI application: answers the operations itself and leaves the rest to FastAPI.

    Args:
        app: Models, health, metrics and documentation, and the lifespan.
        gate: Asks for keys; ``None`` where everybody may do everything.

    Attributes:
        express: A short way to the operations, for a server that can take it.
    """

    def __init__(self, app: FastAPI, gate: Gate | None) -> None:
        self.app = app
        self._gate = gate
        json_turn = asyncio.Lock()
        self._operations = Operations(json_turn)
        self._inference = OpenInference(json_turn)
        self._request_ids = RequestIds()
        self.express = Express(self._operations.plans, self._request_ids, gate)

    @property
    def state(self) -> State:
        """What the composition root put there: the lifecycle."""
        return self.app.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = headers_of(scope)
        request_id = self._request_ids.of(headers)
        exchange = scope[EXCHANGE] = Exchange(runtime_of(scope), scope["method"], request_id)
        try:
            if self._gate is not None:
                exchange.key = self._gate.admit(scope, headers)
            endpoint = self._inference if is_open_inference(scope) else self._operations
            answer = await endpoint.answer(exchange, scope, headers, receive)
            if answer is None:
                await self.app(scope, receive, partial(_send_marked, exchange, send))
            else:
                await exchange.answer(scope, send, *answer)
        except Exception as error:  # noqa: BLE001 - ours by the table, any other as a bare 500
            exchange.fault = error
            if exchange.status is None and not isinstance(error, ClientGoneError):
                problem = in_form_of(scope, problem_of(error, exchange.request_id.decode()))
                await exchange.answer(scope, send, problem.status, problem.headers, problem.body)
        finally:
            if exchange.route == UNMATCHED:
                exchange.route = _template_of(scope)
            record(exchange)


async def _send_marked(exchange: Exchange, send: Send, message: Message) -> None:
    """Send a part of FastAPI's answer, with what every answer carries."""
    if message["type"] == "http.response.start":
        exchange.status = message["status"]
        message["headers"] = [*message.get("headers", ()), *exchange.marks]
    await send(message)


def _template_of(scope: Scope) -> str:
    """Name the route that answered, out of a closed set."""
    if "route" in scope:
        return str(getattr(scope["route"], "path", UNMATCHED))
    path = scope["path"]
    if path.startswith("/static-offline-docs/"):
        return "/static-offline-docs/{file}"
    return path if path == "/openapi.json" else UNMATCHED
