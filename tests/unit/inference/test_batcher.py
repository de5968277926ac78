import asyncio
import logging
import threading
import time
from math import log2
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from prometheus_client import CollectorRegistry

from service.errors import (
    ClientGoneError,
    DeadlineExceededError,
    DeviceLostError,
    InferenceError,
    InvalidRowsError,
    OverloadedError,
    UnavailableError,
)
from service.inference.batcher import Batcher
from service.inference.cost import CostModel
from service.inference.lane import Lane
from service.inference.ticket import Ticket
from service.metrics import Metrics
from tests.fakes import WAIT_S, FakeSession, doubled
from tests.unit.inference.jobs import (
    AFTER_THE_START_S,
    CHEAP,
    DEAR,
    IN_PROPORTION,
    LABELS,
    LONG_S,
    SOON_S,
    assert_doubled,
    ended,
    has_nine_in_second,
    hold_with_one_row,
    is_poisoned,
    leave,
    nan_where_poisoned,
    poisoned,
    rows_of,
    run_has_started,
    submit,
    turns_of_the_loop,
    until,
)


class TestBatches:
    @pytest.mark.anyio
    async def test_answers_come_in_the_order_of_the_rows(self, make):
        rows = rows_of(10)

        (outputs,) = await ended(submit(make(FakeSession()), rows))

        assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_a_lone_request_waits_for_nobody(self, make):
        session = FakeSession()

        await ended(submit(make(session), rows_of(1)))

        assert session.sizes == [1]

    @pytest.mark.anyio
    async def test_arrivals_of_one_turn_of_the_loop_share_a_run(self, make):
        session = FakeSession()
        batcher = make(session)
        requests = [rows_of(size, seed=size) for size in (1, 3, 2)]

        results = await ended(*(submit(batcher, rows) for rows in requests))

        assert session.sizes == [6]
        for outputs, rows in zip(results, requests, strict=True):
            assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_a_run_in_progress_makes_the_next_batch(self, make):
        session = FakeSession()
        batcher = make(session)
        first = await hold_with_one_row(session, batcher)
        second = submit(batcher, rows_of(1))
        await turns_of_the_loop()
        third = submit(batcher, rows_of(2))
        await turns_of_the_loop()
        session.release()

        await ended(first, second, third)

        assert session.sizes == [1, 3]

    @pytest.mark.anyio
    @pytest.mark.parametrize("place", ["loop", "thread"])
    async def test_the_rows_and_seconds_of_every_run_that_succeeds_are_noted(
        self, make, metrics, place
    ):
        batcher = make(FakeSession(fails=is_poisoned), place=place)
        totals = metrics.operation("m", "1", "encode").totals

        await ended(submit(batcher, rows_of(3)))
        await ended(submit(batcher, rows_of(3)))
        await ended(submit(batcher, poisoned(1, 0)))
        metrics.operation("m", "1", "encode").runs.count()

        ((rows, (number, seconds)),) = totals.runs.items()
        assert (rows, number) == (3, 2)
        assert 0 < seconds < WAIT_S

    @pytest.mark.anyio
    async def test_every_output_of_a_graph_is_given_back(self, make):
        rows = rows_of(5)
        session = FakeSession(lambda batch: (batch * 2, batch.sum(axis=1)))

        (outputs,) = await ended(submit(make(session, max_batch_rows=2), rows))

        assert_doubled(outputs, rows)
        np.testing.assert_array_equal(outputs[1], rows.sum(axis=1))

    @pytest.mark.anyio
    async def test_a_request_larger_than_a_batch_is_cut_and_joined_in_order(self, make):
        session = FakeSession()
        rows = rows_of(10)

        (outputs,) = await ended(submit(make(session, max_batch_rows=4), rows))

        assert session.sizes == [4, 4, 2]
        assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_a_large_request_lets_small_ones_through(self, make):
        session = FakeSession()
        batcher = make(session, max_batch_rows=8)
        holder = await hold_with_one_row(session, batcher)
        order = []
        requests = {name: rows_of(20 if name == "large" else 1, seed=len(name)) for name in NAMES}
        tasks = {name: submit(batcher, rows) for name, rows in requests.items()}
        for name, task in tasks.items():
            task.add_done_callback(lambda _, name=name: order.append(name))
        await turns_of_the_loop()
        session.release()

        await ended(holder, *tasks.values())

        assert session.sizes == [1, 8, 8, 8]
        assert order[-1] == "large"
        for name, task in tasks.items():
            assert_doubled(task.result(), requests[name])

    @pytest.mark.anyio
    async def test_small_requests_do_not_wait_for_rows_of_a_large_one(self, make):
        session = FakeSession()
        batcher = make(session, max_batch_rows=8, cost=IN_PROPORTION, place="thread")
        holder = await hold_with_one_row(session, batcher)
        large, *small = (submit(batcher, rows_of(rows, seed=rows)) for rows in (20, 1, 2))
        await turns_of_the_loop()
        session.release()

        await ended(holder, large, *small)

        assert session.sizes == [1, 3, 8, 8, 4]
        assert_doubled(large.result(), rows_of(20, seed=20))

    @pytest.mark.anyio
    async def test_a_large_request_goes_on_however_many_small_ones_come(self, make):
        session = FakeSession()
        batcher = make(session, max_batch_rows=8, cost=IN_PROPORTION, place="thread")
        session.hold()
        large = submit(batcher, rows_of(40))
        await run_has_started(session)
        for _ in range(4):
            submit(batcher, rows_of(1))
            await turns_of_the_loop()
            session.release_one()
            await run_has_started(session)
        session.release()

        await ended(large)

        assert session.sizes[:6] == [8, 1, 8, 1, 8, 8], "every second run is for the large one"

    @pytest.mark.anyio
    async def test_equal_large_requests_end_one_after_the_other(self, make):
        session = FakeSession()
        batcher = make(session, max_batch_rows=4, cost=IN_PROPORTION, place="thread")
        holder = await hold_with_one_row(session, batcher)
        requests = [rows_of(8, seed=seed) for seed in range(3)]
        tasks = [submit(batcher, rows) for rows in requests]
        await turns_of_the_loop()
        session.release()

        await ended(holder, *tasks)

        np.testing.assert_array_equal(
            session.batches[1:], np.concatenate(requests).reshape(6, 4, -1)
        )

    @pytest.mark.anyio
    async def test_a_small_request_is_seen_behind_many_large_ones(self, make):
        session = FakeSession()
        batcher = make(session, max_batch_rows=2, cost=IN_PROPORTION, place="thread")
        holder = await hold_with_one_row(session, batcher)
        large = [submit(batcher, rows_of(20, seed=seed)) for seed in range(20)]
        small = submit(batcher, rows_of(1, seed=77))
        await turns_of_the_loop()
        session.release()

        await ended(holder, small)

        assert not any(task.done() for task in large)
        await ended(*large)

    @pytest.mark.anyio
    async def test_a_request_without_rows_is_refused(self, make):
        (error,) = await ended(submit(make(FakeSession()), rows_of(0)))

        assert isinstance(error, InvalidRowsError)

    @pytest.mark.anyio
    async def test_the_times_of_a_request_are_written_on_its_ticket(self, make):
        ticket = Ticket()

        await ended(submit(make(FakeSession()), rows_of(1), ticket))

        assert ticket.queue_s > 0
        assert ticket.infer_s > 0

    @pytest.mark.anyio
    async def test_nobody_can_leave_once_the_answer_is_there(self, make):
        ticket = Ticket()

        await ended(submit(make(FakeSession()), rows_of(1), ticket))

        assert ticket.give_up is None


