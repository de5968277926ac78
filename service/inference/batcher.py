"""The queue in front of one session: admit, collect, run, give back.

A batch forms while the device is busy; nothing waits for company when it is free. Everything
here happens in the event loop; only costly runs go to a thread of the device.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter, thread_time
from typing import Final

import numpy as np

from service.errors import (
    AllocationError,
    ClientGoneError,
    DeadlineExceededError,
    DeviceLostError,
    HourglassError,
    InferenceError,
    InvalidRowsError,
    OverloadedError,
    UnavailableError,
)
from service.inference.batching import allot, bucket, first_non_finite, join, pad
from service.inference.cost import CostModel
from service.inference.jobs import Batch, Done, Job, Outputs, Part, Run, first_bad, halves
from service.inference.lane import Lane
from service.inference.planner import Place, Planner
from service.inference.session import RunStoppedError, Session, Stop
from service.inference.ticket import Ticket
from service.metrics import OperationMetrics
from service.specs import Rows

logger = logging.getLogger(__name__)

_NO_ROWS: Final = np.empty(0)

# the oldest job has one row in so many that are run
_OLDEST_HAS_ONE_IN: Final = 4

# jobs that are looked at for one run, where large ones stand before the small
_FRONT_MAX: Final = 256


class Batcher:
    """Runs one session for many requests.

    Args:
        session: The graph; called from the loop or from the threads of *lane*.
        lane: The device's threads, shared with the other sessions on it.
        cost: What a run costs by its rows.
        metrics: Series of the operation that this queue serves.
        max_batch_rows: Rows in a run at most.
        max_queue_rows: Rows that may wait; a request that would exceed it is refused.
        max_wait_s: Seconds of work that may wait; whoever finds more is refused.
        delay_s: How long a batch that is not full waits for company; 0 is right on a CPU.
        buckets: Ascending batch sizes to pad to, where the device likes fixed shapes.
        place: Where runs happen: each in the loop, each in a thread, or where it is cheaper.
        on_device_lost: Called by every run that finds that the device can no longer answer.
    """

    def __init__(
        self,
        session: Session,
        lane: Lane,
        *,
        cost: CostModel,
        metrics: OperationMetrics,
        max_batch_rows: int,
        max_queue_rows: int,
        max_wait_s: float = float("inf"),
        delay_s: float = 0.0,
        buckets: Sequence[int] = (),
        place: Place = "auto",
        on_device_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._session = session
        self._lane = lane
        if place == "auto" and session.has_control_flow:  # its time may depend on the values
            place = "thread"
        self._planner = Planner(cost, max_batch_rows=max_batch_rows, place=place)
        self._metrics = metrics
        self._max_queue_rows = max_queue_rows
        self._max_wait_s = max_wait_s
        self._delay_s = delay_s
        self._buckets = buckets
        self._on_device_lost = on_device_lost
        self._jobs: set[Job] = set()
        self._queue: deque[Job] = deque()
        self._again: deque[Batch] = deque()
        self._running: set[Run] = set()
        self._delay_handle: asyncio.TimerHandle | None = None
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._sweep_at = float("inf")
        self._large_are_due = False
        self._rows_since_oldest = 0
        self._last_shape: tuple[int, ...] = ()
        self._draining = False
        self._closed = False
        self._idle = asyncio.Event()
        self.waiting_rows = 0
        self.spent_s = 0.0
        metrics.queue_rows.set_function(lambda: self.waiting_rows)
        metrics.queue_limit_rows.set(max_queue_rows)

    @property
    def cost(self) -> CostModel:
        return self._planner.cost

    @property
    def max_batch_rows(self) -> int:
        return self._planner.max_batch_rows

    def check_room(self, rows: int = 1) -> None:
        """See that *rows* more may wait.

        Raises:
            OverloadedError: They may not; says when there will be room.
        """
        waiting = self.waiting_rows
        if waiting + rows > self._max_queue_rows:
            room_for = self._max_queue_rows - rows
            raise OverloadedError(
                f"the queue holds {waiting} of at most {self._max_queue_rows} rows",
                retry_after_s=self._wait_s(waiting - max(0, room_for)),
            )
        if waiting and self._wait_s(waiting) > self._max_wait_s:
            raise OverloadedError(
                f"the queue holds {waiting} rows, more than can be run in {self._max_wait_s:g} s",
                retry_after_s=self._wait_s(waiting) - self._max_wait_s,
            )

    async def run(self, rows: Rows, ticket: Ticket) -> Outputs:
        """Queue *rows* and wait for their outputs, in the order of the rows.

        Raises:
            OverloadedError: The queue has no room for them.
            DeadlineExceededError: The ticket's time is up.
            ClientGoneError: The ticket's client has left.
            AllocationError: There is no memory even for one of them.
            InferenceError: The model fails on them.
            UnavailableError: The model is being unloaded.
        """
        future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        job = self.submit(rows, ticket, partial(_resolve, future))
        try:
            return await future
        finally:
            self._settle(job)  # it may have been cancelled

    def submit(self, rows: Rows, ticket: Ticket, done: Done) -> Job:
        """Queue *rows* and tell *done* how it ended; the errors of *run*, raised or told."""
        if self._draining:
            raise UnavailableError("the model is being unloaded")
        count = len(rows)
        if not count:
            raise InvalidRowsError("there are no rows", expected="at least one row")
        if ticket.has_left:
            raise ClientGoneError("the client has left")
        now = perf_counter()
        if ticket.deadline <= now:
            raise DeadlineExceededError("the deadline passed before the request was queued")
        self.check_room(count)
        job = Job(rows, ticket, done, self._fail, now)
        ticket.give_up = job.leave
        self._jobs.add(job)
        self._queue.append(job)
        self.waiting_rows += count
        if ticket.deadline < self._sweep_at:
            self._sweep_by(ticket.deadline)
        if self._delay_handle is None:
            self._lane.line_up(self)
        elif self.waiting_rows >= self._planner.max_batch_rows:
            self._end_delay()
        return job

    async def drain(self) -> None:
        """Refuse newcomers and wait until everybody who is in has an answer."""
        self._draining = True
        if self._jobs:
            self._end_delay()
            self._idle.clear()
            await self._idle.wait()

    def close(self) -> None:
        """Let go of the session; whoever still waits is told that the model is gone."""
        self._draining = self._closed = True
        self._again.clear()
        for job in list(self._jobs):
            self._fail(job, UnavailableError("the model is being unloaded"))
        for handle in (self._delay_handle, self._sweep_handle):
            if handle is not None:
                handle.cancel()
        self._close_session()

    def start(self) -> bool:
        """Start one run of what waits, and tell whether there is more; for the lane."""
        if self._again:
            batch = self._still_waiting(self._again.popleft())
        elif self._is_delayed():
            return False
        else:
            batch = self._collect()
            self._count(batch)
        if batch:
            self._start(batch)
        return bool(self._again or self.waiting_rows)

    def _wait_s(self, rows: int) -> float:
        """Seconds until *rows* more rows have been run, the lane's turns for others included."""
        return self._planner.work_s(rows) * max(1, self._lane.queues) / self._lane.threads

    def _end_delay(self) -> None:
        if self._delay_handle is not None:
            self._delay_handle.cancel()
            self._delay_handle = None
        self._lane.line_up(self)

    def _is_delayed(self) -> bool:
        """Whether a batch that is not full still waits for company; sets the alarm if so."""
        if not self._delay_s or self._draining or self.waiting_rows >= self._planner.max_batch_rows:
            return False
        oldest = next((job.enqueued for job in self._queue if job.waiting), 0.0)
        left_s = oldest + self._delay_s - perf_counter()
        if left_s <= 0:
            return False
        self._delay_handle = asyncio.get_running_loop().call_later(left_s, self._end_delay)
        return True

    def _count(self, batch: Batch) -> None:
        rows = sum(part.rows for part in batch)
        if not rows:
            return
        reason = "delay" if self._delay_s else "idle"
        if rows >= self._planner.shared_rows:
            reason = "full"
        elif self._draining:
            reason = "drain"
        self._metrics.batches.take((reason, rows))

    def _collect(self) -> Batch:
        """Take the next rows out of the queue, all of one shape."""
        others_wait = len(self._queue) > 1 or self._lane.queues > 1
        capacity = self._planner.rows(others_wait=others_wait)
        now = perf_counter()
        front = self._take_front(capacity, now)
        jobs = self._of_one_shape(front)
        if self.waiting_rows > capacity and self._small_go_first(jobs, capacity):
            jobs = [job for job in jobs if job.waiting <= capacity]
        shares = allot([job.waiting for job in jobs], capacity, self._kept_for_oldest(capacity))
        batch = [
            self._take(job, share, now) for job, share in zip(jobs, shares, strict=True) if share
        ]
        self._queue.extendleft(reversed([job for job in front if job.waiting]))
        return batch

    def _take_front(self, capacity: int, now: float) -> list[Job]:
        """Take the jobs at the head out of the queue: enough small ones to fill a run."""
        front: list[Job] = []
        small_rows = 0
        # only where there is not room for all: who cannot gain any more makes way
        is_crowded = self.waiting_rows > capacity
        ends = now + self._planner.run_s(capacity) if is_crowded else now
        while self._queue and small_rows < capacity and len(front) < _FRONT_MAX:
            job = self._queue.popleft()
            waiting = job.waiting
            if not waiting:
                continue
            if job.ticket.deadline <= now:
                self._fail(job, DeadlineExceededError("the deadline passed in the queue"))
            elif self._queue and job.ticket.deadline < ends:
                self._set_aside(job)
            else:
                front.append(job)
                if waiting <= capacity:
                    small_rows += waiting
        return front

    def _of_one_shape(self, jobs: list[Job]) -> list[Job]:
        """Choose those of the first shape that was not the last one run, if there are two."""
        shapes = [job.rows.shape[1:] for job in jobs]
        if not shapes or shapes.count(shapes[0]) == len(shapes):
            return jobs
        last = self._last_shape
        self._last_shape = next((shape for shape in shapes if shape != last), shapes[0])
        return [j for j, shape in zip(jobs, shapes, strict=True) if shape == self._last_shape]

    def _kept_for_oldest(self, capacity: int) -> int:
        """Rows of a run that are the oldest's: a quarter, over several runs where one is short."""
        due, self._rows_since_oldest = divmod(
            self._rows_since_oldest + capacity, _OLDEST_HAS_ONE_IN
        )
        return due

    def _small_go_first(self, jobs: list[Job], capacity: int) -> bool:
        """Whether this run is to be without the jobs that are larger than a run.

        Every second time, and only where it spares the others half of their run or more.
        """
        small = sum(job.waiting for job in jobs if job.waiting <= capacity)
        self._large_are_due = (
            not self._large_are_due
            and 0 < small < sum(job.waiting for job in jobs)
            and 2 * self._planner.run_s(small) <= self._planner.run_s(capacity)
        )
        return self._large_are_due

    def _set_aside(self, job: Job) -> None:
        """Let a job wait for its deadline: its run would end later, and others wait who gain."""
        self.waiting_rows -= job.waiting
        job.waiting = 0

    def _take(self, job: Job, rows: int, now: float) -> Part:
        start = len(job.rows) - job.waiting
        job.waiting -= rows
        self.waiting_rows -= rows
        if not job.started:
            job.started = now
            job.ticket.queue_s += now - job.enqueued
        return Part(job, start, start + rows)

    def _start(self, batch: Batch) -> None:
        """Run *batch*: in the loop when that is cheap, else in a thread of the lane."""
        try:
            rows = join([part.job.rows[part.start : part.stop] for part in batch])
            rows = pad(rows, bucket(len(rows), self._buckets))
        except MemoryError as error:
            self._finish(batch, 0, error)
            return
        count = len(rows)
        expected_s = self._planner.cost.run_s(count, rows.size // count)
        self.spent_s += expected_s
        if self._planner.is_for_loop(expected_s):
            self._run_in_loop(batch, rows)
        else:
            run = Run(batch, count, expected_s)
            self._running.add(run)
            self._lane.run(
                partial(_timed, self._session, rows, run.stop), partial(self._run_ended, run)
            )

    def _run_in_loop(self, batch: Batch, rows: Rows) -> None:
        started = thread_time()  # of this thread alone: others may have had the core meanwhile
        try:
            outcome: Outputs | BaseException = self._session.run(rows)
        except Exception as error:  # noqa: BLE001 - told to whose rows they were
            outcome = error
        seconds = thread_time() - started
        self._planner.note_loop_run(seconds)
        if not isinstance(outcome, BaseException):
            self._metrics.runs.take((len(rows), seconds))
        self._finish(batch, len(rows), outcome)

    def _run_ended(self, run: Run, outcome: "tuple[Outputs, float] | BaseException") -> None:
        self._running.discard(run)
        if isinstance(outcome, BaseException):
            self._finish(run.batch, run.rows, outcome)
        else:
            outputs, seconds = outcome
            self.spent_s += seconds - run.expected_s  # what it cost instead of what was thought
            self._planner.note_thread_run(run.expected_s, seconds)
            self._metrics.runs.take((run.rows, seconds))
            self._finish(run.batch, run.rows, outputs)
        if self._again or self.waiting_rows:
            self._lane.line_up(self)
        if self._closed:
            self._close_session()

    def _close_session(self) -> None:
        """Close it, unless a thread is in it: then the end of its run does."""
        if not self._running:
            self._session.close()

    def _finish(self, batch: Batch, rows: int, outcome: Outputs | BaseException) -> None:
        """See that every job of *batch* hears of its run, however it ended."""
        if not isinstance(outcome, BaseException):
            try:
                self._give_back(batch, rows, outcome)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
                outcome = error
            else:
                return
        if isinstance(outcome, RunStoppedError):
            logger.info("a run was stopped: all of its %d requests had left", len(batch))
        elif isinstance(outcome, UnavailableError):
            for part in batch:
                self._fail(part.job, outcome)
        elif isinstance(outcome, InferenceError):
            self._failed(batch, outcome)
        else:
            logger.error("a run ended in a way that was not foreseen", exc_info=outcome)
            failure = InferenceError("the model failed on these rows")
            failure.__cause__ = outcome
            self._failed(batch, failure)

    def _give_back(self, batch: Batch, rows: int, outputs: Outputs) -> None:
        """Hand the outputs of a run of *rows*, some of them perhaps padding, to their jobs."""
        now = perf_counter()
        if any(len(output) != rows for output in outputs):
            # a row is missing or too many, and nobody knows whose
            raise InferenceError("the model does not give one row for each row")
        is_finite = all(first_non_finite(output) is None for output in outputs)
        is_one = len(outputs) == 1
        at = 0
        for part in batch:
            end = at + part.stop - part.start
            results = (outputs[0][at:end],) if is_one else tuple([out[at:end] for out in outputs])
            at = end
            if is_finite or (bad := first_bad(results)) is None:
                self._accept(part, results, now)
            else:
                error = InferenceError("the model gave a non-finite value", row=part.start + bad)
                self._fail(part.job, error)

    def _accept(self, part: Part, results: Outputs, now: float) -> None:
        job = part.job
        if job not in self._jobs:
            return
        job.missing -= part.stop - part.start
        if job.missing:
            job.results.append((part.start, results))
            return
        job.ticket.infer_s += now - job.started
        if job.results:
            job.results.append((part.start, results))
            job.results.sort(key=lambda result: result[0])
            by_output = zip(*(result for _, result in job.results), strict=True)
            results = tuple(join(pieces) for pieces in by_output)
        self._settle(job)
        job.done(results)

    def _failed(self, batch: Batch, error: InferenceError) -> None:
        """Find the rows that a failed run is due to: halve it until they stand alone.

        The cut goes through the middle row, even within a request: one culprit among n rows
        then costs at most 2 log2(n) + 2 further runs, however the rows are shared out. Only its
        request fails; the others get their rows joined again.
        """
        if isinstance(error, DeviceLostError):
            for part in batch:
                self._fail(part.job, error)
            self._on_device_lost()
            return
        rows = sum(part.rows for part in batch)
        if isinstance(error, AllocationError):
            fewer = self._planner.shrink(rows)
            logger.warning(
                "no memory for a run of %d rows; for a while there will be at most %d",
                *(rows, fewer),
                exc_info=error,
            )
        batch = self._still_waiting(batch)
        if sum(part.rows for part in batch) > 1:
            self._again.extendleft(reversed(halves(batch)))
            self._lane.line_up(self)
        elif batch and isinstance(error, AllocationError):
            self._fail(batch[0].job, error)
        elif batch:
            logger.error("the model failed on a row", exc_info=error)
            self._fail(batch[0].job, InferenceError(str(error), row=batch[0].start))

    def _still_waiting(self, batch: Batch) -> Batch:
        return [part for part in batch if part.job in self._jobs]

    def _fail(self, job: Job, error: HourglassError) -> None:
        if job in self._jobs:
            self._settle(job)
            job.done(error)

    def _settle(self, job: Job) -> None:
        """Take a job that has ended, however, off every list; stop a run that nobody wants."""
        if job not in self._jobs:
            return
        self._jobs.discard(job)
        job.ticket.give_up = None
        if job.missing:
            self.waiting_rows -= job.waiting
            job.waiting = 0
            for run in self._running:
                if not self._still_waiting(run.batch):
                    run.stop()
        job.results = []
        job.rows = _NO_ROWS  # its place in the queue may outlive it, and must not cost memory
        if not self._jobs:
            self._idle.set()

    def _sweep_by(self, deadline: float) -> None:
        """See that somebody looks for expired jobs at *deadline*: one timer for the whole queue."""
        if deadline >= self._sweep_at:
            return
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
        self._sweep_at = deadline
        delay_s = max(0.0, deadline - perf_counter())
        self._sweep_handle = asyncio.get_running_loop().call_later(delay_s, self._sweep)

    def _sweep(self) -> None:
        self._sweep_handle, self._sweep_at = None, float("inf")
        now = perf_counter()
        for job in list(self._jobs):
            if job.ticket.deadline <= now:
                where = "during the run" if job.started else "in the queue"
                self._fail(job, DeadlineExceededError(f"the deadline passed {where}"))
        if self._jobs:
            self._sweep_by(min(job.ticket.deadline for job in self._jobs))


def _resolve(future: "asyncio.Future[Outputs]", outcome: Outputs | HourglassError) -> None:
    if future.done():  # nobody waits any more
        return
    if isinstance(outcome, HourglassError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _timed(session: Session, rows: Rows, stop: Stop) -> tuple[Outputs, float]:
    """Run, and tell how long it took."""
    started = perf_counter()
    outputs = session.run(rows, stop)
    return outputs, perf_counter() - started
