"""Receiving: queries, deadlines, bodies, and clients that leave while they wait."""

import asyncio
from typing import Any

import pytest

from service.api.requests import RequestIds, Watch, headers_of, query_of, read_body, timeout_of
from service.errors import (
    ClientGoneError,
    DeadlineExceededError,
    InvalidRowsError,
    MalformedBodyError,
    TooLargeError,
)
from service.inference.ticket import Ticket

WITHIN_S = 5.0


class Wire:
    """The receiving side of a connection: messages that are there, then silence."""

    def __init__(self, *messages):
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in messages:
            self._messages.put_nowait(message)

    async def receive(self):
        return await self._messages.get()

    def more(self, message):
        self._messages.put_nowait(message)

    def leave(self):
        self.more({"type": "http.disconnect"})


def chunk(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def query(text):
    return query_of({"query_string": text})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"", {}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=", {"a": ""}),
        (b"a", {"a": ""}),
        (b"a=%C3%A9+b", {"a": "é b"}),
    ],
)
def test_a_query_is_read(text, wanted):
    assert query(text) == wanted


@pytest.mark.parametrize("text", [b"a=\xff", b"&".join([b"a=1"] * 40)])
def test_a_query_that_cannot_be_read_is_malformed(text):
    with pytest.raises(MalformedBodyError):
        query(text)


def test_a_parameter_given_twice_is_refused():
    with pytest.raises(InvalidRowsError, match="twice"):
        query(b"a=1&a=1")


def test_headers_are_found_by_their_names():
    assert headers_of({"headers": [(b"a", b"1"), (b"b", b"2")]}) == {b"a": b"1", b"b": b"2"}


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, 10), (b"1", 0.001), (b"9999", 9.999), (b"10001", 10)]
)
def test_the_shorter_deadline_holds(text, seconds):
    headers = {} if text is None else {b"x-request-timeout-ms": text}

    assert timeout_of(headers, 10) == seconds


@pytest.mark.parametrize("text", [b"", b"0", b"-1", b"1.0", b"1_000", b" 1", b"1" * 10, b"\xb2"])
def test_a_deadline_that_is_no_positive_whole_number_is_malformed(text):
    with pytest.raises(MalformedBodyError):
        timeout_of({b"x-request-timeout-ms": text}, 10)


async def read(wire, *, max_bytes=10, length=None, timeout_s=WITHIN_S):
    headers = {} if length is None else {b"content-length": length}
    ticket = Ticket(timeout_s=timeout_s)
    return await read_body(wire.receive, headers, ticket, Watch(), max_bytes=max_bytes)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "messages",
    [
        [chunk(b"abcdef")],
        [chunk(b"ab", True), chunk(b"cd", True), chunk(b"ef")],
        [chunk(b"abcdef", True), chunk(b"")],
        [chunk(b"", True), {"type": "http.request", "more_body": True}, chunk(b"abcdef")],
    ],
    ids=["whole", "in pieces", "with an empty end", "with nothing in between"],
)
async def test_a_body_is_read_to_its_end(messages):
    assert await read(Wire(*messages)) == b"abcdef"


@pytest.mark.anyio
async def test_a_body_may_have_the_largest_size():
    assert await read(Wire(chunk(b"a" * 10)), length=b"10") == b"a" * 10


@pytest.mark.anyio
@pytest.mark.parametrize("length", [b"11", b"9" * 5000], ids=["by one", "by far"])
async def test_a_body_announced_too_long_is_not_read(length):
    with pytest.raises(TooLargeError):
        await read(Wire(), length=length)


@pytest.mark.anyio
@pytest.mark.parametrize("length", [None, b"3", b"nonsense", b"-5"])
async def test_what_comes_counts_whatever_was_announced(length):
    with pytest.raises(TooLargeError):
        await read(Wire(chunk(b"a" * 6, True), chunk(b"a" * 5)), length=length)


@pytest.mark.anyio
async def test_a_body_that_stops_coming_ends_with_the_deadline():
    with pytest.raises(DeadlineExceededError):
        await read(Wire(chunk(b"a", True)), timeout_s=0.01)


@pytest.mark.anyio
async def test_a_deadline_that_has_passed_ends_a_body_that_does_not_come():
    with pytest.raises(DeadlineExceededError):
        await read(Wire(), timeout_s=-1)


@pytest.mark.anyio
async def test_only_the_body_that_is_late_is_given_up():
    watch, wire = Watch(), Wire(chunk(b"a", True))
    patient = asyncio.create_task(
        read_body(wire.receive, {}, Ticket(timeout_s=WITHIN_S), watch, max_bytes=10)
    )
    hasty = read_body(Wire().receive, {}, Ticket(timeout_s=0.01), watch, max_bytes=10)

    with pytest.raises(DeadlineExceededError):
        await hasty

    wire.more(chunk(b"b"))
    assert await asyncio.wait_for(patient, WITHIN_S) == b"ab"


