"""Slow clients of a real server, fifty of each kind: cut in time, and nobody else waits for them.

``make slow-clients`` does the same with slowhttptest, ten times as many, and looks at the clock.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest

from benchmarks.proc import cpu_s
from tests import tiny
from tests.api.line import request
from tests.api.wire import RAW, url
from tests.e2e.client import WITHIN_S, Client, get, number, until
from tests.e2e.server import Process, process

pytestmark = pytest.mark.slow

MANY = 50
HEADER_S, REQUEST_S, SEND_S = 1.0, 1.5, 1.0
# of uvicorn: between two requests
KEEP_ALIVE_S = 5.0
# what a busy machine may add
LATE_S = 10.0
GOOD = request(url("tabular", "encode"), bytes(16), content_type=RAW, accept=RAW)
# the longest answer to a GET
LONG = request("/static-offline-docs/swagger-ui-bundle.js", method="GET")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.write_tabular(folder)
    timeouts = {"header": HEADER_S, "request": REQUEST_S, "send": SEND_S}
    flags = [f"--{name}-timeout-ms={1e3 * seconds:g}" for name, seconds in timeouts.items()]
    with process(*flags, "--device", "cpu", models=folder) as server:
        yield server


def open_connections(server: Process) -> float:
    """How many there are, but for that which asks."""
    return number(server.url, "hourglass_connections") - 1


@contextmanager
def slow(
    server: Process, sent: bytes, receive_bytes: int | None = None
) -> Iterator[list[socket.socket]]:
    """Many connections that send so much and no more."""
    place = urlsplit(server.url)
    with ExitStack() as stack:
        made = []
        for _ in range(MANY):
            each = stack.enter_context(socket.socket())
            if receive_bytes is not None:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            each.settimeout(WITHIN_S)
            each.connect((place.hostname, place.port))
            each.sendall(sent)
            made.append(each)
        yield made


def trickle(sockets: list[socket.socket], is_over: Callable[[], bool]) -> None:
    """Send a byte on each now and then, until *is_over* or nobody takes it any more."""
    left = list(sockets)
    end = time.monotonic() + WITHIN_S
    while left and not is_over():
        assert time.monotonic() < end
        for each in list(left):
            try:
                each.send(b"x")
            except ConnectionError:
                left.remove(each)
        time.sleep(0.1)


# half a line, half a header, half a body; and the rest of each byte by byte
BEGUN = {
    "nothing": (b"", HEADER_S, b""),
    "line": (b"POST /v1/mod", HEADER_S, b"408"),
    "header": (GOOD[:60], HEADER_S, b"408"),
    "body": (GOOD[:-8], REQUEST_S, b"504"),
    "unread body": (
        request("/livez", bytes(10**6), method="GET", content_length="1000000")[:-9],
        HEADER_S,
        b"200",
    ),
}


@pytest.mark.parametrize("kind", BEGUN)
def test_who_stops_in_the_middle_is_answered_and_cut(server, kind):
    sent, patience_s, status = BEGUN[kind]
    before = open_connections(server)
    began = time.monotonic()
    with slow(server, sent) as sockets:
        assert open_connections(server) == before + MANY
        answers = [received(each) for each in sockets]
        took_s = time.monotonic() - began

    assert {answer[9:12] for answer in answers} == {status}
    assert patience_s <= took_s + 0.1
    assert took_s < patience_s + LATE_S
    assert open_connections(server) == before


def received(connection: socket.socket) -> bytes:
    """Everything until the end of the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "sent", [b"POST /", GOOD[:60], GOOD.replace(b"16", b"99999")], ids=["line", "header", "body"]
)
def test_who_sends_byte_by_byte_wins_no_time_and_takes_none_from_others(server, sent):
    before = open_connections(server)
    began = time.monotonic()
    with slow(server, sent) as sockets, Client(server.url) as good:

        def others_are_served() -> bool:
            assert good.ask(GOOD).status_code == 200
            return False

        trickle(sockets, others_are_served)
        took_s = time.monotonic() - began

    assert took_s < max(HEADER_S, REQUEST_S) + LATE_S
    until(lambda: open_connections(server) == before)


def test_who_does_not_read_is_cut_while_others_are_served(server):
    before = open_connections(server)
    unread = number(server.url, "hourglass_connections_cut_total", reason="unread")
    began = time.monotonic()
    with slow(server, LONG, receive_bytes=1024), Client(server.url) as good:

        def all_are_gone() -> bool:
            assert good.ask(GOOD).status_code == 200
            return open_connections(server) <= before + 1

        until(all_are_gone)
        took_s = time.monotonic() - began

    assert took_s < KEEP_ALIVE_S + SEND_S + LATE_S
    assert number(server.url, "hourglass_connections_cut_total", reason="unread") == unread + MANY


def test_an_answer_that_lies_in_the_kernel_unread_is_not_kept_there(server):
    """It was sent as far as the process can see, and the connection rests."""
    before = open_connections(server)
    unread = number(server.url, "hourglass_connections_cut_total", reason="unread")
    with slow(server, request("/openapi.json", method="GET"), receive_bytes=1024):
        until(lambda: open_connections(server) == before)

    assert number(server.url, "hourglass_connections_cut_total", reason="unread") == unread + MANY


def test_over_the_limit_of_connections_health_is_still_answered(tmp_path):
    tiny.write_tabular(tmp_path)
    with process("--max-connections", "60", "--device", "cpu", models=tmp_path) as server:
        with slow(server, b"POST /v1"), ExitStack() as stack:
            until(lambda: open_connections(server) >= MANY)
            for _ in range(12):
                stack.enter_context(Client(server.url)).send(b"POST /v1")
            assert get(server.url, "/livez").status_code == 200
            assert get(server.url, "/readyz").status_code == 200
            assert get(server.url, "/v1/models").status_code == 503
            assert (
                number(
                    server.url, "hourglass_http_responses_total", route="unmatched", status="503"
                )
                == 1
            )
        until(lambda: get(server.url, "/v1/models").status_code == 200)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="limits of files are set as on Linux")
def test_running_out_of_files_neither_spins_nor_ends_the_service(tmp_path):
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits of other processes cannot be set here")
    tiny.write_tabular(tmp_path)
    with process("--max-connections", "200", "--device", "cpu", models=tmp_path) as server:
        with Client(server.url) as early:
            assert early.ask(GOOD).status_code == 200
            soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (40, hard))
            before_s = cpu_s(server.pid)
            with slow(server, b"POST /v1"):
                for _ in range(10):
                    assert early.ask(GOOD).status_code == 200
                    time.sleep(0.1)
                used_s = cpu_s(server.pid) - before_s
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))

        print(f"{used_s:.2f} s of CPU in a second without files")  # noqa: T201
        assert used_s < 0.5
        until(lambda: get(server.url, "/livez").status_code == 200)
