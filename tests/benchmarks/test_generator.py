"""The open-loop generator: its plan, its HTTP, and that a queue shows in its latencies."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.generator import (
    Answer,
    Generator,
    Record,
    answer_length,
    arrivals,
    fates_of,
    figures_of,
    make_request,
)

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextmanager
def server(answers: list[bytes]) -> Iterator[tuple[str, int]]:
    """Take connections, and give the next answer to the first byte of each request."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    def talk(connection: socket.socket) -> None:
        # a client that leaves in the middle of an answer resets the connection
        with connection, suppress(ConnectionError):
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


def generator(address: tuple[str, int], plan: list[float], **more: Any) -> Generator:
    options = {"connections": 2, "patience_s": 0.2, **more}
    return Generator(address, b"GET / HTTP/1.1\r\n\r\n", plan, **options)


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


def test_further_headers_stand_before_the_body():
    request = make_request("http://127.0.0.1:8/", b"abc", "text/plain", {"X-Most": "9"})

    assert b"\r\nX-Most: 9\r\n" in request.partition(b"\r\n\r\n")[0]


def test_an_answer_is_as_long_as_head_and_body():
    assert answer_length(ANSWER) == len(ANSWER)
    assert answer_length(ANSWER.replace(b"content-length", b"Content-Length")) == len(ANSWER)
    assert answer_length(ANSWER[:20]) is None


def test_a_length_in_the_body_is_not_one():
    with pytest.raises(ValueError, match="Content-Length"):
        answer_length(b"HTTP/1.1 200 OK\r\n\r\n\r\ncontent-length: 5\r\n\r\n")


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


def test_a_request_waits_for_a_connection_and_the_wait_counts():
    """Both requests are due at once, there is one connection, and nobody gives up."""
    with server([ANSWER] * 2) as address:
        record = generator(address, [0.0, 0.0], connections=1).run()

    first, second = record.answers
    assert (first.planned, second.planned, record.errors) == (0.0, 0.0, 0)
    assert second.sent >= first.ended


def test_without_a_free_connection_a_request_that_gives_up_does_not_go():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        plan = [0.0, 0.01, 0.02]
        record = generator(silent.getsockname(), plan, connections=1, gives_up_s=0.05).run()

    assert (record.answers, record.unanswered, record.unsent) == ([], 1, 2)
    assert record.errors == 3


def test_a_request_that_would_go_too_late_does_not_go():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        record = generator(silent.getsockname(), [0.0], gives_up_s=1e-9).run()

    assert (record.unsent, record.unanswered) == (1, 0)


def test_a_connection_that_the_server_closes_while_idle_is_replaced():
    listener = socket.create_server(("127.0.0.1", 0))

    def serve_once_each() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(ANSWER)

    thread = threading.Thread(target=serve_once_each)
    thread.start()
    with listener:
        record = generator(listener.getsockname(), [0.0, 0.15], connections=1).run()
    thread.join(10)

    assert [answer.status for answer in record.answers] == [200, 200]
    assert record.errors == 0


def test_a_connection_that_breaks_under_a_request_is_an_error():
    listener = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with listener:
        record = generator(listener.getsockname(), [0.0], connections=1).run()
    thread.join(10)

    assert (record.broken, record.errors, record.answers) == (1, 1, [])


def test_the_other_stream_asks_again_as_soon_as_it_is_answered():
    with server([ANSWER] * 100_000) as address:
        plan = [0.0, 0.5]
        record = generator(address, plan, beside=b"POST / HTTP/1.1\r\n\r\n").run()

    assert record.beside > 2
    assert (len(record.answers), record.errors) == (2, 0)


def test_the_end_of_the_plan_is_told_before_the_last_answers():
    """The server answers only after it was told."""
    told = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def answer_when_told() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            if told.wait(10):
                connection.sendall(ANSWER)

    thread = threading.Thread(target=answer_when_told)
    thread.start()
    with listener:
        record = generator(
            listener.getsockname(), [0.0], connections=1, patience_s=5.0, on_sent=told.set
        ).run()
    thread.join(10)

    assert [answer.status for answer in record.answers] == [200]


def test_figures_are_of_latencies_from_the_planned_moment():
    record = Record([Answer(200, 0.0, 0.5, 1.0), Answer(503, 1.0, 1.0, 2.0)], [0.5, 0.0])
    figures = figures_of(record)

    assert (figures.achieved_per_s, figures.p50_ms, figures.p99_ms) == (1, 1000, 1000)
    assert (figures.lag_p99_ms, figures.errors) == (500, 1)


def test_without_answers_latencies_are_infinite():
    figures = figures_of(Record(lags=[0.0], unanswered=1))

    assert (figures.achieved_per_s, figures.p50_ms, figures.errors) == (0, float("inf"), 1)


def test_every_request_of_an_overload_has_one_fate():
    answers = [
        Answer(200, 0.0, 0.1, 0.9),  # in time
        Answer(200, 0.0, 0.0, 1.1),  # later than its deadline
        Answer(200, 9.5, 9.5, 10.1),  # in time, but the load was over
        Answer(429, 1.0, 1.5, 1.52),
        Answer(429, 2.0, 2.0, 2.04),
        Answer(504, 3.0, 3.0, 4.0),
    ]
    record = Record(answers, [0.002, 0.001], broken=1, unsent=2, unanswered=3)
    fates = fates_of(record, planned=12, seconds=10, timeout_s=1)

    assert (fates.in_time, fates.late, fates.refused, fates.others) == (1, 2, 2, {"504": 1})
    assert (fates.broken, fates.unsent, fates.unanswered) == (1, 2, 3)
    assert fates.planned == 1 + 2 + 2 + 1 + 1 + 2 + 3


def test_a_refusal_is_timed_from_its_sending():
    answers = [Answer(429, 1.0, 1.5, 1.52), Answer(429, 2.0, 2.0, 2.04)]
    fates = fates_of(Record(answers, [0.5, 0.0]), planned=2, seconds=10, timeout_s=1)

    assert fates.refused_p50_ms == pytest.approx(20)
    assert fates.refused_max_ms == pytest.approx(40)
    assert fates.lag_max_ms == 500