@pytest.mark.anyio
async def test_a_task_whose_body_was_late_can_go_on():
    """The answer has still to be sent: by this task, which was cancelled to stop its reading."""

    async def request():
        with pytest.raises(DeadlineExceededError):
            await read(Wire(), timeout_s=0.01)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return task is not None and task.cancelling()

    assert await asyncio.wait_for(asyncio.create_task(request()), WITHIN_S) == 0


@pytest.mark.anyio
async def test_a_task_that_others_cancel_while_it_reads_is_cancelled():
    reading = asyncio.create_task(read(Wire()))
    await asyncio.sleep(0)

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.anyio
async def test_a_body_that_has_come_is_not_given_up_later():
    watch = Watch()
    ticket = Ticket(timeout_s=0.01)

    assert await read_body(Wire(chunk(b"a")).receive, {}, ticket, watch, max_bytes=10) == b"a"
    await asyncio.sleep(0.05)  # cancelled here, if at all
    assert not watch.is_late(ticket)


@pytest.mark.anyio
async def test_a_client_that_leaves_before_the_end_of_its_body_is_gone():
    wire = Wire(chunk(b"a", True))
    wire.leave()

    with pytest.raises(ClientGoneError):
        await read(wire)


def waiting():
    """A ticket of rows in the queue, and what tells that its client has left."""
    ticket, left = Ticket(), asyncio.Event()
    ticket.give_up = left.set
    return ticket, left


@pytest.mark.anyio
async def test_a_client_that_leaves_while_it_waits_is_noticed():
    watch, wire = Watch(), Wire()
    ticket, left = waiting()
    watch.waiting(ticket, wire.receive)

    wire.leave()

    await asyncio.wait_for(left.wait(), WITHIN_S)
    watch.forget(ticket)


@pytest.mark.anyio
async def test_only_the_client_that_leaves_is_taken_for_gone():
    watch = Watch()
    tickets = [waiting() for _ in range(3)]
    wires = [Wire() for _ in tickets]
    for (ticket, _), wire in zip(tickets, wires, strict=True):
        watch.waiting(ticket, wire.receive)

    wires[1].leave()

    await asyncio.wait_for(tickets[1][1].wait(), WITHIN_S)
    assert [left.is_set() for _, left in tickets] == [False, True, False]
    for ticket, _ in tickets:
        watch.forget(ticket)


@pytest.mark.anyio
async def test_what_else_comes_is_no_departure():
    watch, wire = Watch(), Wire(chunk(b"late"), chunk(b"later"))
    ticket, left = waiting()
    watch.waiting(ticket, wire.receive)

    wire.leave()

    await asyncio.wait_for(left.wait(), WITHIN_S)
    watch.forget(ticket)


@pytest.mark.anyio
async def test_a_client_that_came_later_is_noticed_too():
    watch = Watch()
    first, second = waiting(), waiting()
    wires = Wire(), Wire()
    watch.waiting(first[0], wires[0].receive)
    await asyncio.sleep(0.015)
    watch.waiting(second[0], wires[1].receive)

    for wire in wires:
        wire.leave()

    await asyncio.wait_for(asyncio.gather(first[1].wait(), second[1].wait()), WITHIN_S)
    watch.forget(first[0])
    watch.forget(second[0])


@pytest.mark.anyio
async def test_nobody_listens_for_a_client_that_has_its_answer():
    watch, wire = Watch(), Wire()
    ticket, left = waiting()
    watch.waiting(ticket, wire.receive)
    watch.forget(ticket)

    wire.leave()
    await asyncio.sleep(0.05)

    assert not left.is_set()
    assert await wire.receive() == {"type": "http.disconnect"}


@pytest.mark.anyio
async def test_a_departure_after_the_rows_are_answered_changes_nothing():
    watch, wire = Watch(), Wire()
    ticket, left = waiting()
    watch.waiting(ticket, wire.receive)
    ticket.give_up = None

    wire.leave()
    await asyncio.sleep(0.05)

    assert not left.is_set()
    watch.forget(ticket)


def test_repeated_headers_are_one_list():
    scope = {"headers": [(b"accept", b"text/html"), (b"host", b"x"), (b"accept", b"image/png")]}

    assert headers_of(scope) == {b"accept": b"text/html, image/png", b"host": b"x"}


def test_a_request_that_brings_a_harmless_id_keeps_it():
    assert RequestIds().of({b"x-request-id": b"a.B_c-1"}) == b"a.B_c-1"


@pytest.mark.parametrize("theirs", [b"", b"a b", b"a\xe9", b"a" * 129, b"a, b", b"a\n"])
def test_an_id_that_could_do_harm_is_replaced(theirs):
    made = RequestIds().of({b"x-request-id": theirs})

    assert made != theirs
    assert len(made) == 16


def test_no_two_ids_of_a_server_are_alike():
    ids = RequestIds()

    assert len({ids.of({}) for _ in range(1000)}) == 1000


def test_ids_of_two_servers_are_apart():
    assert RequestIds().of({}) != RequestIds().of({})
