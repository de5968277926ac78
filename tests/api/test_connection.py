"""One connection: what comes in which pieces, in which order, and how it ends.

Bytes go in and out of the server's own protocol, with the whole app behind it. What is asked of
uvicorn's protocol is asked of both ways; in doubt the ordinary way alone is what both together
are compared with.
"""

import asyncio
import re
import shutil
from collections.abc import Sequence
from itertools import chain, cycle, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from tests.api.asgi import until
from tests.api.line import HIGH_WATER_BYTES, LONG_S, Line, Port, listening, request
from tests.api.wire import JSON, RAW, url

ENCODE = url("tabular", "encode")
ROW, OTHER_ROW = np.random.default_rng(0).random((2, 1, 4), np.float32)
SHORT_S = 0.05

pytestmark = pytest.mark.anyio


def encode(rows: np.ndarray = ROW, **headers: str) -> bytes:
    return request(ENCODE, rows.tobytes(), content_type=RAW, accept=RAW, **headers)


def code_of(rows: np.ndarray) -> bytes:
    return rows[:, :2].tobytes()


KNOWN, OTHER = encode(), encode(OTHER_ROW)
HEAD = KNOWN[: -ROW.nbytes]
LIVEZ = request("/livez", method="GET")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all tests here, so that they can share a running app."""
    return "asyncio"


@pytest.fixture(scope="module")
def models(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("connection")
    for name in ("tabular/1", "poison/1"):
        shutil.copytree(zoo / name, folder / name)
    return folder


@pytest.fixture(scope="module")
async def shared(models):
    """An app for tests that leave nothing behind; its runs are made in the loop."""
    async with listening(models, run_place="loop") as port:
        yield port


@pytest.fixture
async def port(shared):
    """The same with no head known but that of *KNOWN*."""
    await learn_anew(shared)
    return shared


async def learn_anew(port: Port, sent: bytes = KNOWN) -> None:
    port.express._heads.clear()
    line = port.connect()
    for _ in range(2):
        await line.ask(sent)
    line.hang_up()
    await line.closed()


async def turns(number: int = 50) -> None:
    """Let the loop turn for longer than a request needs whose run is made in the loop."""
    for _ in range(number):
        await asyncio.sleep(0)


def plain(raw: bytes) -> bytes:
    """The bytes of answers without what no two answers share."""
    text = re.sub(rb"(?m)^x-request-id: [0-9a-f]{16}\r$", b"x-request-id: -\r", raw)
    text = re.sub(rb'"request_id":"[0-9a-f]{16}"', b'"request_id":"-"', text)
    return re.sub(rb"dur=[0-9.]+", b"dur=-", text)


async def is_short(port: Port, line: Line, sent: bytes = KNOWN) -> bool:
    """Whether *sent* takes the short way on *line*, after a look at its answer."""
    before = port.ordinary
    answer = await line.ask(sent)
    assert (answer.status_code, answer.content) == (200, code_of(ROW))
    return port.ordinary == before


class TestWays:
    async def test_the_third_request_takes_the_short_way(self, models):
        async with listening(models) as port:
            line = port.connect()

            ways = [await is_short(port, line) for _ in range(4)]

        assert ways == [False, False, True, True]

    async def test_a_head_between_two_others_is_not_learned(self, port):
        line = port.connect()
        for number in range(4):
            assert not await is_short(port, line, encode(user_agent=f"a{number % 2}"))

    async def test_the_first_request_of_a_connection_takes_it_when_its_head_is_known(self, port):
        assert await is_short(port, port.connect())

    async def test_requests_of_both_ways_may_follow_each_other(self, port):
        line = port.connect()
        for number in range(3):
            assert await is_short(port, line)
            assert (await line.ask(LIVEZ)).json()["status"] == "ok"
            assert not await is_short(port, line, encode(user_agent=f"a{number}"))
        assert await is_short(port, line)

    async def test_a_refused_request_leaves_the_connection_as_it_was(self, port):
        line = port.connect()
        bad = HEAD + np.full((1, 4), np.nan, np.float32).tobytes()

        answers = [await line.ask(bad) for _ in range(3)]

        assert {answer.status_code for answer in answers} == {422}
        assert await is_short(port, line)

    async def test_what_was_answered_is_counted(self, port):
        before = port.state.total_requests
        line = port.connect()
        await line.ask(KNOWN)
        await line.ask(LIVEZ)

        assert port.state.total_requests - before == 2


class TestPieces:
    @pytest.mark.parametrize("cut", [1, 3, 20, len(HEAD) - 2, len(HEAD), len(HEAD) + 5])
    async def test_a_request_in_two_pieces_is_answered_whole(self, port, cut):
        line = port.connect()
        for _ in range(3):
            line.send(KNOWN[:cut])
            await turns()
            assert not line.replies
            answer = await line.ask(KNOWN[cut:])
            assert answer.content == code_of(ROW)
            line.replies.clear()

        assert await is_short(port, line)

    async def test_a_request_byte_by_byte_is_answered_whole(self, port):
        line = port.connect()
        line.send(*(KNOWN[n : n + 1] for n in range(len(KNOWN))))

        (answer,) = await line.answers(1)

        assert answer.content == code_of(ROW)

    @pytest.mark.parametrize("cut", [1, 3, 16, 100])
    async def test_the_beginning_of_a_head_is_never_taken_for_a_request(self, port, cut):
        """Whatever other clients have sent before, in whatever pieces."""
        other = port.connect()
        for _ in range(3):
            other.send(KNOWN[:20])
            await turns()
            await other.ask(KNOWN[20:])
        line = port.connect()

        line.send(KNOWN[:cut])
        await turns()
        too_early = list(line.replies)
        answer = await line.ask(KNOWN[cut:])

        assert too_early == []
        assert answer.content == code_of(ROW)

    async def test_half_a_head_of_the_right_length_is_not_taken_for_a_request(self, port):
        """A head that came in two pieces must not be learned by its first three bytes."""
        other = port.connect()
        for _ in range(3):
            other.send(KNOWN[:20])
            await turns()
            await other.ask(KNOWN[20:])
        line = port.connect()

        line.send(KNOWN[: 3 + ROW.nbytes])
        await turns()

        assert line.replies == []

    @pytest.mark.parametrize("blank", [b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\n\r\n\r\n"])
    async def test_blank_lines_before_a_request_are_no_head(self, port, blank):
        """The parser skips them, so the head begins behind them."""
        line = port.connect()
        for _ in range(3):
            answer = await line.ask(blank + KNOWN)
            assert answer.content == code_of(ROW)
        before = port.ordinary

        # of the length that a head and a body would have, were the blank lines a head
        line.send(blank + encode(user_agent="x")[: ROW.nbytes])
        await turns()

        assert len(line.replies) == 3
        assert port.ordinary == before

    async def test_a_body_that_is_longer_than_its_length_is_followed_by_another_request(self, port):
        line = port.connect()
        line.send(KNOWN + OTHER)

        first, second = await line.answers(2)

        assert (first.content, second.content) == (code_of(ROW), code_of(OTHER_ROW))

    async def test_the_known_head_with_another_length_is_another_head(self, port):
        two = np.concatenate([ROW, OTHER_ROW])
        line = port.connect()
        before = port.ordinary

        answer = await line.ask(encode(two))

        assert answer.content == code_of(two)
        assert port.ordinary - before == 1

    async def test_a_line_of_blanks_after_a_request_is_nothing(self, port):
        line = port.connect()
        line.send(KNOWN + b"\r\n")
        await line.answers(1)
        line.send(b"\r\n")

        assert await is_short(port, line)


class TestPipelining:
    @pytest.fixture
    async def held(self, tabular, workshop):
        """An app that knows *KNOWN*, and whose runs are held."""
        async with listening(tabular, sessions=workshop) as port:
            await learn_anew(port)
            workshop.hold()
            yield port
            workshop.release()

    async def test_a_request_behind_one_on_the_short_way_waits_for_its_turn(self, held, workshop):
        line = held.connect()
        before = held.ordinary
        line.send(KNOWN, OTHER)
        await until(lambda: bool(workshop.batches))
        await turns()
        batches = len(workshop.batches)
        workshop.release()

        first, second = await line.answers(2)

        assert batches == 1
        assert (first.content, second.content) == (code_of(ROW), code_of(OTHER_ROW))
        assert held.ordinary == before

    async def test_many_requests_of_both_kinds_behind_it_are_answered_in_order(
        self, held, workshop
    ):
        line = held.connect()
        unknown = encode(OTHER_ROW, user_agent="unknown")
        line.send(KNOWN, LIVEZ + unknown, KNOWN[:30], KNOWN[30:], OTHER + LIVEZ, unknown)
        await until(lambda: bool(workshop.batches))
        workshop.release()

        answers = await line.answers(7)

        mine, other, alive = code_of(ROW), code_of(OTHER_ROW), b'{"status":"ok","waiting_for":[]}'
        contents = [answer.content for answer in answers]
        assert contents == [mine, alive, other, mine, other, alive, other]

    async def test_a_request_behind_one_on_the_ordinary_way_waits_for_its_turn(
        self, held, workshop
    ):
        line = held.connect()
        unknown = encode(OTHER_ROW, user_agent="unknown")
        line.send(unknown, KNOWN)
        await until(lambda: bool(workshop.batches))
        await turns()
        early = list(line.replies)
        workshop.release()

        first, second = await line.answers(2)

        assert early == []
        assert (first.content, second.content) == (code_of(OTHER_ROW), code_of(ROW))
        assert await is_short(held, line)

    async def test_no_more_is_read_while_a_request_waits_for_its_turn(self, held, workshop):
        """Or a client could make the server keep whatever it sends."""
        line = held.connect()
        line.send(KNOWN, *[OTHER] * 100)
        await until(lambda: bool(workshop.batches))

        kept = sum(map(len, line.protocol._held))
        workshop.release()

        assert kept == len(OTHER)
        assert len(await line.answers(101)) == 101

    async def test_garbage_behind_a_request_does_not_take_its_answer(self, held, workshop):
        line = held.connect()
        line.send(KNOWN, b"no request at all\r\n\r\n")
        await until(lambda: bool(workshop.batches))
        workshop.release()

        await line.closed()

        first, second = line.replies
        assert (first.status_code, first.content) == (200, code_of(ROW))
        assert second.status_code == 400

    async def test_the_beginning_of_the_next_head_may_come_before_the_answer(self, port):
        """With the rest of it behind the answer, as it happens where pieces have a fixed size."""
        line = port.connect()
        line.send(KNOWN[:30])
        for number in range(4):
            line.send(KNOWN[30:] + KNOWN[:30])
            await line.answers(number + 1)
            await turns()
        line.send(KNOWN[30:])
        await line.answers(5)

        assert await is_short(port, line)
        assert not await is_short(port, line, encode(user_agent="another"))

    async def test_a_known_head_within_another_one_is_not_a_request(self, port):
        """A header whose value came in a piece of its own, and looks like a request."""
        line = port.connect()
        begun = f"POST {ENCODE} HTTP/1.1\r\nX-Note: ".encode()
        line.send(encode(user_agent="first") + begun)
        await line.answers(1)
        await turns()
        before = port.ordinary

        line.send(KNOWN)
        await turns()

        # one request, whose header X-Note holds the line that looks like the first of another
        assert port.ordinary - before == 1
        assert [reply.status_code for reply in line.replies] == [200, 200]


class TestLeaving:
    @pytest.fixture
    async def held(self, tabular, workshop):
        async with listening(tabular, sessions=workshop) as port:
            await learn_anew(port)
            workshop.hold()
            holder = port.connect()
            holder.send(encode(user_agent="holder"))
            await until(lambda: bool(workshop.batches))
            yield port
            workshop.release()

    @pytest.mark.parametrize("how", ["hang_up", "reset"])
    @pytest.mark.parametrize("sent", [KNOWN, encode(user_agent="unknown")], ids=["short", "long"])
    async def test_rows_of_a_client_that_leaves_are_not_run(self, held, workshop, how, sent):
        line, mate = held.connect(), held.connect()
        line.send(sent)
        mate.send(OTHER)
        await held.server.until_rows_wait(2)
        getattr(line, how)()
        await held.server.until_rows_wait(1)
        workshop.release()

        (answer,) = await mate.answers(1)

        assert answer.content == code_of(OTHER_ROW)
        assert (line.replies, line.received) == ([], b"")
        assert [len(batch) for batch in workshop.batches] == [1, 1]
        number = held.server.number
        assert await number("hourglass_requests_total", outcome="client_gone") == 1
        assert await number("hourglass_http_responses_total", status="499") == 0

    async def test_what_a_client_had_sent_behind_is_not_run_either(self, held, workshop):
        line = held.connect()
        line.send(KNOWN, OTHER)
        await held.server.until_rows_wait(1)
        line.reset()
        await held.server.until_rows_wait(0)
        workshop.release()
        await held.server.until("hourglass_requests_total", 3, outcome="ok")

        assert [len(batch) for batch in workshop.batches] == [1]
        assert line.protocol._held == []

    async def test_a_client_that_has_left_is_off_the_list(self, held):
        line = held.connect()
        line.send(KNOWN)
        await held.server.until_rows_wait(1)
        line.hang_up()
        await line.closed()

        assert line.protocol not in held.state.connections
        assert line.protocol not in held.open

    @pytest.mark.parametrize("sent", [KNOWN, encode(user_agent="unknown")], ids=["short", "long"])
    async def test_an_answer_to_a_client_that_vanished_disturbs_nobody(self, held, workshop, sent):
        escaped: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: escaped.append(context))
        line, mate = held.connect(), held.connect()
        line.send(sent)
        mate.send(OTHER)
        await held.server.until_rows_wait(2)
        line.vanish()
        workshop.release()

        (answer,) = await mate.answers(1)
        await line.closed()

        assert answer.content == code_of(OTHER_ROW)
        assert line.replies == []
        assert escaped == []
        assert line.protocol not in held.state.connections

    async def test_an_answer_that_comes_just_after_the_end_is_none(self, port):
        line = port.connect()
        before = port.state.total_requests

        line.send(KNOWN)
        line.hang_up()  # the run is made before the protocol hears of it
        await line.closed()

        assert line.replies == []
        assert port.state.total_requests == before

    async def test_leaving_after_the_answer_is_no_leaving(self, port):
        line = port.connect()
        await line.ask(KNOWN)
        before = await port.server.number("hourglass_requests_total", outcome="client_gone")

        line.reset()
        await line.closed()

        after = await port.server.number("hourglass_requests_total", outcome="client_gone")
        assert after == before

    async def test_a_client_that_leaves_within_a_head_leaves_nothing(self, port):
        line = port.connect()
        line.send(KNOWN[:20])
        line.hang_up()
        await line.closed()

        assert line.replies == []
        assert line.protocol not in port.state.connections


class TestUnusual:
    """What asks for more than a body and an answer takes the ordinary way, each time."""

    async def test_connection_close_ends_the_connection(self, port):
        before = port.ordinary
        for _ in range(4):
            line = port.connect()
            line.send(encode(connection="close"))
            await line.closed()
            (answer,) = line.replies
            assert answer.content == code_of(ROW)
            assert answer.headers["connection"] == "close"
        assert port.ordinary - before == 4

    async def test_connection_keep_alive_is_what_is_anyway(self, port):
        line = port.connect()

        ways = [await is_short(port, line, encode(connection="keep-alive")) for _ in range(4)]

        assert ways == [False] * 4

    async def test_http_1_0_ends_the_connection(self, port):
        old = KNOWN.replace(b"HTTP/1.1", b"HTTP/1.0")
        before = port.ordinary
        for _ in range(4):
            line = port.connect()
            line.send(old)
            await line.closed()
            (answer,) = line.replies
            assert answer.content == code_of(ROW)
            assert answer.headers["connection"] == "close"
        assert port.ordinary - before == 4

    @pytest.mark.parametrize("pieces", [1, 2])
    async def test_a_client_that_asks_first_is_told_to_go_on(self, port, pieces):
        line = port.connect()
        sent = encode(expect="100-continue")
        before = port.ordinary
        for _ in range(4):
            if pieces == 1:
                line.send(sent)
            else:
                line.send(sent[: -ROW.nbytes])
                await line.answers(1)
                line.send(sent[-ROW.nbytes :])
            go_on, answer = await line.answers(2)
            assert go_on.raw == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert answer.content == code_of(ROW)
            line.replies.clear()
        assert port.ordinary - before == 4

    async def test_a_body_in_chunks_is_read(self, port):
        head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", HEAD)
        body = b"4\r\n" + ROW.tobytes()[:4] + b"\r\nc\r\n" + ROW.tobytes()[4:] + b"\r\n0\r\n\r\n"
        line = port.connect()

        ways = [await is_short(port, line, head + body) for _ in range(4)]

        assert ways == [False] * 4

    async def test_chunks_and_a_length_together_are_refused(self, port):
        both = HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            line = port.connect()
            line.send(both + b"0\r\n\r\n")
            await line.closed()
            assert [reply.status_code for reply in line.replies] == [400]

    async def test_an_upgrade_that_is_not_offered_takes_the_ordinary_way(self, port):
        before = port.ordinary
        for _ in range(4):
            line = port.connect()
            await line.ask(encode(connection="upgrade", upgrade="h2c"))
            line.hang_up()
        assert port.ordinary - before == 4

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    async def test_another_method_is_refused(self, port, method):
        line = port.connect()
        sent = KNOWN.replace(b"POST", method.encode())
        for _ in range(4):
            answer = await line.ask(sent)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert await is_short(port, line)

    async def test_an_answer_to_head_has_no_body(self, port):
        line = port.connect()
        line.skips_bodies = True
        for path, status in (("/livez", 200), (ENCODE, 405)):
            answer = await line.ask(request(path, method="HEAD"))
            assert answer.status_code == status
            assert int(answer.headers["content-length"]) > 0
        line.skips_bodies = False

        assert line.received == b""
        assert await is_short(port, line)

    async def test_other_paths_of_the_server_are_answered_in_between(self, port):
        line = port.connect()
        for path, status in (("/readyz", 200), ("/v1/models", 200), ("/nowhere", 404)):
            answer = await line.ask(request(path, method="GET"))
            assert answer.status_code == status
            assert await is_short(port, line)


class TestGarbage:
    @pytest.mark.parametrize(
        "sent",
        [
            b"\0",
            b"no request\r\n\r\n",
            HEAD.replace(b"HTTP/1.1", b"HTTP/1.9")[:-2] + b"X\r\n\r\n" + ROW.tobytes(),
            HEAD[:-2] + b"X : 1\r\n\r\n" + ROW.tobytes(),
            HEAD[:-2] + b" folded\r\n\r\n" + ROW.tobytes(),
            HEAD[:-2] + b"Content-Length: 16\r\n\r\n" + ROW.tobytes(),
            HEAD.replace(b"Content-Length: 16", b"Content-Length: +16") + ROW.tobytes(),
            HEAD.replace(b"Content-Length: 16", b"Content-Length: 1_6") + ROW.tobytes(),
            HEAD.replace(b"\r\nHost", b"\nHost") + ROW.tobytes(),
            HEAD.replace(b"\r\nHost", b"\rHost") + ROW.tobytes(),
            HEAD[:-4] + b"\n\n" + ROW.tobytes(),
        ],
        ids=repr,
    )
    async def test_what_is_no_request_is_refused_and_nothing_behind_it_is_read(self, port, sent):
        for _ in range(3):
            line = port.connect()
            line.send(sent, KNOWN)
            await line.closed()
            assert [reply.status_code for reply in line.replies] == [400]

    async def test_what_comes_after_garbage_in_one_piece_is_not_answered(self, port):
        line = port.connect()
        await line.ask(KNOWN)
        line.send(b"\0" + KNOWN)
        await line.closed()

        assert [reply.status_code for reply in line.replies] == [200, 400]


class TestIdle:
    """A connection may be idle for a while between two requests, and no longer."""

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(KNOWN, id="answered"),
            pytest.param(HEAD + b"\xff" * ROW.nbytes, id="refused"),
        ],
    )
    @pytest.mark.parametrize("times", [1, 3], ids=["ordinary", "short"])
    async def test_an_idle_connection_is_closed_after_its_time(self, tabular, sent, times):
        async with listening(tabular, keep_alive_s=SHORT_S) as port:
            line = port.connect()
            for _ in range(times):
                await line.ask(sent)

            await line.closed()  # nobody but the server itself looks at the time here

        assert port.ordinary == min(times, 2)

    async def test_the_time_begins_anew_with_every_answer(self, tabular):
        async with listening(tabular, keep_alive_s=4 * SHORT_S) as port:
            line = port.connect()
            for _ in range(4):
                await line.ask(KNOWN)
                await asyncio.sleep(2 * SHORT_S)  # together longer than it may be idle
                await port.look(0)
            was_closed = line.is_closed
            await line.closed()

        assert not was_closed

    @pytest.mark.parametrize("times", [0, 2], ids=["ordinary", "short"])
    async def test_a_busy_connection_is_not_closed(self, tabular, workshop, times):
        async with listening(tabular, sessions=workshop, keep_alive_s=SHORT_S) as port:
            line = port.connect()
            for _ in range(times):
                await line.ask(KNOWN)
            await line.ask(LIVEZ)
            workshop.hold()
            line.send(KNOWN)
            await until(lambda: bool(workshop.batches))
            await port.look(LONG_S)
            was_closed = line.is_closing()
            workshop.release()
            answer = (await line.answers(times + 2))[-1]
            await line.closed()

        assert not was_closed
        assert answer.content == code_of(ROW)


class TestShutdown:
    """What uvicorn asks of every connection when the server ends."""

    async def test_an_idle_connection_is_closed_at_once(self, port):
        line = port.connect()
        await line.ask(KNOWN)

        line.protocol.shutdown()

        assert line.is_closing()

    async def test_a_connection_that_has_sent_nothing_is_closed_at_once(self, port):
        line = port.connect()

        line.protocol.shutdown()

        assert line.is_closing()

    @pytest.mark.parametrize("learned", [True, False], ids=["short", "ordinary"])
    async def test_a_request_under_way_is_answered_and_then_the_connection_closed(
        self, tabular, workshop, learned
    ):
        async with listening(tabular, sessions=workshop) as port:
            if learned:
                await learn_anew(port)
            workshop.hold()
            line = port.connect()
            before = port.ordinary
            line.send(KNOWN)
            await until(lambda: bool(workshop.batches))
            line.protocol.shutdown()
            was_closing = line.is_closing()
            workshop.release()
            await line.closed()

        (answer,) = line.replies
        assert not was_closing
        assert (answer.content, answer.headers["connection"]) == (code_of(ROW), "close")
        assert (port.ordinary == before) is learned

    async def test_both_ways_say_goodbye_in_the_same_words(self, tabular, workshop):
        goodbyes = []
        async with listening(tabular, sessions=workshop) as port:
            for sent in (KNOWN, encode(user_agent="test")):
                if sent is KNOWN:
                    await learn_anew(port)
                workshop.hold()
                line = port.connect()
                line.send(sent)
                await until(lambda: bool(workshop.batches))
                line.protocol.shutdown()
                workshop.release()
                await line.closed()
                goodbyes.append(plain(line.replies[0].raw))

        assert goodbyes[0] == goodbyes[1]

    async def test_what_was_sent_behind_is_not_answered(self, tabular, workshop):
        """The client sees that its connection ends, and that this one was not taken."""
        async with listening(tabular, sessions=workshop) as port:
            await learn_anew(port)
            workshop.hold()
            line = port.connect()
            line.send(KNOWN, OTHER)
            await until(lambda: bool(workshop.batches))
            line.protocol.shutdown()
            workshop.release()
            await line.closed()

        assert [reply.content for reply in line.replies] == [code_of(ROW)]


class TestSlowReaders:
    """Answers that nobody reads must not fill the memory: whoever does not read is not read."""

    @pytest.mark.parametrize("way", ["short", "ordinary", "pipelined"])
    async def test_to_a_client_that_reads_nothing_only_so_much_is_written(self, port, way):
        rows = np.zeros((1000, 4), np.float32)
        path = url("tabular", "reconstruct")
        agents = ["a", "b"] if way == "ordinary" else ["a"]
        sent = [
            request(path, rows.tobytes(), content_type=RAW, accept=RAW, user_agent=agent)
            for agent in agents
        ]
        line = port.connect()
        line.stall()
        many = 20 * HIGH_WATER_BYTES // rows.nbytes

        for number in range(many):
            line.send(sent[number % len(sent)])
            if way != "pipelined":
                await turns(10)
        await turns(20 * many)

        unread = line.unread
        line.go_on()
        answers = await line.answers(many)

        assert unread <= HIGH_WATER_BYTES + 10 * len(answers[0].raw)
        assert {answer.content for answer in answers} == {rows.tobytes()}

    async def test_once_it_reads_again_it_is_served_again(self, port):
        line = port.connect()
        line.protocol.pause_writing()
        line.send(KNOWN)
        await turns()
        line.protocol.resume_writing()

        assert len(await line.answers(1)) == 1
        assert await is_short(port, line)


def stream() -> st.SearchStrategy[list[bytes]]:
    """Requests of every kind, all of them valid, some of them several times in a row."""
    row = st.sampled_from([ROW, OTHER_ROW])
    chunked = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", HEAD)
    kinds = st.one_of(
        row.map(encode),
        row.map(lambda rows: encode(rows, user_agent="another")),
        row.map(lambda rows: encode(rows, user_agent="another", x_request_id="mine")),
        row.map(lambda rows: encode(np.concatenate([rows, ROW]))),
        row.map(lambda rows: chunked + b"10\r\n" + rows.tobytes() + b"\r\n0\r\n\r\n"),
        st.just(HEAD + b"\xff" * ROW.nbytes),
        st.just(LIVEZ),
        st.just(request("/nowhere", b"body")),
        st.just(request(url("nobody", "encode"), b"body")),
        st.just(request(ENCODE, b"[1, 2]", content_type=JSON)),
        st.just(request(ENCODE, method="GET")),
        st.just(b"\r\n"),
    )
    several = st.tuples(kinds, st.integers(1, 4)).map(lambda pair: [pair[0]] * pair[1])
    return st.lists(several, max_size=4).map(lambda groups: [*chain.from_iterable(groups)])


def cuts() -> st.SearchStrategy[list[int]]:
    """Places to cut a stream: anywhere, or at equal distances, as packets of one size do it."""
    distances = st.sampled_from([len(KNOWN), len(encode(user_agent="another")), len(LIVEZ), 64])
    return st.one_of(
        st.lists(st.integers(0, 1500), max_size=12),
        st.builds(lambda first, step: [*range(first, 3000, step)], st.integers(1, 200), distances),
    )


def pieces_of(data: bytes, places: list[int]) -> list[bytes]:
    inner = {place for place in places if 0 < place < len(data)}
    return [data[a:b] for a, b in pairwise(sorted({0, len(data), *inner}))]


async def answered(port: Port, pieces: list[bytes], waits: Sequence[int | None] = (None,)) -> bytes:
    """Everything that comes back when *pieces* are sent.

    Between them there are so many turns of the loop, or as many as all answers so far need.
    """
    line = port.connect()
    for piece, wait in zip(pieces, cycle(waits), strict=False):
        line.send(piece)
        if wait is None:
            await port.settled()
        else:
            await turns(wait)
    await port.settled()
    line.hang_up()
    await line.closed()
    return b"".join(reply.raw for reply in line.replies) + line.received


steady = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


# five times the same within packets of its size, each with the beginning of the next one's head
ALIKE = [KNOWN] * 5 + [LIVEZ]
ASKEW = [*range(30, 5 * len(KNOWN), len(KNOWN)), 5 * len(KNOWN)]


@steady
@example(requests=ALIKE, places=ASKEW, waits=[None])
@given(
    requests=stream(),
    places=cuts(),
    waits=st.lists(st.sampled_from([0, 1, 2, 3, None]), min_size=1, max_size=6),
)
async def test_a_stream_in_any_pieces_is_answered_as_its_requests_are_one_by_one(
    shared, requests, places, waits
):
    await learn_anew(shared)
    alone = [await answered(shared, [each]) for each in requests]

    together = await answered(shared, pieces_of(b"".join(requests), places), waits)

    assert plain(together) == plain(b"".join(alone))


def edits() -> st.SearchStrategy[list[tuple[float, int, bytes]]]:
    """Where to change a stream, how many bytes to take out there, and what to put in."""
    token = st.sampled_from(
        [
            *(b"", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b":", b"\0", b"\xff", b"0"),
            *(b"POST ", b"GET / HTTP/1.1\r\n", b"HTTP/1.0", b"Content-Length: 16\r\n", b"X: "),
            *(b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: x\r\n"),
            *(HEAD, KNOWN, KNOWN[:20], KNOWN[20:]),
        ]
    )
    return st.lists(st.tuples(st.floats(0, 1), st.integers(0, 24), token), max_size=3)


def edited(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, removed, added in changes:
        at = round(place * len(data))
        data = data[:at] + added + data[at + removed :]
    return data


@settings(steady, max_examples=300)
@example(requests=ALIKE, changes=[], places=ASKEW, rounds=2)
@example(requests=[KNOWN] * 2, changes=[(0.0, 0, b"\r\n\r\n")], places=[], rounds=3)
@given(
    requests=stream(),
    changes=edits(),
    places=cuts(),
    rounds=st.integers(1, 3),
)
async def test_whatever_comes_is_read_as_the_parser_reads_it(
    shared, requests, changes, places, rounds
):
    """No bytes are answered on the short way that the parser would refuse or read differently.

    Sent several times, so that whatever could be learned from it is known when it comes again.
    """
    await learn_anew(shared)
    data = edited(b"".join(requests), changes)
    pieces = pieces_of(data, places)
    wanted = await answered(shared.ordinary_only, pieces)

    for _ in range(rounds):
        assert plain(await answered(shared, pieces)) == plain(wanted)


async def test_nothing_that_was_sent_before_changes_what_a_head_means(port):
    """Whatever one client sends, in whatever pieces, another one's requests are its own."""
    attacks = [
        [KNOWN[:20], KNOWN[20:]],
        [b"\r\n\r\n" + KNOWN],
        [KNOWN + KNOWN[:20], KNOWN[20:]],
        [KNOWN[:-8], KNOWN[-8:] + KNOWN[:-8], KNOWN[-8:]],
        [HEAD, ROW.tobytes()],
    ]
    for pieces in attacks:
        await answered(port, pieces * 3)

    heads = set(port.express._heads)

    assert heads == {HEAD}