NAMES = ("large", "a", "bb", "ccc", "dddd")


class TestShapes:
    @pytest.mark.anyio
    async def test_rows_of_different_shapes_never_share_a_run(self, make):
        session = FakeSession()
        batcher = make(session)
        requests = [rows_of(2, seed=n, features=2 + n % 3) for n in range(9)]

        results = await ended(*(submit(batcher, rows) for rows in requests))

        assert sorted(session.sizes) == [6, 6, 6]
        for outputs, rows in zip(results, requests, strict=True):
            assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_a_rare_shape_is_not_starved_by_a_large_request_of_another(self, make):
        session = FakeSession()
        batcher = make(session, max_batch_rows=4)
        common, rare = rows_of(40), rows_of(1, features=3)

        await ended(submit(batcher, common), submit(batcher, rare))

        assert session.batches[1].shape == (1, 3)

    @pytest.mark.anyio
    async def test_a_shape_keeps_its_turn_while_others_go_on_arriving(self, make):
        session = FakeSession()
        batcher = make(session, max_batch_rows=2)
        holder = await hold_with_one_row(session, batcher)
        common = [submit(batcher, rows_of(1, seed=n)) for n in range(6)]
        rare = submit(batcher, rows_of(1, features=3))
        await turns_of_the_loop()
        common += [submit(batcher, rows_of(1, seed=n)) for n in range(6)]
        await turns_of_the_loop()
        session.release()

        await ended(holder, rare, *common)

        assert [batch.shape[1] for batch in session.batches].index(3) == 4


