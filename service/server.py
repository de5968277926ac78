"""Uvicorn with a gentler end: readiness goes first, the listener later, the exit status is 0.

When the device is lost the same end comes by itself, with an exit status of its own.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any, Final, NoReturn

import uvicorn

from service.api.limits import Edge
from service.api.runtime import Lifecycle
from service.connection import Connection
from service.doorkeeper import Doorkeeper, file_limit, places
from service.settings import Settings

logger = logging.getLogger(__name__)

# how long an open connection may stay silent after the listener is closed
LAST_REQUESTS_S: Final = 0.5

# what the kernel takes of an answer before the client has taken any
UNSENT_MAX_BYTES: Final = 256 * 1024

# whoever restarts the process, and whoever reads its log, should see why (uvicorn takes 3)
EXIT_DEVICE_LOST: Final = 4


def make_config(app: Edge, settings: Settings) -> uvicorn.Config:
    """Say how uvicorn is to serve *app*; logging is configured already.

    Raises:
        ConfigurationError: It may not have as many files open as there are to be connections.
    """
    doorkeeper = Doorkeeper(places(settings, file_limit()))
    connection: Any = partial(Connection, doorkeeper=doorkeeper)  # uvicorn only calls it
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=connection,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is, and it costs on every request
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_ms / 1000)),
    )


class Server(uvicorn.Server):
    """A server that a load balancer can see going.

    Args:
        config: Uvicorn's own.
        lifecycle: Told when the end begins, and tells when the device is lost.
        drain_delay_s: Seconds from SIGTERM, or from the loss of the device, when readiness goes,
            to the end of the listener.
    """

    def __init__(
        self, config: uvicorn.Config, lifecycle: Lifecycle, *, drain_delay_s: float
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_delay_s = drain_delay_s
        self._stop_at = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                _bound_unsent(listener)
                host, port = listener.getsockname()[:2]
                logger.info("listening", extra={"host": host, "port": port})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Begin to drain at the first SIGTERM; anything else, or a second one, ends at once.

        Uvicorn would raise the signal again after its shutdown, so that the process dies of it.
        """
        is_patient = sig == signal.SIGTERM and not self._lifecycle.is_draining
        self._lifecycle.is_draining = True
        if is_patient:
            self._stop_at = monotonic() + self._drain_delay_s
        elif self.should_exit:
            self.force_exit = True
        else:
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and let connections that are already open bring their request.

        Uvicorn closes a connection that has sent nothing yet, and with it a request on its way.
        """
        for server in self.servers:
            server.close()
        patience_ends = monotonic() + LAST_REQUESTS_S
        # uvicorn tells nobody when a connection closes
        while self.server_state.connections and monotonic() < patience_ends:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if self._lifecycle.is_device_lost and not self._lifecycle.is_draining:
            self._end_for_device()
        if monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    def _end_for_device(self) -> None:
        """Begin to drain, so that liveness is seen to fail and nobody is left without an answer."""
        self._lifecycle.is_draining = True
        self._stop_at = monotonic() + self._drain_delay_s
        logger.critical(
            "the device is lost: requests get 503 and the process ends",
            extra={"delay_s": self._drain_delay_s, "exit_status": EXIT_DEVICE_LOST},
        )


def _bound_unsent(listener: socket.socket) -> None:
    """Let the kernel keep little for clients that read slowly; connections inherit it.

    It would take megabytes of an answer for each of them. What is under way is not counted, so a
    client that is far away is served as quickly as before.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_MAX_BYTES)


def end_at_once(status: int) -> NoReturn:
    """End the process without taking anything apart.

    What ONNX Runtime holds on a lost device cannot be let go of: its destructors throw, and the
    process would die of SIGABRT instead of ending with *status*.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
