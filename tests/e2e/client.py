"""Clients that write their requests byte for byte and keep their connections."""

import socket
import time
from collections.abc import Callable
from http.client import HTTPResponse
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.api import wire
from tests.api.asgi import Answer
from tests.api.wire import RAW

# nothing in a test may wait longer
WITHIN_S = 30.0

# A request that comes in one piece, with a head that was seen before, takes the server's short
# way (service.api.express). One that says how to keep the connection never does.
WAYS = ("ordinary", "short")


def request(path: str, body: bytes, way: str, **headers: str) -> bytes:
    """Write a request of raw rows; underscores in the names of headers stand for hyphens."""
    fields = {"host": "test", "content-type": RAW, "accept": RAW}
    if way == "ordinary":
        fields["connection"] = "keep-alive"
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


class Client:
    """One connection.

    At its end *send* and *receive* raise a ``ConnectionError``: a ``RemoteDisconnected`` when the
    server has closed it, any other when it was reset.
    """

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._address = (place.hostname or "", place.port or 0)
        self._socket = self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def ports(self) -> tuple[int, int]:
        """Its own, and the server's."""
        return self._socket.getsockname()[1], self._address[1]

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, *, within_s: float = WITHIN_S) -> Answer:
        self._socket.settimeout(within_s)
        response = HTTPResponse(self._socket, method="POST")
        try:
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            response.close()

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.receive()

    def close(self) -> None:
        self._socket.close()

    def come_back(self) -> None:
        """Leave, whatever is under way, and open another connection."""
        self.close()
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        connected = socket.create_connection(self._address, timeout=WITHIN_S)
        # a request that is written in two pieces must not wait for the answer to the first
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected


def get(url: str, path: str) -> Answer:
    with Client(url) as client:
        return client.ask(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())


def number(url: str, name: str, **labels: str) -> float:
    """Give one sample of a server's metrics."""
    return wire.sample(get(url, "/metrics").content.decode(), name, **labels)


def until(is_so: Callable[[], bool]) -> None:
    """Wait until *is_so*."""
    end = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < end, "it never came to what was waited for"
        time.sleep(0.002)


def until_rows_wait(url: str, rows: int) -> None:
    """Wait until *rows* are in the queues of ``encode``."""
    until(lambda: number(url, "hourglass_queue_rows", operation="encode") == rows)


def make_known(url: str, *requests: bytes) -> None:
    """Send each request as often as it takes until its head is known to the server."""
    with Client(url) as client:
        for data in requests:
            for _ in range(3):
                assert client.ask(data).status_code == 200
