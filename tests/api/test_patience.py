"""How long a client is waited for: heads, bodies, answers that nobody reads, and crowds.

The time that passes is told to the server here; ``tests/e2e/test_slow_clients.py`` lets it pass.
"""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.api.asgi import until
from tests.api.line import HIGH_WATER_BYTES, Line, Port, listening, request
from tests.api.test_connection import turns
from tests.api.wire import JSON, RAW, problem, sample, url

pytestmark = pytest.mark.anyio

ENCODE = url("tabular", "encode")
ROW = np.random.default_rng(0).random((1, 4), np.float32)
KNOWN = request(ENCODE, ROW.tobytes(), content_type=RAW, accept=RAW)
HEAD, BODY = KNOWN[: -ROW.nbytes], KNOWN[-ROW.nbytes :]
LIVEZ = request("/livez", method="GET")

# of the settings in these tests: which of them it is must show
HEADER_S, REQUEST_S, SEND_S, KEEP_ALIVE_S = 3.0, 20.0, 7.0, 5.0
SETTINGS: dict[str, Any] = {
    "header_timeout_ms": 1e3 * HEADER_S,
    "request_timeout_ms": 1e3 * REQUEST_S,
    "send_timeout_ms": 1e3 * SEND_S,
    "keep_alive_s": KEEP_ALIVE_S,
    "run_place": "loop",
    # room beside what a client that was cut has left in the queue
    "max_queue_rows": 1 << 16,
    "max_queue_wait_ms": 60_000,
}
# with runs in threads, where they can be held
HELD: dict[str, Any] = {**SETTINGS, "run_place": "thread"}
A_LITTLE_S = 0.5


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def models(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patience")
    shutil.copytree(zoo / "tabular/1", folder / "tabular/1")
    return folder


@pytest.fixture(scope="module")
async def port(models):
    async with listening(models, **SETTINGS) as port:
        yield port


async def closed_between(port: Port, line: Line, early_s: float, late_s: float) -> None:
    """Make sure that the server closes *line* after the first of two times and by the second."""
    await port.look(early_s)
    assert not line.is_closing()
    await port.look(late_s)
    assert line.is_closing()


async def cuts(port: Port, reason: str) -> float:
    return await port.server.number("hourglass_connections_cut_total", reason=reason)


async def refused(port: Port, status: int) -> float:
    labels = {"route": "unmatched", "status": str(status)}
    return await port.server.number("hourglass_http_responses_total", **labels)


class TestHeads:
    @pytest.mark.parametrize("sent", [[], [b"\r\n"], [b"\r\n"] * 3], ids=len)
    async def test_a_connection_that_says_nothing_is_closed_without_a_word(self, port, sent):
        line = port.connect()
        line.send(*sent)
        await closed_between(port, line, HEADER_S - A_LITTLE_S, HEADER_S + A_LITTLE_S)

        assert (line.replies, line.received) == ([], b"")

    @pytest.mark.parametrize("cut", [1, 10, 30, len(HEAD) - 2])
    async def test_a_head_that_does_not_end_is_answered_408(self, port, cut):
        before = await cuts(port, "head"), await refused(port, 408)
        line = port.connect()
        line.send(KNOWN[:cut])
        await closed_between(port, line, HEADER_S - A_LITTLE_S, HEADER_S + A_LITTLE_S)

        (answer,) = line.replies
        assert answer.status_code == 408
        assert answer.headers["connection"] == "close"
        assert "head" in problem(answer)["detail"]
        assert (await cuts(port, "head"), await refused(port, 408)) == (
            before[0] + 1,
            before[1] + 1,
        )

    async def test_bytes_that_trickle_in_win_no_time(self, port):
        line = port.connect()
        loop = asyncio.get_running_loop()
        line.send(b"P")
        begun = line.protocol.due
        line.send(*(HEAD[n : n + 1] for n in range(1, len(HEAD) - 2)))

        assert line.protocol.due == begun
        assert begun == pytest.approx(loop.time() + HEADER_S, abs=A_LITTLE_S)

    @pytest.mark.parametrize("ways", [1, 3], ids=["ordinary", "short"])
    async def test_the_next_head_has_its_own_time(self, port, ways):
        line = port.connect()
        for _ in range(ways):
            await line.ask(KNOWN)
        line.send(KNOWN[:20])
        await closed_between(port, line, HEADER_S - A_LITTLE_S, HEADER_S + A_LITTLE_S)

        assert [reply.status_code for reply in line.replies] == [200] * ways + [408]

    async def test_blank_lines_do_not_keep_a_resting_connection(self, port):
        line = port.connect()
        await line.ask(LIVEZ)
        line.send(b"\r\n", b"\r\n")
        await closed_between(port, line, KEEP_ALIVE_S - A_LITTLE_S, KEEP_ALIVE_S + A_LITTLE_S)

        assert len(line.replies) == 1

    async def test_half_a_head_behind_a_request_waits_for_its_answer_first(self, tabular, workshop):
        async with listening(tabular, sessions=workshop, **HELD) as port:
            workshop.hold()
            line = port.connect()
            line.send(KNOWN + KNOWN[:20])
            await until(lambda: bool(workshop.batches))
            await port.look(HEADER_S + A_LITTLE_S)
            was_closing = line.is_closing()
            workshop.release()
            await line.answers(1)
            await port.look(HEADER_S + A_LITTLE_S)

        assert not was_closing
        assert [reply.status_code for reply in line.replies] == [200, 408]

    async def test_a_head_that_is_whole_in_time_is_answered(self, port):
        line = port.connect()
        line.send(HEAD[:20])
        await port.look(HEADER_S - A_LITTLE_S)
        answer = await line.ask(HEAD[20:] + BODY)

        assert answer.status_code == 200


class TestBodies:
    async def test_a_body_that_does_not_end_is_answered_504_and_the_connection_closed(self, port):
        line = port.connect()
        line.send(request(ENCODE, ROW.tobytes(), content_type=RAW, x_request_timeout_ms="30")[:-1])
        await line.closed()

        (answer,) = line.replies
        assert answer.status_code == 504
        assert answer.headers["connection"] == "close"

    @pytest.mark.parametrize(
        "head",
        [
            request("/livez", method="GET", content_length="10"),
            request("/livez", method="GET", transfer_encoding="chunked") + b"5\r\n",
            request("/nowhere", b"0123456789")[:-8],
            request(url("nobody", "encode"), b"0123456789")[:-8],
        ],
        ids=["livez", "chunked", "nowhere", "nobody"],
    )
    async def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(self, port, head):
        line = port.connect()
        line.send(head)
        (answer,) = await line.answers(1)
        line.send(b"x")
        await closed_between(port, line, HEADER_S - A_LITTLE_S, HEADER_S + A_LITTLE_S)

        assert answer.status_code in {200, 404}
        assert len(line.replies) == 1

    async def test_when_it_comes_in_time_the_connection_goes_on(self, port):
        line = port.connect()
        sent = request("/nowhere", b"0123456789")
        line.send(sent[:-8])
        await line.answers(1)
        line.send(sent[-8:])
        await port.look(HEADER_S + A_LITTLE_S)
        answer = await line.ask(LIVEZ)

        assert answer.status_code == 200

    async def test_and_then_it_may_rest_as_long_as_any_other(self, port):
        line = port.connect()
        sent = request("/nowhere", b"0123456789")
        line.send(sent[:-8])
        await line.answers(1)
        line.send(sent[-8:])

        await closed_between(port, line, KEEP_ALIVE_S - A_LITTLE_S, KEEP_ALIVE_S + A_LITTLE_S)

    async def test_a_refusal_before_a_body_that_waits_to_be_asked_for_closes(self, port):
        line = port.connect()
        line.send(request(url("nobody", "encode"), b"0123", expect="100-continue")[:-4])
        await line.closed()

        (answer,) = line.replies
        assert (answer.status_code, answer.headers["connection"]) == (404, "close")

    async def test_a_request_is_cut_off_that_nobody_gave_a_deadline(self, port):
        """Whatever reads a body answers when it is late; this is for what does not."""
        line = port.connect()
        line.send(KNOWN[:-1])
        await turns()
        before = await cuts(port, "body")
        await port.look(REQUEST_S + A_LITTLE_S)
        early = list(line.replies)
        await port.look(REQUEST_S + 1 + A_LITTLE_S)

        assert early == []
        assert [reply.status_code for reply in line.replies] == [408]
        assert await cuts(port, "body") == before + 1
        await port.look(2 * REQUEST_S)
        assert line.is_closing()


class TestSending:
    async def reader(self, port: Port, number: int = 1) -> Line:
        """A client that has asked for more than fits into the buffer, and does not read."""
        rows = np.random.default_rng(1).random((4096, 4), np.float32)  # as JSON 128 KB
        line = port.connect()
        line.stall()
        path = url("tabular", "reconstruct")
        for _ in range(number):
            line.send(request(path, rows.tobytes(), content_type=RAW, accept=JSON))
        await until(lambda: line.protocol.flow.write_paused)
        assert line.unread > 1.5 * HIGH_WATER_BYTES
        return line

    async def test_a_client_that_does_not_read_is_cut(self, port):
        before = await cuts(port, "unread")
        line = await self.reader(port, 2)
        await port.look(0)
        await closed_between(port, line, SEND_S - A_LITTLE_S, SEND_S + A_LITTLE_S)

        assert await cuts(port, "unread") == before + 1
        assert line.is_closed

    async def test_one_that_takes_a_byte_now_and_then_is_cut_too(self, port):
        line = await self.reader(port)
        for passed_s in np.linspace(0, SEND_S - A_LITTLE_S, 5):
            line.take(1000)
            await port.look(passed_s)
            assert not line.is_closing()

        await port.look(SEND_S + A_LITTLE_S)

        assert line.is_closing()

    async def test_one_that_reads_slowly_but_steadily_is_not(self, port):
        line = await self.reader(port)
        await port.look(0)
        line.take(HIGH_WATER_BYTES)
        await port.look(SEND_S - A_LITTLE_S)
        await port.look(2 * (SEND_S - A_LITTLE_S))

        assert not line.is_closing()
        line.go_on()
        assert len(await line.answers(1)) == 1

    async def test_a_closed_connection_does_not_stay_for_an_answer_that_nobody_reads(self, port):
        line = port.connect()
        line.stall()
        line.send(request("/livez", method="GET", connection="close"))
        await until(line.is_closing)
        await port.look(0)
        was_closed = line.is_closed
        await port.look(SEND_S + A_LITTLE_S)

        assert not was_closed
        assert line.is_closed

    async def test_time_begins_anew_for_the_next_answer(self, port):
        line = await self.reader(port)
        await port.look(0)
        line.go_on()
        await line.answers(1)

        line.protocol.pause_writing()
        await port.look(SEND_S + A_LITTLE_S)

        assert not line.is_closing()
        line.protocol.resume_writing()


class TestCrowds:
    @pytest.fixture
    async def crowd(self, models):
        """A port with places for ten, all of them taken and busy with half a head."""
        async with listening(models, **{**SETTINGS, "max_connections": 10}) as port:
            lines = [port.connect() for _ in range(10)]
            for line in lines:
                line.send(KNOWN[:20])
            yield port
            for line in lines:
                line.hang_up()

    @pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/livez?x=1"])
    async def test_over_the_limit_health_is_answered_once(self, crowd, path):
        line = crowd.connect()
        line.send(request(path, method="GET"))
        await line.closed()

        (answer,) = line.replies
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")

    @pytest.mark.parametrize("sent", [KNOWN, request("/v1/models", method="GET")])
    async def test_anything_else_is_told_to_come_back(self, crowd, sent):
        line = crowd.connect()
        line.send(sent)
        await line.closed()

        (answer,) = line.replies
        assert answer.status_code == 503
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
        assert "connections" in problem(answer)["detail"]
        assert await refused(crowd, 503) == 1

    async def test_a_known_request_is_not_let_in_on_the_short_way(self, models):
        async with listening(models, **{**SETTINGS, "max_connections": 1}) as port:
            line = port.connect()
            for _ in range(3):
                await line.ask(KNOWN)
            extra = port.connect()
            extra.send(KNOWN)
            await extra.closed()

        assert [reply.status_code for reply in extra.replies] == [503]

    async def test_who_is_too_many_has_little_time(self, crowd):
        line = crowd.connect()
        line.send(LIVEZ[:10])
        await closed_between(crowd, line, 1 - A_LITTLE_S, 1 + A_LITTLE_S)

    async def test_the_door_is_shut_when_even_those_are_too_many(self, crowd):
        extra = [crowd.connect() for _ in range(32)]
        line = crowd.connect()

        assert not any(each.is_closing() for each in extra)
        assert line.is_closing()
        assert await cuts(crowd, "crowded") == 1

    async def test_who_rests_longest_makes_room_before_anybody_is_sent_away(self, models):
        async with listening(models, **{**SETTINGS, "max_connections": 10}) as port:
            lines = [port.connect() for _ in range(10)]
            busy, *resting = lines
            busy.send(KNOWN[:20])
            for line in resting:
                await line.ask(LIVEZ)
                await asyncio.sleep(0.002)  # so that no two have rested equally long
            await port.look(0)

            assert [line.is_closing() for line in lines] == [False, True, *[False] * 8]
            assert await cuts(port, "crowded") == 1
            newcomer = port.connect()
            assert (await newcomer.ask(KNOWN)).status_code == 200

    async def test_open_connections_are_counted(self, port):
        number = port.server.number
        before = await number("hourglass_connections")
        lines = [port.connect() for _ in range(3)]
        during = await number("hourglass_connections")
        for line in lines:
            line.hang_up()
            await line.closed()

        assert during - before == 3
        assert await number("hourglass_connections") == before


class TestRefusals:
    """What no request can be made of is answered as problem details, and the connection closed."""

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"no request\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            (b"GET /livez HTTP/2.0\r\nHost: a\r\n\r\n", 400),
            (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nX\xe4: b\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
            (
                b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                400,
            ),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
            (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        ],
        ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else str(value),
    )
    async def test_a_head_that_nobody_should_act_on(self, port, sent, status):
        before = await refused(port, status)
        line = port.connect()
        line.send(sent)
        await turns()
        await port.look(1 + A_LITTLE_S)

        (answer,) = line.replies
        assert line.is_closing()
        assert (answer.status_code, answer.headers["connection"]) == (status, "close")
        assert problem(answer)["detail"]
        assert await refused(port, status) == before + 1

    async def test_the_id_of_the_request_is_kept_where_it_can_be_read(self, port):
        line = port.connect()
        line.send(b"GET /livez HTTP/1.1\r\nX-Request-Id: mine\r\n\r\n")
        await line.closed()

        assert problem(line.replies[0])["request_id"] == "mine"

    async def test_the_open_inference_protocol_has_its_own_form_of_them(self, port):
        line = port.connect()
        line.send(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
        await line.closed()

        assert line.replies[0].status_code == 400
        assert line.replies[0].json() == {
            "error": "a request has exactly one Host (expected one; received 0)"
        }

    @pytest.mark.parametrize(
        ("begun", "piece", "status"),
        [
            (b"GET /", b"x", 414),
            (b"GET / HTTP/1.1\r\n", b"X: y\r\n", 431),
            (b"GET / HTTP/1.1\r\nX: ", b"x", 431),
            (b"GET / HTTP/1.1\r\nX", b"x", 431),
        ],
        ids=["target", "headers", "value", "name"],
    )
    async def test_a_head_without_end_is_not_kept(self, port, begun, piece, status):
        line = port.connect()
        line.send(begun)
        sent = 0
        while not line.replies and sent < 1_000_000:
            line.send(piece * (4096 // len(piece)))
            sent += 4096

        assert line.replies[0].status_code == status
        assert sent < 100_000
        await port.look(1 + A_LITTLE_S)
        assert line.is_closing()

    @pytest.mark.parametrize(
        ("begun", "piece"),
        [(b"0\r\n", b"X: y\r\n"), (b"0\r\nX: ", b"x"), (b"5;", b"x")],
        ids=["trailers", "trailer", "extension"],
    )
    async def test_nor_is_what_stands_around_a_body(self, port, begun, piece):
        line = port.connect()
        line.send(
            request(ENCODE, content_type=RAW).replace(
                b"Content-Length: 0", b"Transfer-Encoding: chunked"
            )
        )
        line.send(begun)
        sent = 0
        while not line.replies and sent < 1_000_000:
            line.send(piece * (4096 // len(piece)))
            sent += 4096

        assert line.replies[0].status_code == 400
        assert sent < 100_000

    async def test_a_trailer_is_no_header(self, port):
        head = HEAD.replace(b"Content-Length: 16", b"Transfer-Encoding: chunked")
        line = port.connect()
        answer = await line.ask(
            head + b"10\r\n" + BODY + b"\r\n0\r\nX-Request-Id: theirs\r\nAccept: x/y\r\n\r\n"
        )

        assert answer.status_code == 200
        assert answer.headers["x-request-id"] != "theirs"

    async def test_a_body_in_a_million_crumbs_is_refused_before_its_end(self, port):
        line = port.connect()
        line.send(HEAD.replace(b"Content-Length: 16", b"Transfer-Encoding: chunked"))
        for _ in range(1000):
            line.send(b"1\r\nx\r\n" * 1000)
        (answer,) = await line.answers(1)

        assert answer.status_code == 400
        assert "tiny chunks" in problem(answer)["detail"]
        await port.look(1 + A_LITTLE_S)
        assert line.is_closing()
        assert len(line.replies) == 1

    async def test_a_body_in_some_crumbs_is_taken(self, port):
        line = port.connect()
        rows = np.tile(ROW, (1000, 1))
        crumbs = b"".join(b"1\r\n%c\r\n" % byte for byte in rows.tobytes()[:16_000])
        head = HEAD.replace(b"Content-Length: 16", b"Transfer-Encoding: chunked")
        answer = await line.ask(head + crumbs + b"0\r\n\r\n")

        assert answer.status_code == 200

    async def test_broken_framing_ends_a_request_before_its_deadline(self, port):
        gone = await port.server.number("hourglass_requests_total", outcome="client_gone")
        line = port.connect()
        line.send(HEAD.replace(b"Content-Length: 16", b"Transfer-Encoding: chunked") + b"4\r\nabcd")
        await turns()
        line.send(b"zz\r\n")
        (answer,) = await line.answers(1)
        await turns()

        assert answer.status_code == 400
        number = port.server.number
        assert await number("hourglass_requests_total", outcome="client_gone") == gone + 1

    @pytest.mark.parametrize(
        "behind", [b"no request\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"], ids=["garbage", "no host"]
    )
    async def test_an_answer_that_is_due_comes_before_the_refusal(self, tabular, workshop, behind):
        async with listening(tabular, sessions=workshop, **HELD) as port:
            workshop.hold()
            line = port.connect()
            line.send(KNOWN + behind + KNOWN)
            await until(lambda: bool(workshop.batches))
            await turns()
            early = list(line.replies)
            workshop.release()
            await line.closed()

        assert early == []
        assert [reply.status_code for reply in line.replies] == [200, 400]

    async def test_a_broken_body_behind_a_request_does_not_take_its_answer(self, tabular, workshop):
        broken = HEAD.replace(b"Content-Length: 16", b"Transfer-Encoding: chunked") + b"zz\r\n"
        async with listening(tabular, sessions=workshop, **HELD) as port:
            workshop.hold()
            line = port.connect()
            line.send(KNOWN + broken)
            await until(lambda: bool(workshop.batches))
            workshop.release()
            await line.closed()

        assert [reply.status_code for reply in line.replies] == [200, 400]

    async def test_a_broken_rest_of_a_body_that_was_answered_is_not_answered_again(self, port):
        line = port.connect()
        line.send(request("/livez", method="GET", transfer_encoding="chunked"))
        await line.answers(1)
        line.send(b"zz\r\n")
        await line.closed()

        assert [reply.status_code for reply in line.replies] == [200]


async def test_what_is_refused_is_in_the_metrics_under_labels_of_a_closed_set(port):
    line = port.connect()
    line.send(b"GET /some/secret HTTP/1.1\r\n\r\n")
    await line.closed()

    page = (await port.server.send("GET", "/metrics")).content.decode()
    assert "secret" not in page
    assert sample(page, "hourglass_http_responses_total", route="unmatched", status="400") >= 1
