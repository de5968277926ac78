"""How the rows that wait share the device: planned runs, room by time, models beside each other."""

import asyncio
import threading
from collections import Counter, defaultdict

import numpy as np
import pytest

from service.errors import (
    ClientGoneError,
    DeadlineExceededError,
    InferenceError,
    InvalidRowsError,
    OverloadedError,
    UnavailableError,
)
from service.inference.cost import CostModel
from service.inference.ticket import Ticket
from tests.fakes import WAIT_S, FakeSession, doubled
from tests.unit.inference.jobs import (
    AFTER_THE_START_S,
    CHEAP,
    LONG_S,
    SOON_S,
    assert_doubled,
    ended,
    hold_with_one_row,
    is_poisoned,
    leave,
    poisoned,
    rows_of,
    run_has_started,
    submit,
    turns_of_the_loop,
    until,
)

# 0.6 ms a row: three of them fit into the 2 ms of a run that others wait for
THREE_FIT = CostModel((1, 60), (0.6e-3, 36e-3))
# 4 ms whatever the rows, and 1 ms for each: only 5 rows reach half of the full speed
NEEDS_MANY = CostModel((1, 10, 64), (5e-3, 14e-3, 68e-3))
# 64 rows a second
SLOW = CostModel((1, 64), (1 / 64, 1.0))


class Gates:
    """What a session computes, held until the run that begins with a certain row is let go."""

    def __init__(self):
        self.begun = []
        self._gates = defaultdict(threading.Event)

    def let_go(self, number):
        self._gates[number].set()

    def __call__(self, batch):
        number = int(batch[0, 0])
        self.begun.append(number)
        assert self._gates[number].wait(WAIT_S)
        return doubled(batch)


def numbered(number, first=0):
    """Random rows whose first value says which they are."""
    rows = rows_of(number)
    rows[:, 0] = np.arange(first, first + number)
    return rows


class TestPlannedRuns:
    """While others wait, no run is planned longer than 2 ms if the graph allows it."""

    def test_the_models_of_these_tests_are_what_they_are_said_to_be(self):
        assert THREE_FIT.shared_rows() == 3
        assert NEEDS_MANY.shared_rows() == 5

    @pytest.mark.anyio
    async def test_a_large_request_that_nobody_waits_behind_has_full_batches(self, make):
        session = FakeSession()

        await ended(submit(make(session, cost=THREE_FIT, max_batch_rows=8), rows_of(20)))

        assert session.sizes == [8, 8, 4]

    @pytest.mark.anyio
    async def test_while_others_wait_in_its_queue_its_runs_are_short(self, make):
        session = FakeSession()
        batcher = make(session, cost=THREE_FIT, max_batch_rows=8)
        holder = await hold_with_one_row(session, batcher)
        large, *small = (submit(batcher, rows_of(n, seed=n)) for n in (9, 1, 1))
        await turns_of_the_loop()
        session.release()

        _, outputs, *_ = await ended(holder, large, *small)

        assert session.sizes == [1, 3, 8]
        assert_doubled(outputs, rows_of(9, seed=9))

    @pytest.mark.anyio
    @pytest.mark.parametrize("rows", [1, 2, 3, 4, 6])
    async def test_however_short_they_are_the_oldest_has_a_quarter_and_the_small_the_rest(
        self, make, rows
    ):
        """Runs of one row, too: those of a model that takes milliseconds for each."""
        session = FakeSession()
        cost = CostModel((1, 64), (2e-3 / (rows + 0.4), 64 * 2e-3 / (rows + 0.4)))
        assert cost.shared_rows() == rows
        batcher = make(session, cost=cost, max_batch_rows=rows)
        holder = await hold_with_one_row(session, batcher)
        large = submit(batcher, numbered(100))
        small = [submit(batcher, numbered(1, first=1000 + number)) for number in range(24)]
        await turns_of_the_loop()
        session.release()

        await ended(holder, large, *small)

        ran = np.concatenate(session.batches[1:])[:, 0]
        last_small = np.flatnonzero(ran >= 1000)[-1]
        assert np.count_nonzero(ran[:last_small] < 1000) == pytest.approx(24 / 3, abs=rows)

    @pytest.mark.anyio
    async def test_while_other_queues_wait_for_the_device_its_runs_are_short(self, make):
        busy, session, other = FakeSession(), FakeSession(), FakeSession()
        holder = await hold_with_one_row(busy, make(busy))
        large = submit(make(session, cost=THREE_FIT, max_batch_rows=8), rows_of(7))
        await turns_of_the_loop()
        small = submit(make(other, cost=THREE_FIT, max_batch_rows=8), rows_of(2))
        await turns_of_the_loop()
        busy.release()

        await ended(holder, large, small)

        assert session.sizes == [3, 4]
        assert other.sizes == [2]

    @pytest.mark.anyio
    async def test_a_model_that_needs_larger_batches_gets_them(self, make):
        session = FakeSession()
        batcher = make(session, cost=NEEDS_MANY)
        holder = await hold_with_one_row(session, batcher)
        tasks = [submit(batcher, rows_of(4, seed=n)) for n in range(2)]
        await turns_of_the_loop()
        session.release()

        await ended(holder, *tasks)

        assert session.sizes == [1, 5, 3]

    @pytest.mark.anyio
    async def test_a_planned_run_is_never_larger_than_the_limit(self, make):
        session = FakeSession()
        batcher = make(session, cost=NEEDS_MANY, max_batch_rows=3)
        tasks = [submit(batcher, rows_of(4, seed=n)) for n in range(5)]

        await ended(*tasks)

        assert session.sizes == [3, 3, 3, 3, 3, 3, 2]

    @pytest.mark.anyio
    async def test_a_run_as_large_as_was_planned_is_counted_as_full(self, make, batches_counted):
        session = FakeSession()
        batcher = make(session, cost=THREE_FIT, max_batch_rows=8)

        await ended(*(submit(batcher, rows_of(1, seed=n)) for n in range(4)))

        assert session.sizes == [3, 1]
        assert (batches_counted("full"), batches_counted("idle")) == (1, 1)