class TestLeaving:
    @pytest.mark.anyio
    async def test_rows_of_a_client_that_left_the_queue_are_not_run(self, make):
        session = FakeSession()
        batcher = make(session)
        holder = await hold_with_one_row(session, batcher)
        ticket, mate_rows = Ticket(), rows_of(3)
        leaver, mate = submit(batcher, rows_of(2), ticket), submit(batcher, mate_rows)
        await turns_of_the_loop()
        leave(ticket)
        (error,) = await ended(leaver)
        session.release()

        _, outputs = await ended(holder, mate)

        assert isinstance(error, ClientGoneError)
        assert session.sizes == [1, 3]
        assert_doubled(outputs, mate_rows)

    @pytest.mark.anyio
    async def test_rows_of_a_request_cancelled_in_the_queue_are_not_run(self, make):
        session = FakeSession()
        batcher = make(session)
        holder = await hold_with_one_row(session, batcher)
        leaver = submit(batcher, rows_of(2))
        await turns_of_the_loop()
        leaver.cancel()
        await ended(leaver)
        session.release()

        await ended(holder)
        await batcher.drain()

        assert session.sizes == [1]
        assert batcher.waiting_rows == 0

    @pytest.mark.anyio
    @pytest.mark.parametrize("how", ["leaves", "is cancelled"])
    async def test_a_client_that_leaves_does_not_disturb_its_batch_mates(self, make, how):
        session = FakeSession()
        session.hold()
        batcher = make(session)
        requests = [rows_of(2, seed=n) for n in range(3)]
        tickets = [Ticket() for _ in requests]
        tasks = [submit(batcher, *pair) for pair in zip(requests, tickets, strict=True)]
        await run_has_started(session)
        leave(tickets[1]) if how == "leaves" else tasks[1].cancel()
        (error,) = await ended(tasks[1])
        session.release()

        first, third = await ended(tasks[0], tasks[2])

        assert isinstance(error, ClientGoneError | asyncio.CancelledError)
        assert_doubled(first, requests[0])
        assert_doubled(third, requests[2])
        assert session.stopped == 0

    @pytest.mark.anyio
    async def test_a_run_that_everybody_has_left_is_stopped_and_not_tried_again(self, make, caplog):
        caplog.set_level(logging.INFO)
        session = FakeSession()
        session.hold()
        batcher = make(session)
        tickets = [Ticket(), Ticket()]
        leavers = [submit(batcher, rows_of(2), ticket) for ticket in tickets]
        await run_has_started(session)
        for ticket in tickets:
            leave(ticket)
        await until(lambda: session.stopped)
        session.release()
        rows = rows_of(1)

        *errors, outputs = await ended(*leavers, submit(batcher, rows))

        assert [type(error) for error in errors] == [ClientGoneError] * 2
        assert session.sizes == [4, 1]
        assert_doubled(outputs, rows)
        assert "a run was stopped" in caplog.text

    @pytest.mark.anyio
    async def test_the_rest_of_a_cut_request_that_left_is_not_run(self, make):
        session = FakeSession()
        session.hold()
        batcher = make(session, max_batch_rows=4)
        ticket = Ticket()
        leaver = submit(batcher, rows_of(100), ticket)
        await run_has_started(session)
        leave(ticket)
        session.release()

        await ended(leaver)
        await batcher.drain()

        assert session.sizes == [4]
        assert batcher.waiting_rows == 0

    @pytest.mark.anyio
    async def test_rows_of_those_who_left_do_not_stay_in_memory(self, make):
        session = FakeSession()
        batcher = make(session)
        holder = await hold_with_one_row(session, batcher)
        ticket = Ticket()
        leaver = submit(batcher, rows_of(2), ticket)
        await turns_of_the_loop()
        leave(ticket)
        await ended(leaver)

        assert [job.rows.size for job in batcher._queue] == [0]
        session.release()
        await ended(holder)


class TestDeadlines:
    @pytest.mark.anyio
    async def test_a_request_that_comes_too_late_is_not_queued(self, make):
        session = FakeSession()

        (error,) = await ended(submit(make(session), rows_of(1), Ticket(timeout_s=-1)))

        assert isinstance(error, DeadlineExceededError)
        assert session.sizes == []

    @pytest.mark.anyio
    async def test_a_deadline_in_the_queue_is_answered_while_the_device_is_busy(self, make):
        session = FakeSession()
        batcher = make(session)
        holder = await hold_with_one_row(session, batcher)

        (error,) = await ended(submit(batcher, rows_of(2), Ticket(timeout_s=SOON_S)))

        assert isinstance(error, DeadlineExceededError)
        assert "in the queue" in str(error)
        assert not holder.done()
        session.release()
        await ended(holder)
        assert session.sizes == [1]

    @pytest.mark.anyio
    async def test_a_deadline_that_passes_before_the_run_starts_keeps_the_rows_out(self, make):
        session = FakeSession()
        ticket = Ticket(timeout_s=LONG_S)
        late = submit(make(session), rows_of(1), ticket)
        await asyncio.sleep(0)
        ticket.deadline = perf_counter()

        (error,) = await ended(late)

        assert isinstance(error, DeadlineExceededError)
        assert "in the queue" in str(error)
        assert session.sizes == []

    @pytest.mark.anyio
    async def test_a_deadline_during_a_run_is_answered_while_the_run_goes_on(self, make):
        session = FakeSession()
        session.hold()
        batcher = make(session)
        rows = rows_of(1)
        hasty = submit(batcher, rows_of(2), Ticket(timeout_s=AFTER_THE_START_S))
        patient = submit(batcher, rows, Ticket(timeout_s=LONG_S))
        await run_has_started(session)

        (error,) = await ended(hasty)

        assert isinstance(error, DeadlineExceededError)
        assert "during the run" in str(error)
        assert not patient.done()
        session.release()
        (outputs,) = await ended(patient)
        assert_doubled(outputs, rows)
        assert session.stopped == 0

    @pytest.mark.anyio
    async def test_a_run_whose_members_have_all_expired_is_stopped(self, make):
        session = FakeSession()
        session.hold()
        batcher = make(session)
        tasks = [submit(batcher, rows_of(1), Ticket(timeout_s=AFTER_THE_START_S)) for _ in range(2)]

        errors = await ended(*tasks)

        assert [type(error) for error in errors] == [DeadlineExceededError] * 2
        await until(lambda: session.stopped)
        assert session.sizes == [2]

    @pytest.mark.anyio
    async def test_an_earlier_deadline_that_arrives_later_is_met_first(self, make):
        session = FakeSession()
        batcher = make(session)
        holder = await hold_with_one_row(session, batcher)
        patient = submit(batcher, rows_of(1), Ticket(timeout_s=LONG_S))
        await turns_of_the_loop()

        (error,) = await ended(submit(batcher, rows_of(1), Ticket(timeout_s=SOON_S)))

        assert isinstance(error, DeadlineExceededError)
        session.release()
        await ended(holder, patient)


