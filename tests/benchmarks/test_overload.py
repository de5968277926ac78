"""The arithmetic of an overload, and the pieces that talk to a server."""

import os
import resource
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from benchmarks import overload
from benchmarks.load import Target
from benchmarks.overload import memory_of, recovery_s, solo_s, watching
from benchmarks.servers import Caller
from tests.benchmarks.made_up import an_overload


class Answering(BaseHTTPRequestHandler):
    """Answers with the next status of a list, and with 200 when there is none left."""

    protocol_version = "HTTP/1.1"
    statuses: ClassVar[list[int]] = []
    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.statuses.pop(0) if self.statuses else 200
        if not status:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    Answering.statuses, Answering.bodies = [], []
    body = tmp_path / "body"
    body.write_bytes(b"abc")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Target(os.getpid(), f"http://127.0.0.1:{server.server_port}/x", body, "text/plain")
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_goodput_is_a_share_of_the_mean_of_both_peaks():
    run = an_overload(in_time=900)

    assert (run.peak, run.goodput, run.share) == (100, 90, 0.9)


@pytest.mark.parametrize(("unsent", "is_void"), [(30, False), (31, True)])
def test_a_load_of_which_a_hundredth_was_not_sent_is_another_one(unsent, is_void):
    assert an_overload(unsent=unsent).is_void is is_void


def test_memory_grows_from_the_second_fifth_to_the_last():
    """What the queue takes while it fills is no growth, what comes afterwards is."""
    memory = memory_of([100.0, 150.0, 160.0, 160.0, 161.0, 163.0, 162.0, 170.0, 166.0, 168.0])

    assert (memory.start, memory.highest, memory.end, memory.growth) == (100, 170, 168, 7)


def test_memory_of_one_sample_is_flat():
    assert memory_of([100.0]).growth == 0


def test_memory_is_taken_while_something_runs(monkeypatch):
    monkeypatch.setattr(overload, "SAMPLE_EVERY_S", 0.001)
    end = time.monotonic() + 10

    with watching(os.getpid()) as taken:
        while len(taken) < 3 and time.monotonic() < end:
            time.sleep(0.001)

    assert len(taken) >= 3
    assert all(mib > 1 for mib in taken)


@pytest.mark.parametrize(
    ("rate", "limit", "expected"), [(90, 20000, 256), (900, 20000, 900), (9000, 20000, 4096)]
)
def test_connections_hold_what_comes_within_a_deadline(monkeypatch, rate, limit, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))

    assert overload._connections(rate) == expected


def test_connections_leave_files_for_others(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))

    assert overload._connections(9000) == 1024 - overload.SPARE_FILES


def test_a_caller_says_how_it_was_answered(target):
    Answering.statuses = [200, 429]
    caller = Caller(target)
    answers = [caller.call() for _ in range(2)]
    caller.close()

    assert [status for status, _ in answers] == [200, 429]
    assert all(seconds > 0 for _, seconds in answers)
    assert Answering.bodies == [b"abc"] * 2


def test_a_caller_connects_again_after_a_connection_broke(target):
    Answering.statuses = [0, 200]
    caller = Caller(target)
    statuses = [caller.call()[0] for _ in range(2)]
    caller.close()

    assert statuses == [0, 200]


def test_a_single_client_has_a_latency(target):
    assert solo_s(target, seconds=0.02) > 0


def test_refusals_are_no_recovery(target):
    Answering.statuses = [429, 503, 0]

    assert recovery_s(target, normal_s=10) < overload.RECOVERED_WITHIN_S
    assert len(Answering.bodies) == 4


def test_slow_answers_are_no_recovery(target, monkeypatch):
    monkeypatch.setattr(overload, "RECOVERED_WITHIN_S", 0.05)

    assert recovery_s(target, normal_s=0) == float("inf")