class TestRoomByTime:
    """A queue holds no more work than can be run in a given time."""

    @pytest.fixture
    def held(self, make):
        """A queue behind a run that is held, with *waiting* rows in it."""

        async def held(session, waiting, **options):
            batcher = make(session, cost=SLOW, **options)
            tasks = [await hold_with_one_row(session, batcher)]
            tasks += [submit(batcher, rows_of(1, seed=n)) for n in range(waiting)]
            await turns_of_the_loop()
            assert batcher.waiting_rows == waiting
            return batcher, tasks

        return held

    @pytest.mark.anyio
    async def test_work_for_just_that_time_may_wait(self, held):
        session = FakeSession()
        batcher, tasks = await held(session, 17, max_wait_s=0.25)

        session.release()

        assert all(isinstance(result, tuple) for result in await ended(*tasks))
        batcher.check_room()

    @pytest.mark.anyio
    async def test_whoever_finds_more_is_refused_and_told_when_there_is_room(self, held):
        session = FakeSession()
        batcher, tasks = await held(session, 17, max_wait_s=0.25)

        with pytest.raises(OverloadedError, match=r"17 rows, more than .* in 0\.25 s") as caught:
            batcher.check_room()

        assert caught.value.retry_after_s == pytest.approx(1 / 64)  # one row too many
        session.release()
        await ended(*tasks)

    @pytest.mark.anyio
    async def test_a_refused_request_leaves_no_trace(self, held):
        session = FakeSession()
        batcher, tasks = await held(session, 17, max_wait_s=0.25)
        ticket = Ticket()

        (error,) = await ended(submit(batcher, rows_of(3), ticket))

        assert isinstance(error, OverloadedError)
        assert (batcher.waiting_rows, ticket.give_up) == (17, None)
        session.release()
        await ended(*tasks)
        assert sum(session.sizes) == 18

    @pytest.mark.anyio
    async def test_a_request_that_alone_takes_longer_is_taken_where_nobody_waits(self, make):
        """Or it could never run."""
        rows = rows_of(300)

        (outputs,) = await ended(submit(make(FakeSession(), cost=SLOW, max_wait_s=0.01), rows))

        assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_the_turns_of_another_queue_are_waited_for_too(self, held, make):
        session, other = FakeSession(), FakeSession()
        batcher, tasks = await held(session, 9, max_wait_s=0.25)
        batcher.check_room()
        tasks.append(submit(make(other), rows_of(1)))
        await turns_of_the_loop()

        with pytest.raises(OverloadedError) as caught:
            batcher.check_room()

        assert caught.value.retry_after_s == pytest.approx(2 * 9 / 64 - 0.25)
        session.release()
        await ended(*tasks)

    @pytest.mark.anyio
    async def test_two_threads_make_room_twice_as_fast(self, make, two):
        session = FakeSession()
        batcher = make(session, on=two, cost=SLOW, max_wait_s=0.25, max_batch_rows=1)
        session.hold()
        tasks = [submit(batcher, rows_of(1, seed=n)) for n in range(2)]
        await run_has_started(session)
        await run_has_started(session)
        tasks += [submit(batcher, rows_of(1, seed=n)) for n in range(32)]
        await turns_of_the_loop()

        batcher.check_room()
        tasks.append(submit(batcher, rows_of(1)))
        await turns_of_the_loop()
        with pytest.raises(OverloadedError):
            batcher.check_room()

        session.release()
        await ended(*tasks)

    @pytest.mark.anyio
    async def test_runs_that_take_longer_than_measured_at_load_leave_less_room(self, held):
        session = FakeSession()
        batcher, tasks = await held(session, 9, max_wait_s=0.25)
        batcher.check_room()

        for _ in range(100):  # told and not measured: only the proportion counts
            batcher._planner.note_thread_run(1.0, 3.0)

        with pytest.raises(OverloadedError) as caught:
            batcher.check_room()
        assert caught.value.retry_after_s == pytest.approx(3 * 9 / 64 - 0.25, rel=1e-2)
        session.release()
        await ended(*tasks)

    @pytest.mark.anyio
    async def test_runs_that_take_less_leave_more(self, held):
        session = FakeSession()
        batcher, tasks = await held(session, 17, max_wait_s=0.25)

        for _ in range(100):
            batcher._planner.note_thread_run(1.0, 0.5)

        batcher.check_room()
        session.release()
        await ended(*tasks)

    @pytest.mark.anyio
    async def test_the_measured_time_of_a_run_in_a_thread_is_noted(self, make):
        """A graph that was measured at a second and takes next to nothing."""
        batcher = make(FakeSession())

        await ended(submit(batcher, rows_of(1)))

        assert batcher._planner._pace < 1
        assert batcher.spent_s < 1