class TestFailures:
    @pytest.mark.anyio
    async def test_only_the_request_with_the_culprit_fails_and_names_its_row(self, make):
        batcher = make(FakeSession(fails=is_poisoned))
        requests = [rows_of(3, seed=1), poisoned(5, 3), rows_of(4, seed=2)]

        first, error, third = await ended(*(submit(batcher, rows) for rows in requests))

        assert isinstance(error, InferenceError)
        assert error.row == 3
        assert_doubled(first, requests[0])
        assert_doubled(third, requests[2])

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "sizes",
        [[1] * 64, [64], [8] * 8, [1, 62, 1], [1] * 31 + [33], [33] + [1] * 31, [21, 22, 21]],
        ids=lambda sizes: f"{len(sizes)} requests of {sizes[0]} to {sizes[-1]} rows",
    )
    @pytest.mark.parametrize("culprit", [0, 1, 21, 32, 62, 63], ids=lambda row: f"row {row}")
    async def test_a_culprit_costs_few_further_runs(self, make, sizes, culprit):
        session = FakeSession(fails=is_poisoned)
        batcher = make(session)
        requests = np.split(poisoned(64, culprit), np.cumsum(sizes)[:-1])

        results = await ended(*(submit(batcher, rows) for rows in requests))

        assert session.sizes[0] == 64
        assert len(session.sizes) - 1 <= 2 * log2(64) + 2
        for outputs, rows in zip(results, requests, strict=True):
            if is_poisoned(rows):
                assert isinstance(outputs, InferenceError)
            else:
                assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_two_culprits_fail_and_nobody_else(self, make):
        batcher = make(FakeSession(fails=is_poisoned))
        requests = [rows_of(2, seed=n) for n in range(8)]
        requests[2], requests[7] = poisoned(2, 1), poisoned(2, 0)

        results = await ended(*(submit(batcher, rows) for rows in requests))

        bad = {n: result.row for n, result in enumerate(results) if not isinstance(result, tuple)}
        assert bad == {2: 1, 7: 0}
        for n in set(range(8)) - {2, 7}:
            assert_doubled(results[n], requests[n])

    @pytest.mark.anyio
    async def test_the_first_of_several_bad_rows_is_named(self, make):
        (error,) = await ended(submit(make(FakeSession(fails=is_poisoned)), poisoned(9, 4, 6, 7)))

        assert error.row == 4

    @pytest.mark.anyio
    async def test_a_failure_that_does_not_come_back_costs_nobody_an_answer(self, make):
        failures = iter([True])
        batcher = make(FakeSession(fails=lambda _: next(failures, False)))
        requests = [rows_of(3, seed=n) for n in range(3)]

        results = await ended(*(submit(batcher, rows) for rows in requests))

        for outputs, rows in zip(results, requests, strict=True):
            assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_a_batch_after_a_failing_one_works(self, make):
        batcher = make(FakeSession(fails=is_poisoned))
        rows = rows_of(2)
        await ended(submit(batcher, poisoned(1, 0)))

        (outputs,) = await ended(submit(batcher, rows))

        assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_the_row_of_a_cut_request_is_counted_from_its_first_row(self, make):
        batcher = make(FakeSession(fails=is_poisoned), max_batch_rows=4)

        (error,) = await ended(submit(batcher, poisoned(10, 7)))

        assert error.row == 7

    @pytest.mark.anyio
    async def test_a_failing_run_in_the_loop_is_split_as_well(self, make):
        batcher = make(FakeSession(fails=is_poisoned), cost=CHEAP)
        rows = rows_of(3)

        error, outputs = await ended(submit(batcher, poisoned(3, 2)), submit(batcher, rows))

        assert error.row == 2
        assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_nobody_is_run_again_for_a_failing_run_that_all_have_left(self, make):
        session = FakeSession()
        batcher = make(session)
        ticket = Ticket()
        loop = asyncio.get_running_loop()

        def fail_after_the_client_has_left(_):
            gone = threading.Event()
            loop.call_soon_threadsafe(leave, ticket)
            loop.call_soon_threadsafe(gone.set)
            assert gone.wait(WAIT_S)
            return True

        session.fails = fail_after_the_client_has_left

        await ended(submit(batcher, rows_of(4), ticket))
        await until(lambda: not batcher._running)
        await batcher.drain()

        assert session.sizes == [4]

    @pytest.mark.anyio
    async def test_a_non_finite_output_fails_its_own_request_without_another_run(self, make):
        session = FakeSession(nan_where_poisoned)
        batcher = make(session)
        rows = rows_of(3)

        error, outputs = await ended(submit(batcher, poisoned(5, 2, 4)), submit(batcher, rows))

        assert isinstance(error, InferenceError)
        assert error.row == 2
        assert "non-finite" in str(error)
        assert_doubled(outputs, rows)
        assert session.sizes == [8]

    @pytest.mark.anyio
    async def test_a_non_finite_row_of_a_cut_request_is_counted_from_its_first_row(self, make):
        batcher = make(FakeSession(nan_where_poisoned), max_batch_rows=4)

        (error,) = await ended(submit(batcher, poisoned(10, 9)))

        assert error.row == 9

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "wrong",
        [lambda batch: batch[batch[:, 0] < 9], lambda batch: np.repeat(batch, 2, axis=0)],
        ids=["too few", "too many"],
    )
    async def test_answers_are_not_mixed_up_when_a_graph_miscounts_its_rows(self, make, wrong):
        def compute(batch):
            return (wrong(batch) * 2 if is_poisoned(batch) else batch * 2,)

        batcher = make(FakeSession(compute))
        rows = [rows_of(2, seed=1), rows_of(3, seed=2)]

        first, error, last = await ended(
            *(submit(batcher, part) for part in (rows[0], poisoned(2, 1), rows[1]))
        )

        assert isinstance(error, InferenceError)
        assert error.row == 1
        assert_doubled(first, rows[0])
        assert_doubled(last, rows[1])

    @pytest.mark.anyio
    @pytest.mark.parametrize("cost", [CHEAP, DEAR], ids=["in the loop", "in the lane"])
    @pytest.mark.parametrize(
        "outputs", [(np.float32(1),), ([1.0, 2.0],), 5], ids=["a scalar", "a list", "no tuple"]
    )
    async def test_an_answer_of_an_impossible_kind_leaves_nobody_waiting(self, make, cost, outputs):
        session = FakeSession(lambda _: outputs)
        batcher = make(session, cost=cost)

        errors = await ended(submit(batcher, rows_of(1)), submit(batcher, rows_of(1)))
        session.compute = doubled
        (later,) = await ended(submit(batcher, rows_of(2)))

        assert [type(error) for error in errors] == [InferenceError] * 2
        assert_doubled(later, rows_of(2))

    @pytest.mark.anyio
    async def test_a_lane_that_is_closed_leaves_nobody_waiting(self, make, lane):
        lane.close()

        (error,) = await ended(submit(make(FakeSession()), rows_of(1)))

        assert isinstance(error, UnavailableError)

    @pytest.mark.anyio
    async def test_a_run_that_a_closed_lane_never_starts_leaves_nobody_waiting(self, make, lane):
        busy = FakeSession()
        holder = await hold_with_one_row(busy, make(busy))
        behind = submit(make(FakeSession()), rows_of(1))
        await turns_of_the_loop()
        lane.close()

        (error,) = await ended(behind)

        assert isinstance(error, UnavailableError)
        busy.release()
        await ended(holder)

    @pytest.mark.anyio
    async def test_a_lost_device_is_told_to_the_server_and_to_the_whole_batch(self, make):
        def lose(_):
            raise DeviceLostError("the device failed")

        lost = []
        session = FakeSession(lose)
        batcher = make(session, on_device_lost=lambda: lost.append(True))

        errors = await ended(submit(batcher, rows_of(2)), submit(batcher, rows_of(1)))

        assert [type(error) for error in errors] == [DeviceLostError] * 2
        assert lost == [True]
        assert session.sizes == [3]


