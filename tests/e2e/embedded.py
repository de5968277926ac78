"""The real server on real sockets, in a thread of this process: its sessions can be held."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.api.limits import Edge
from service.app import create_app
from service.assembly import SessionFactory
from service.server import Server, make_config
from service.settings import Settings
from tests.e2e.client import WITHIN_S, get, until


class Embedded:
    """A running server."""

    def __init__(self, app: Edge, server: Server) -> None:
        self._app = app
        self._server = server

    @property
    def url(self) -> str:
        host, port = self._server.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"

    def knows(self, request: bytes) -> bool:
        """Whether the next such request takes the short way."""
        head = request[: request.find(b"\r\n\r\n") + 4]
        return head in self._app.express._heads


@contextmanager
def embedded(
    models: Path,
    *,
    sessions: SessionFactory | None = None,
    idle_s: int | None = None,
    **settings: Any,
) -> Iterator[Embedded]:
    """Serve *models* until the end of the block, from when they are ready.

    Args:
        models: The repository.
        sessions: Makes the sessions; ONNX Runtime's unless given.
        idle_s: How long a connection may rest between two requests; as long as usual unless given.
        settings: What is not to be as usual.
    """
    wanted = Settings(models=models, device="cpu", port=0, **settings)
    app = create_app(wanted, sessions=sessions)
    config = make_config(app, wanted)
    config.timeout_keep_alive = idle_s or config.timeout_keep_alive
    server = Server(config, app.state.lifecycle, drain_delay_s=0)
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        running = Embedded(app, server)
        until(lambda: get(running.url, "/readyz").status_code == 200)
        yield running
    finally:
        server.should_exit = True
        thread.join(WITHIN_S)
    assert not thread.is_alive()