class TestSideBySide:
    """Two runs of one queue at a time, on a lane of two threads."""

    @pytest.fixture
    def gates(self):
        return Gates()

    @pytest.fixture
    def batcher(self, make, two, gates):
        return make(FakeSession(gates), on=two, max_batch_rows=4)

    @pytest.mark.anyio
    async def test_parts_that_come_back_out_of_order_are_put_in_order(self, batcher, gates):
        rows = numbered(8)
        task = submit(batcher, rows)
        await until(lambda: sorted(gates.begun) == [0, 4])
        gates.let_go(4)
        await until(lambda: len(batcher._running) == 1)
        is_half_done = task.done()
        gates.let_go(0)

        (outputs,) = await ended(task)

        assert not is_half_done
        assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_no_third_run_is_started(self, batcher, gates):
        rows = numbered(12)
        task = submit(batcher, rows)
        await until(lambda: len(gates.begun) == 2)
        await turns_of_the_loop(20)
        begun = sorted(gates.begun)
        for number in (0, 4, 8):
            gates.let_go(number)

        (outputs,) = await ended(task)

        assert begun == [0, 4]
        assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_a_short_request_does_not_wait_for_the_run_beside_it(self, batcher, gates):
        first = submit(batcher, numbered(1, first=10))
        await until(lambda: gates.begun == [10])
        second = submit(batcher, numbered(1, first=20))
        await until(lambda: gates.begun == [10, 20])
        gates.let_go(20)

        (outputs,) = await ended(second)

        assert_doubled(outputs, numbered(1, first=20))
        assert not first.done()
        gates.let_go(10)
        await ended(first)

    @pytest.mark.anyio
    async def test_a_job_that_fails_in_one_run_needs_no_answer_of_the_other(self, make, two, gates):
        session = FakeSession(gates, fails=lambda batch: int(batch[0, 0]) >= 4)
        batcher = make(session, on=two, max_batch_rows=4)
        task = submit(batcher, numbered(8))

        (error,) = await ended(task)

        assert isinstance(error, InferenceError)
        gates.let_go(0)
        await until(lambda: not batcher._running)
        assert batcher.waiting_rows == 0

    @pytest.mark.anyio
    async def test_a_leaver_stops_both_runs_when_nobody_else_is_in_them(self, make, two):
        session = FakeSession()
        session.hold()
        batcher = make(session, on=two, max_batch_rows=4)
        ticket = Ticket()
        task = submit(batcher, rows_of(8), ticket)
        await run_has_started(session)
        await run_has_started(session)
        leave(ticket)

        await ended(task)

        await until(lambda: session.stopped == 2)

    @pytest.mark.anyio
    async def test_closing_closes_the_session_after_the_last_of_both(self, batcher, gates):
        task = submit(batcher, numbered(8))
        await until(lambda: len(gates.begun) == 2)
        batcher.close()
        await ended(task)
        gates.let_go(0)
        await until(lambda: len(batcher._running) == 1)
        closed_early = batcher._session.is_closed
        gates.let_go(4)

        await until(lambda: batcher._session.is_closed)

        assert not closed_early

    @pytest.mark.anyio
    async def test_a_drain_waits_for_both(self, batcher, gates):
        task = submit(batcher, numbered(8))
        await until(lambda: len(gates.begun) == 2)
        drain = asyncio.create_task(batcher.drain())
        gates.let_go(4)
        await until(lambda: len(batcher._running) == 1)
        await turns_of_the_loop()
        was_drained = drain.done()
        gates.let_go(0)

        await ended(drain, task)

        assert not was_drained