class TestFullQueue:
    @pytest.mark.anyio
    async def test_as_many_rows_as_the_queue_holds_are_taken(self, make):
        session = FakeSession()
        batcher = make(session, max_queue_rows=4)
        holder = await hold_with_one_row(session, batcher)
        tasks = [submit(batcher, rows_of(1, seed=n)) for n in range(4)]
        await turns_of_the_loop()
        session.release()

        results = await ended(holder, *tasks)

        assert all(isinstance(result, tuple) for result in results)

    @pytest.mark.anyio
    async def test_every_row_above_that_is_refused_and_told_when_to_come_back(self, make):
        session = FakeSession()
        batcher = make(session, max_queue_rows=4)
        holder = await hold_with_one_row(session, batcher)
        tasks = [submit(batcher, rows_of(1, seed=n)) for n in range(7)]
        await turns_of_the_loop()
        session.release()

        results = await ended(holder, *tasks)

        refused = [result for result in results if isinstance(result, OverloadedError)]
        assert len(refused) == 3
        assert results[-3:] == refused
        assert refused[0].retry_after_s == 1 / DEAR.rows_per_s  # one of the four must have gone

    @pytest.mark.anyio
    async def test_a_request_that_does_not_fit_whole_is_refused_whole(self, make):
        session = FakeSession()
        batcher = make(session, max_queue_rows=4)
        holder = await hold_with_one_row(session, batcher)
        three, two, one = (submit(batcher, rows_of(n)) for n in (3, 2, 1))
        await turns_of_the_loop()
        session.release()

        _, first, second, third = await ended(holder, three, two, one)

        assert isinstance(second, OverloadedError)
        assert_doubled(first, rows_of(3))
        assert_doubled(third, rows_of(1))

    @pytest.mark.anyio
    async def test_the_gauge_of_waiting_rows_rises_and_goes_back_to_zero(self, make, metrics):
        def gauge():
            return metrics.registry.get_sample_value("hourglass_queue_rows", LABELS)

        session = FakeSession()
        batcher = make(session)
        holder = await hold_with_one_row(session, batcher)
        ticket = Ticket()
        tasks = [
            submit(batcher, rows_of(3)),
            submit(batcher, rows_of(2), ticket),
            submit(batcher, rows_of(2), Ticket(timeout_s=SOON_S)),
        ]
        await turns_of_the_loop()
        waiting = gauge()
        leave(ticket)
        session.release()

        await ended(holder, *tasks)

        assert waiting == 7
        assert gauge() == 0


