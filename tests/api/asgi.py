"""The app called as a server calls it, many requests at once in one event loop."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.api.limits import Edge
from service.api.runtime import STATE
from service.app import create_app
from service.assembly import SessionFactory
from service.registry import Registry
from service.settings import Settings
from tests.api import wire

WITHIN_S = 20.0

Receive = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(slots=True)
class Answer:
    """What came back; status 0 when the app sent nothing."""

    status_code: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    def json(self) -> Any:
        return json.loads(self.content)


class Connection:
    """The receiving side of one request: its body, then silence until the client leaves."""

    def __init__(self, chunks: Iterable[bytes] = (b"",), *, is_complete: bool = True) -> None:
        parts = list(chunks)
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for number, body in enumerate(parts, 1):
            more = number < len(parts) or not is_complete
            self._messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def receive(self) -> dict[str, Any]:
        return await self._messages.get()

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})


class Server:
    """A running app."""

    def __init__(self, app: Edge, state: dict[str, Any]) -> None:
        self.app = app
        self.state = state

    @property
    def registry(self) -> Registry:
        registry: Registry = self.state[STATE].registry
        return registry

    async def send(
        self,
        method: str,
        path: str,
        connection: Connection | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (name.lower().encode(), value.encode()) for name, value in (headers or {}).items()
            ],
            "client": ("192.0.2.1", 1),
            "server": ("192.0.2.2", 8000),
            "state": dict(self.state),
        }
        answer = Answer()

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status_code = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                answer.content += message.get("body", b"")

        async with asyncio.timeout(WITHIN_S):
            await self.app(scope, (connection or Connection()).receive, send)  # type: ignore[arg-type]
        return answer

    async def post(self, path: str, inputs: Any, **headers: str) -> Answer:
        """Send rows as JSON; underscores in the names of headers stand for hyphens."""
        sent = {"content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps({"inputs": inputs}).encode()
        return await self.send("POST", path, Connection([body]), sent)

    async def number(self, name: str, **labels: str) -> float:
        """One sample of the server's metrics."""
        text = (await self.send("GET", "/metrics")).content.decode()
        return wire.sample(text, name, **labels)

    async def until(self, name: str, value: float, **labels: str) -> None:
        """Let the loop turn until a sample has come to *value*."""
        async with asyncio.timeout(WITHIN_S):
            while await self.number(name, **labels) != value:  # noqa: ASYNC110 - a scrape
                await asyncio.sleep(0.002)

    async def until_rows_wait(self, rows: int) -> None:
        """Let the loop turn until *rows* are in the queue of ``encode``."""
        await self.until("hourglass_queue_rows", rows, operation="encode")


@asynccontextmanager
async def running(
    models: Path, *, sessions: SessionFactory | None = None, **settings: Any
) -> AsyncIterator[Server]:
    """Run the app's lifespan in this loop, and wait until it is ready."""
    # one run at a time, so that a session that is held holds all
    settings.setdefault("parallel_runs", 1)
    app = create_app(Settings(models=models, device="cpu", **settings), sessions=sessions)
    async with app.app.router.lifespan_context(app.app) as state:
        server = Server(app, dict(state or {}))
        async with asyncio.timeout(WITHIN_S):
            while (await server.send("GET", "/readyz")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        yield server


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop turn until *is_so*."""
    async with asyncio.timeout(WITHIN_S):
        while not is_so():  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.002)