class Told:
    """Takes what a job's end is told by, and remembers it with the thread."""

    def __init__(self):
        self.outcomes = []
        self.threads = set()

    def __call__(self, outcome):
        self.outcomes.append(outcome)
        self.threads.add(threading.current_thread())

    async def once(self):
        await until(lambda: self.outcomes)
        await turns_of_the_loop(10)
        (outcome,) = self.outcomes
        return outcome


class TestCallback:
    """A job whose end is told instead of awaited: once, in the loop, whatever happens."""

    @pytest.fixture
    def told(self):
        return Told()

    @pytest.mark.anyio
    @pytest.mark.parametrize("place", ["loop", "thread"])
    async def test_an_answer_is_told(self, make, told, place):
        rows = rows_of(3)
        batcher = make(FakeSession(), place=place)

        batcher.submit(rows, Ticket(), told)

        assert_doubled(await told.once(), rows)
        assert told.threads == {threading.current_thread()}

    @pytest.mark.anyio
    async def test_nothing_is_told_before_the_call_has_returned(self, make, told):
        batcher = make(FakeSession(), place="loop")

        batcher.submit(rows_of(1), Ticket(), told)

        assert told.outcomes == []
        await told.once()

    @pytest.mark.anyio
    async def test_a_failure_is_told_with_its_row(self, make, told):
        batcher = make(FakeSession(fails=is_poisoned))

        batcher.submit(poisoned(5, 3), Ticket(), told)

        error = await told.once()
        assert isinstance(error, InferenceError)
        assert error.row == 3

    @pytest.mark.anyio
    @pytest.mark.parametrize("when", ["in the queue", "during the run"])
    async def test_leaving_is_told_at_once_and_the_end_of_the_run_is_not(self, make, told, when):
        session, ticket = FakeSession(), Ticket()
        session.hold()
        batcher = make(session)
        batcher.submit(rows_of(2), Ticket(), Told())
        if when == "in the queue":
            await run_has_started(session)
        batcher.submit(rows_of(2), ticket, told)
        if when == "during the run":
            await run_has_started(session)
        leave(ticket)
        told_at_once = list(told.outcomes)
        session.release()
        await batcher.drain()

        error = await told.once()

        assert told_at_once == [error]
        assert isinstance(error, ClientGoneError)

    @pytest.mark.anyio
    @pytest.mark.parametrize("deadline_s", [SOON_S, AFTER_THE_START_S])
    async def test_a_deadline_is_told_and_the_end_of_the_run_is_not(self, make, told, deadline_s):
        session = FakeSession()
        session.hold()
        batcher = make(session)

        batcher.submit(rows_of(2), Ticket(timeout_s=deadline_s), told)
        await until(lambda: told.outcomes)
        session.release()
        await until(lambda: not batcher._running)

        assert isinstance(await told.once(), DeadlineExceededError)

    @pytest.mark.anyio
    @pytest.mark.parametrize("when", ["before the run", "during the run"])
    async def test_the_end_of_the_model_is_told(self, make, told, when):
        session = FakeSession()
        session.hold()
        batcher = make(session)
        batcher.submit(rows_of(2), Ticket(timeout_s=LONG_S), told)
        if when == "during the run":
            await run_has_started(session)

        batcher.close()
        session.release()
        await until(lambda: session.is_closed)

        assert isinstance(await told.once(), UnavailableError)

    @pytest.mark.anyio
    async def test_leaving_after_the_answer_is_told_to_nobody(self, make, told):
        ticket = Ticket()
        batcher = make(FakeSession())
        batcher.submit(rows_of(1), ticket, told)
        await told.once()

        ticket.leave()
        batcher.close()

        assert isinstance(await told.once(), tuple)

    @pytest.mark.anyio
    async def test_what_keeps_a_job_out_of_the_queue_is_raised_and_not_told(self, make, told):
        session = FakeSession()
        batcher = make(session, max_queue_rows=2)
        gone = Ticket()
        gone.leave()
        refusals = [
            (rows_of(0), Ticket(), InvalidRowsError),
            (rows_of(3), Ticket(), OverloadedError),
            (rows_of(1), Ticket(timeout_s=-1), DeadlineExceededError),
            (rows_of(1), gone, ClientGoneError),
        ]

        for rows, ticket, kind in refusals:
            with pytest.raises(kind):
                batcher.submit(rows, ticket, told)
        await batcher.drain()
        with pytest.raises(UnavailableError):
            batcher.submit(rows_of(1), Ticket(), told)

        await turns_of_the_loop(10)
        assert (told.outcomes, session.sizes) == ([], [])

    @pytest.mark.anyio
    @pytest.mark.parametrize("place", ["loop", "thread"])
    async def test_whoever_is_told_may_queue_the_next_one(self, make, place):
        """A connection does so when its client has sent the next request already."""
        session = FakeSession()
        batcher = make(session, place=place)
        answers = []

        def next_one(outcome):
            answers.append(outcome)
            if len(answers) < 5:
                batcher.submit(rows_of(1, seed=len(answers)), Ticket(), next_one)

        batcher.submit(rows_of(1, seed=0), Ticket(), next_one)
        await until(lambda: len(answers) == 5)

        for seed, outputs in enumerate(answers):
            assert_doubled(outputs, rows_of(1, seed=seed))
        assert batcher.waiting_rows == 0

    @pytest.mark.anyio
    async def test_whoever_is_told_of_a_deadline_may_queue_the_next_one(self, make, told):
        """The look for expired jobs goes on after it."""
        session = FakeSession()
        session.hold()
        batcher = make(session)

        def again(_):
            batcher.submit(rows_of(1), Ticket(timeout_s=SOON_S), told)

        batcher.submit(rows_of(1), Ticket(timeout_s=SOON_S), again)

        assert isinstance(await told.once(), DeadlineExceededError)
        session.release()