class TestDelay:
    @pytest.mark.anyio
    async def test_a_batch_that_is_not_full_waits_for_company(self, make, batches_counted):
        session = FakeSession()
        batcher = make(session, delay_s=AFTER_THE_START_S)
        first = submit(batcher, rows_of(1))
        await turns_of_the_loop()

        await ended(first, submit(batcher, rows_of(2)))

        assert session.sizes == [3]
        assert batches_counted("delay") == 1

    @pytest.mark.anyio
    async def test_a_full_batch_goes_at_once(self, make, batches_counted):
        session = FakeSession()
        batcher = make(session, delay_s=LONG_S, max_batch_rows=4)
        first = submit(batcher, rows_of(1))
        await turns_of_the_loop()

        await ended(first, submit(batcher, rows_of(3)))

        assert session.sizes == [4]
        assert batches_counted("full") == 1

    @pytest.mark.anyio
    async def test_a_drain_ends_the_wait(self, make, batches_counted):
        batcher = make(FakeSession(), delay_s=LONG_S)
        rows = rows_of(1)
        waiting = submit(batcher, rows)
        await turns_of_the_loop()

        outputs, _ = await ended(waiting, batcher.drain())

        assert_doubled(outputs, rows)
        assert batches_counted("drain") == 1

    @pytest.mark.anyio
    async def test_an_alarm_that_nobody_waits_for_any_more_does_nothing(self, make):
        session = FakeSession()
        batcher = make(session, delay_s=SOON_S)
        ticket = Ticket()
        leaver = submit(batcher, rows_of(1), ticket)
        await turns_of_the_loop()
        leave(ticket)

        await ended(leaver)
        await until(lambda: batcher._delay_handle is None)

        assert session.sizes == []

    @pytest.mark.anyio
    async def test_rows_that_waited_long_enough_during_a_run_do_not_wait_again(self, make):
        session = FakeSession()
        batcher = make(session, delay_s=SOON_S)
        holder = await hold_with_one_row(session, batcher)
        second = submit(batcher, rows_of(1))
        await asyncio.sleep(2 * SOON_S)
        session.release()
        await ended(holder)
        await run_has_started(session)

        await ended(second)

        assert session.sizes == [1, 1]

    @pytest.mark.anyio
    async def test_without_a_delay_batches_go_because_the_device_is_idle(
        self, make, batches_counted, metrics
    ):
        await ended(submit(make(FakeSession()), rows_of(3)))

        assert batches_counted("idle") == 1
        assert metrics.registry.get_sample_value("hourglass_batch_rows_sum", LABELS) == 3


class TestBuckets:
    @pytest.mark.anyio
    async def test_a_batch_is_padded_and_its_answer_cut_back(self, make):
        session = FakeSession()
        rows = rows_of(3)

        (outputs,) = await ended(submit(make(session, buckets=(2, 8)), rows))

        assert session.sizes == [8]
        assert_doubled(outputs, rows)

    @pytest.mark.anyio
    async def test_what_a_graph_makes_of_the_padding_is_nobodys_fault(self, make):
        session = FakeSession(lambda batch: (np.where(batch > 0, batch * 2, np.float32(np.nan)),))
        rows = rows_of(3) + np.float32(1)

        (outputs,) = await ended(submit(make(session, buckets=(8,)), rows))

        assert_doubled(outputs, rows)


def slow_down(session):
    """Let every run take more CPU time than a run in the loop may."""
    quick = session.compute

    def compute(batch):
        ends = time.thread_time() + 0.002
        while time.thread_time() < ends:
            pass
        return quick(batch)

    session.compute = compute


class TestPlace:
    """Where a run happens: in the loop or in the device's thread."""

    @pytest.fixture
    def threads(self):
        """Names of the threads that ran the session so far."""
        return []

    @pytest.fixture
    def session(self, threads):
        def compute(batch):
            threads.append(threading.current_thread().name)
            return doubled(batch)

        return FakeSession(compute)

    @pytest.fixture
    def here(self):
        return threading.current_thread().name

    @pytest.mark.anyio
    async def test_a_cheap_run_happens_in_the_loop(self, make, session, threads, here):
        await ended(submit(make(session, cost=CHEAP), rows_of(1)))

        assert threads == [here]

    @pytest.mark.anyio
    async def test_a_dear_run_happens_in_the_lane(self, make, session, threads):
        await ended(submit(make(session, cost=DEAR), rows_of(1)))

        assert threads == ["test_0"]

    @pytest.mark.anyio
    async def test_the_size_of_the_batch_decides(self, make, session, threads, here):
        batcher = make(session, cost=CostModel((1, 64), (1e-6, 1.0)))
        await ended(submit(batcher, rows_of(64)))

        await ended(submit(batcher, rows_of(1)))

        assert threads == ["test_0", here]

    @pytest.mark.anyio
    async def test_the_padding_counts_too(self, make, session, threads):
        cost = CostModel((1, 64), (1e-6, 1.0))

        await ended(submit(make(session, cost=cost, buckets=(64,)), rows_of(1)))

        assert threads == ["test_0"]

    @pytest.mark.anyio
    async def test_a_graph_with_control_flow_never_runs_in_the_loop(self, make, session, threads):
        session.has_control_flow = True

        await ended(submit(make(session, cost=CHEAP), rows_of(1)))

        assert threads == ["test_0"]

    @pytest.mark.anyio
    async def test_a_cheap_run_queues_behind_a_busy_lane(self, make, session, threads, here):
        busy = FakeSession()
        holder = await hold_with_one_row(busy, make(busy))
        cheap = submit(make(session, cost=CHEAP), rows_of(1))
        await turns_of_the_loop()
        runs_while_busy = list(threads)
        busy.release()

        await ended(holder, cheap)

        assert runs_while_busy == []
        assert threads == [here]

    @pytest.mark.anyio
    async def test_three_slow_runs_in_a_row_move_the_graph_out_of_the_loop(
        self, make, session, threads, here
    ):
        slow_down(session)
        batcher = make(session, cost=CHEAP)

        for _ in range(4):
            await ended(submit(batcher, rows_of(1)))

        assert threads == [here, here, here, "test_0"]

    @pytest.mark.anyio
    async def test_a_slow_run_now_and_then_is_the_machine_s_doing(
        self, make, session, threads, here
    ):
        batcher = make(session, cost=CHEAP)
        slow, quick = 0.002, 0.0001

        # told and not measured: a busy machine makes a quick run slow as well
        for seconds in [slow, slow, quick, slow, slow, quick]:
            batcher._planner.note_loop_run(seconds)
        await ended(submit(batcher, rows_of(1)))

        assert threads == [here]

    @pytest.mark.anyio
    async def test_by_hand_every_run_happens_in_the_loop(self, make, session, threads, here):
        await ended(submit(make(session, cost=DEAR, place="loop"), rows_of(1)))

        assert threads == [here]

    @pytest.mark.anyio
    async def test_by_hand_every_run_happens_in_the_lane(self, make, session, threads):
        await ended(submit(make(session, cost=CHEAP, place="thread"), rows_of(1)))

        assert threads == ["test_0"]

    @pytest.mark.anyio
    async def test_what_was_set_by_hand_is_not_changed_by_slow_runs_or_control_flow(
        self, make, session, threads, here
    ):
        session.has_control_flow = True
        batcher = make(session, cost=CHEAP, place="loop")

        for _ in range(10):
            batcher._planner.note_loop_run(1.0)
        await ended(submit(batcher, rows_of(1)))

        assert threads == [here]

    def test_the_cost_model_is_there_for_others_to_see(self, make):
        assert make(FakeSession(), cost=CHEAP).cost is CHEAP


