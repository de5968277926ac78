"""The open-loop generator: its plan, its HTTP, and that a queue shows in its latencies."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from benchmarks.generator import Generator, answer_length, arrivals, make_request

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextmanager
def server(answers: list[bytes]) -> Iterator[tuple[str, int]]:
    """Take connections, and give the next answer to the first byte of each request."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    def talk(connection: socket.socket) -> None:
        with connection:
            while connection.recv(65536) and answers:
                connection.sendall(answers.pop(0))

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def generator(address: tuple[str, int], plan: list[float]) -> Generator:
    return Generator(address, b"GET / HTTP/1.1\r\n\r\n", plan, connections=2, patience_s=0.2)


def test_a_plan_has_exactly_its_rate_and_is_the_same_every_time():
    plan = arrivals(1000, 2)

    assert len(plan) == 2000
    assert plan[-1] == pytest.approx(2)
    assert plan == sorted(plan) == arrivals(1000, 2)


def test_arrivals_are_not_in_step():
    gaps = [b - a for a, b in pairwise(arrivals(1000, 2))]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5

    assert deviation == pytest.approx(mean, rel=0.1)


def test_a_request_says_how_long_it_is():
    request = make_request("http://127.0.0.1:8/v1/x", b"abc", "text/plain")

    assert request.startswith(b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:8\r\n")
    assert b"\r\nContent-Length: 3\r\n" in request
    assert request.endswith(b"\r\n\r\nabc")


def test_an_answer_is_as_long_as_head_and_body():
    assert answer_length(ANSWER) == len(ANSWER)
    assert answer_length(ANSWER[:20]) is None


def test_an_answer_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match="Content-Length"):
        answer_length(b"HTTP/1.1 200 OK\r\n\r\n")


def test_all_requests_are_answered():
    with server([ANSWER] * 20) as address:
        record = generator(address, [n / 1000 for n in range(20)]).run()

    assert (len(record.latencies), len(record.lags), record.errors) == (20, 20, 0)


def test_a_status_that_is_no_success_is_an_error():
    bad = ANSWER.replace(b"200 OK", b"503 Service Unavailable")
    with server([ANSWER, bad, ANSWER]) as address:
        record = generator(address, [0.0, 0.03, 0.06]).run()

    assert (len(record.latencies), record.errors) == (3, 1)


def test_what_is_never_answered_is_an_error():
    with server([ANSWER]) as address:
        record = generator(address, [0.0, 0.0, 0.02]).run()

    assert len(record.latencies) + record.errors == 3
    assert record.errors == 2