class TestFairness:
    """Two models on one device, both with more work than it can do."""

    @pytest.fixture
    def pair(self, make):
        """Queues of two models on one lane, whose runs are written down in their order."""

        def pair(dear, cheap, **options):
            order = []

            def session(name, seconds):
                def compute(batch):
                    order.append(name)
                    threading.Event().wait(seconds)
                    return doubled(batch)

                return FakeSession(compute)

            return order, [
                make(session(name, seconds), cost=cost, max_batch_rows=1, **options)
                for name, (cost, seconds) in {"dear": dear, "cheap": cheap}.items()
            ]

        return pair

    @pytest.mark.anyio
    async def test_the_cheap_model_gets_its_share_by_the_cost_of_runs(self, pair):
        """Four runs of the cheap one for each of the dear one."""
        order, batchers = pair(
            (CostModel((1, 2), (4.0, 8.0)), 0), (CostModel((1, 2), (1.0, 2.0)), 0), place="loop"
        )

        await ended(*(submit(batcher, rows_of(1)) for batcher in batchers for _ in range(40)))

        assert Counter(order[:40]) == {"dear": 8, "cheap": 32}
        assert Counter(order) == {"dear": 40, "cheap": 40}

    @pytest.mark.anyio
    async def test_what_counts_is_what_the_runs_really_took(self, pair):
        """Both said the same at load, and one takes fifty times as long."""
        said = CostModel((1, 2), (1e-3, 2e-3))
        order, batchers = pair((said, 0.05), (said, 0.001), place="thread")

        await ended(*(submit(batcher, rows_of(1)) for batcher in batchers for _ in range(10)))

        # in turns it would be nine; by their times it is one, and a machine may be busy
        last_cheap = len(order) - 1 - order[::-1].index("cheap")
        assert order[:last_cheap].count("dear") <= 4

    @pytest.mark.anyio
    async def test_a_flood_for_one_model_does_not_keep_another_waiting(self, make):
        flooded, other = FakeSession(), FakeSession()
        first = make(flooded, cost=CHEAP, max_batch_rows=1)
        tasks = [submit(first, rows_of(1, seed=n)) for n in range(200)]
        await turns_of_the_loop(50)

        rows = rows_of(1)
        (outputs,) = await ended(submit(make(other, cost=CHEAP), rows))

        assert_doubled(outputs, rows)
        assert len(flooded.sizes) < 100
        await ended(*tasks)