class TestEnd:
    @pytest.mark.anyio
    async def test_an_idle_queue_is_drained_at_once(self, make):
        assert await ended(make(FakeSession()).drain()) == [None]

    @pytest.mark.anyio
    async def test_a_drain_answers_everybody_and_refuses_newcomers(self, make):
        session = FakeSession()
        batcher = make(session, max_batch_rows=2)
        holder = await hold_with_one_row(session, batcher)
        rows = rows_of(5)
        waiting = submit(batcher, rows)
        await turns_of_the_loop()
        drain = asyncio.create_task(batcher.drain())
        await turns_of_the_loop()
        newcomer = submit(batcher, rows_of(1))
        await turns_of_the_loop()
        was_drained = drain.done()
        session.release()

        _, outputs, refusal, _ = await ended(holder, waiting, newcomer, drain)

        assert not was_drained
        assert_doubled(outputs, rows)
        assert isinstance(refusal, UnavailableError)

    @pytest.mark.anyio
    async def test_a_drain_settles_the_members_of_a_failing_batch(self, make):
        session = FakeSession(fails=is_poisoned)
        batcher = make(session)
        tasks = [submit(batcher, poisoned(4, 1)), submit(batcher, rows_of(4))]
        await turns_of_the_loop()

        await ended(batcher.drain())

        assert all(task.done() for task in tasks) or await ended(*tasks)
        assert isinstance(tasks[0].exception(), InferenceError)
        assert_doubled(tasks[1].result(), rows_of(4))

    @pytest.mark.anyio
    async def test_a_drain_ends_when_the_last_who_waits_leaves(self, make):
        session = FakeSession()
        session.hold()
        batcher = make(session)
        ticket = Ticket()
        leaver = submit(batcher, rows_of(1), ticket)
        await run_has_started(session)
        drain = asyncio.create_task(batcher.drain())
        await turns_of_the_loop()
        leave(ticket)

        error, outcome = await ended(leaver, drain)

        assert isinstance(error, ClientGoneError)
        assert outcome is None

    @pytest.mark.anyio
    async def test_closing_an_idle_queue_closes_its_session(self, make):
        session = FakeSession()

        make(session).close()

        assert session.is_closed

    @pytest.mark.anyio
    async def test_closing_tells_everybody_and_closes_the_session_after_the_run(self, make):
        session = FakeSession()
        batcher = make(session)
        holder = await hold_with_one_row(session, batcher)
        waiting = submit(batcher, rows_of(1))
        await turns_of_the_loop()
        batcher.close()
        closed_during_the_run = session.is_closed

        errors = await ended(holder, waiting, submit(batcher, rows_of(1)))

        assert [type(error) for error in errors] == [UnavailableError] * 3
        assert not closed_during_the_run
        await until(lambda: session.is_closed)
        assert session.stopped == 1
        assert session.sizes == [1]

    @pytest.mark.anyio
    async def test_closing_before_the_first_run_runs_nothing(self, make):
        session = FakeSession()
        batcher = make(session)
        waiting = submit(batcher, rows_of(1), Ticket(timeout_s=LONG_S))
        await asyncio.sleep(0)
        batcher.close()

        (error,) = await ended(waiting)

        assert isinstance(error, UnavailableError)
        assert session.sizes == []

    @pytest.mark.anyio
    async def test_closing_while_a_failing_batch_is_split_lets_a_drain_end(self, make):
        session = FakeSession(fails=is_poisoned)
        batcher = make(session)
        session.hold()
        task = submit(batcher, poisoned(8, 0))
        await run_has_started(session)
        session.release_one()
        await run_has_started(session)
        drain = asyncio.create_task(batcher.drain())
        await turns_of_the_loop()
        batcher.close()

        error, outcome = await ended(task, drain)

        assert isinstance(error, UnavailableError)
        assert outcome is None
        await until(lambda: session.is_closed)

    @pytest.mark.anyio
    async def test_closing_between_a_failed_run_and_the_next_lets_a_drain_end(self, make):
        session = FakeSession()
        batcher = make(session, cost=CHEAP)
        loop = asyncio.get_running_loop()
        session.fails = lambda _: bool(loop.call_soon(batcher.close))
        task = submit(batcher, rows_of(8))
        await asyncio.sleep(0)

        outcome, error = await ended(batcher.drain(), task)

        assert outcome is None
        assert isinstance(error, UnavailableError)
        assert session.sizes == [8]


class Crowd:
    """Random requests with random fates, against one or two queues of one lane."""

    def __init__(self, seed, make_lane):
        self.random = np.random.default_rng(seed)
        self.lane = make_lane(int(self.random.integers(1, 4)))
        self.metrics = Metrics(CollectorRegistry())
        self.batchers = [self._batcher(name) for name in "ab"[: self.random.integers(1, 3)]]
        self.told = []

    def _batcher(self, model):
        chance = self.random.random
        max_batch_rows = int(self.random.integers(1, 12))
        return Batcher(
            FakeSession(nan_where_poisoned, fails=has_nine_in_second),
            self.lane,
            cost=self.random.choice(np.array([CHEAP, DEAR, SHORT_PLANS])),
            metrics=self.metrics.operation(model, "1", "encode"),
            max_batch_rows=max_batch_rows,
            max_queue_rows=40,
            max_wait_s=float(self.random.choice([0.01, 0.1, np.inf])),
            delay_s=0.001 if chance() < 0.2 else 0.0,
            buckets=(4, max_batch_rows) if max_batch_rows > 4 and chance() < 0.3 else (),
            place=self.random.choice(["auto", "loop", "thread"]),
        )

    async def come(self):
        return await asyncio.gather(*(self.request() for _ in range(self.random.integers(1, 16))))

    async def request(self):
        batcher = self.batchers[self.random.integers(len(self.batchers))]
        size = int(self.random.integers(1, 16))
        rows = self.random.random((size, int(self.random.integers(2, 4))), np.float32)
        fate = self.random.choice(
            ["stay", "stay", "stay", "leave", "cancel", "late", "raise", "nan"]
        )
        bad = int(self.random.integers(size))
        if fate in {"raise", "nan"}:
            rows[bad, 0 if fate == "nan" else 1] = 9
        arrival, departure = self.random.integers(0, 4), self.random.integers(0, 8)
        await turns_of_the_loop(int(arrival))
        ticket = Ticket(timeout_s=0.0005 if fate == "late" else LONG_S)
        if fate != "cancel" and self.random.random() < 0.5:
            task = asyncio.create_task(self.tell(batcher, rows, ticket))
        else:
            task = submit(batcher, rows, ticket)
        if fate in {"leave", "cancel"}:
            await turns_of_the_loop(int(departure))
            if fate == "cancel":
                task.cancel()
            elif ticket.give_up is not None:
                leave(ticket)
        (result,) = await ended(task)
        return fate, rows, bad, result

    async def tell(self, batcher, rows, ticket):
        """Like *run*, by the callback."""
        outcomes: list[object] = []
        batcher.submit(rows, ticket, outcomes.append)
        self.told.append(outcomes)
        await until(lambda: outcomes)
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]
        return outcomes[0]

    async def drain(self):
        await ended(*(batcher.drain() for batcher in self.batchers))
        await until(lambda: not any(batcher._running for batcher in self.batchers))
        await turns_of_the_loop()


# 1 ms a row: plans of two rows while others wait
SHORT_PLANS = CostModel((1, 64), (1e-3, 64e-3))


MAY_END_IN = {
    "stay": (OverloadedError,),
    "leave": (OverloadedError, ClientGoneError),
    "cancel": (OverloadedError, asyncio.CancelledError),
    "late": (OverloadedError, DeadlineExceededError),
    "raise": (OverloadedError, InferenceError),
    "nan": (OverloadedError, InferenceError),
}


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_request_ends_once_and_with_its_own_rows(seed):
    escaped = []
    lanes = []

    def make_lane(threads):
        lanes.append(Lane("property", threads=threads))
        return lanes[0]

    async def scene():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        try:
            crowd = Crowd(seed, make_lane)
            fates = await crowd.come()
            await crowd.drain()
            return crowd, fates
        finally:
            for lane in lanes:
                lane.close()

    crowd, fates = asyncio.run(scene())

    for fate, rows, bad, result in fates:
        if isinstance(result, tuple):
            assert fate not in {"raise", "nan"}
            assert_doubled(result, rows)
        else:
            assert isinstance(result, MAY_END_IN[fate])
            assert not isinstance(result, InferenceError) or result.row == bad
    assert [len(outcomes) for outcomes in crowd.told] == [1] * len(crowd.told)
    assert [batcher.waiting_rows for batcher in crowd.batchers] == [0] * len(crowd.batchers)
    assert not any(batcher._jobs for batcher in crowd.batchers)
    assert (crowd.lane.busy, crowd.lane.queues) == (0, 0)
    assert escaped == []


@pytest.mark.anyio
async def test_a_client_that_left_between_two_runs_is_not_admitted_to_the_second(make):
    ticket = Ticket()
    ticket.leave()

    with pytest.raises(ClientGoneError):
        await make(FakeSession()).run(rows_of(1), ticket)
