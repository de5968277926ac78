"""The queue in front of one session: admit, collect, run, give back.

A batch forms while the device is busy; nothing waits for company when it is free. The first
arrival schedules one flush at the end of the loop's turn, so that all requests that were
readable in this turn share a run. Everything here happens in the event loop; only costly runs
go to the device's thread.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import perf_counter, thread_time
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from service.errors import (
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
from service.inference.session import RunStoppedError, Session, Stop
from service.inference.ticket import Ticket
from service.metrics import OperationMetrics
from service.specs import Rows

logger = logging.getLogger(__name__)

Outputs: TypeAlias = tuple[Rows, ...]

# handing a run to a thread and back costs 150 us, so a shorter run is better done in the loop
IN_LOOP_MAX_S = 0.3e-3
# a run that takes longer than this does not belong in the loop, whatever was measured at load
IN_LOOP_LIMIT_S = 1e-3
# one alone may be the machine's doing (seen once in some thousand runs of a model of 0.1 ms)
IN_LOOP_SLOW_RUNS = 3

_NO_ROWS: Final = np.empty(0)


class Lane:
    """The thread of one device, shared by the sessions on it so that they take turns."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self.busy = 0

    async def run(self, call: Callable[[], Outputs]) -> Outputs:
        self.busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self.busy -= 1

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class _Job:
    """One request's rows in the queue.

    Attributes:
        waiting: Rows that no run has taken yet.
        missing: Rows without a result.
    """

    __slots__ = ("enqueued", "future", "missing", "results", "rows", "started", "ticket", "waiting")

    def __init__(self, rows: Rows, ticket: Ticket, future: "asyncio.Future[Outputs]") -> None:
        self.rows = rows
        self.ticket = ticket
        self.future = future
        self.enqueued = perf_counter()
        self.started: float | None = None
        self.waiting = self.missing = len(rows)
        self.results: list[tuple[int, Outputs]] = []


class _Part(NamedTuple):
    """The rows from *start* to *stop* of one job, in one run."""

    job: _Job
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


_Batch: TypeAlias = list[_Part]


class Batcher:
    """Runs one session for many requests.

    Args:
        session: The graph; called from the loop or from *lane*, one run at a time.
        lane: The device's thread.
        cost: What a run costs by its rows.
        metrics: Series of the operation that this queue serves.
        max_batch_rows: Rows in a run at most.
        max_queue_rows: Rows that may wait; a request that would exceed it is refused.
        delay_s: How long a batch that is not full waits for company; 0 is right on a CPU.
        buckets: Ascending batch sizes to pad to, where the device likes fixed shapes.
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
        delay_s: float = 0.0,
        buckets: Sequence[int] = (),
        on_device_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._session = session
        self._lane = lane
        self._cost = cost
        self._metrics = metrics
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._delay_s = delay_s
        self._buckets = buckets
        self._on_device_lost = on_device_lost
        self._may_run_in_loop = not session.has_control_flow
        self._slow_runs = 0
        self._jobs: set[_Job] = set()
        self._queue: deque[_Job] = deque()
        self._again: deque[_Batch] = deque()
        self._running: tuple[_Batch, Stop] | None = None
        self._run_task: asyncio.Task[None] | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._delay_handle: asyncio.TimerHandle | None = None
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._sweep_at = float("inf")
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.waiting_rows = 0
        metrics.queue_rows.set_function(lambda: self.waiting_rows)
        metrics.queue_limit_rows.set(max_queue_rows)

    @property
    def cost(self) -> CostModel:
        return self._cost

    def check_room(self, rows: int = 1) -> None:
        """See that *rows* more may wait.

        Raises:
            OverloadedError: They may not; says when there will be room.
        """
        if self.waiting_rows + rows > self._max_queue_rows:
            raise OverloadedError(
                f"the queue holds {self.waiting_rows} of at most {self._max_queue_rows} rows",
                retry_after_s=self._wait_s(),
            )

    async def run(self, rows: Rows, ticket: Ticket) -> Outputs:
        """Queue *rows* and wait for their outputs, in the order of the rows.

        Raises:
            OverloadedError: The queue has no room for them.
            DeadlineExceededError: The ticket's time is up.
            ClientGoneError: The ticket's client has left.
            InferenceError: The model fails on them.
            UnavailableError: The model is being unloaded.
        """
        job = self._admit(rows, ticket)
        ticket.give_up = partial(self._fail, job, ClientGoneError("the client has left"))
        try:
            return await job.future
        finally:
            ticket.give_up = None
            self._settle(job)

    async def drain(self) -> None:
        """Refuse newcomers and wait until everybody who is in has an answer."""
        self._draining = True
        if not self._jobs:
            return
        self._end_delay()
        await self._idle.wait()

    def close(self) -> None:
        """Let go of the session; whoever still waits is told that the model is gone."""
        self._draining = True
        self._again.clear()
        for job in list(self._jobs):
            self._fail(job, UnavailableError("the model is being unloaded"))
        for handle in (self._flush_handle, self._delay_handle, self._sweep_handle):
            if handle is not None:
                handle.cancel()
        if self._run_task is None:
            self._session.close()
        else:  # a run cannot be pulled away from under its thread
            self._run_task.add_done_callback(lambda _: self._session.close())

    def _admit(self, rows: Rows, ticket: Ticket) -> _Job:
        if self._draining:
            raise UnavailableError("the model is being unloaded")
        if not len(rows):
            raise InvalidRowsError("there are no rows", expected="at least one row")
        if ticket.has_left:
            raise ClientGoneError("the client has left")
        now = perf_counter()
        if ticket.deadline <= now:
            raise DeadlineExceededError("the deadline passed before the request was queued")
        self.check_room(len(rows))
        job = _Job(rows, ticket, asyncio.get_running_loop().create_future())
        self._jobs.add(job)
        self._queue.append(job)
        self.waiting_rows += len(rows)
        self._idle.clear()
        self._sweep_by(ticket.deadline)
        if self.waiting_rows >= self._max_batch_rows:
            self._end_delay()
        else:
            self._schedule()
        return job

    def _wait_s(self) -> float:
        """Seconds until what waits now has been run."""
        return self.waiting_rows / self._cost.rows_per_s

    def _schedule(self) -> None:
        if self._flush_handle is None and self._delay_handle is None and self._running is None:
            self._flush_handle = asyncio.get_running_loop().call_soon(self._flush)

    def _end_delay(self) -> None:
        if self._delay_handle is not None:
            self._delay_handle.cancel()
            self._delay_handle = None
        self._schedule()

    def _flush(self) -> None:
        self._flush_handle = self._delay_handle = None
        if self._running is not None:
            return
        if self._again:
            self._start(self._still_waiting(self._again.popleft()))
        elif not self._is_delayed():
            batch = self._collect()
            self._count(batch)
            self._start(batch)
        self._idle_or_next()

    def _idle_or_next(self) -> None:
        if self._again or self.waiting_rows:
            self._schedule()
        elif not self._jobs:
            self._idle.set()

    def _is_delayed(self) -> bool:
        """Whether a batch that is not full still waits for company; sets the alarm if so."""
        if not self._delay_s or self._draining or self.waiting_rows >= self._max_batch_rows:
            return False
        oldest = next((job.enqueued for job in self._queue if job.waiting), 0.0)
        left_s = oldest + self._delay_s - perf_counter()
        if left_s <= 0:
            return False
        self._delay_handle = asyncio.get_running_loop().call_later(left_s, self._flush)
        return True

    def _count(self, batch: _Batch) -> None:
        rows = sum(part.rows for part in batch)
        if not rows:
            return
        reason = "delay" if self._delay_s else "idle"
        if rows >= self._max_batch_rows:
            reason = "full"
        elif self._draining:
            reason = "drain"
        self._metrics.batches[reason].inc()
        self._metrics.batch_rows.observe(rows)

    def _collect(self) -> _Batch:
        """Take the next rows out of the queue, all of one shape."""
        jobs, others = self._next_jobs()
        shares = allot([job.waiting for job in jobs], self._max_batch_rows)
        batch = [self._take(job, share) for job, share in zip(jobs, shares, strict=False)]
        # whoever got nothing keeps the place, whoever has more goes behind the others
        others.extend(jobs[len(shares) :])
        self._queue.extendleft(reversed(others))
        self._queue.extend(job for job in jobs[: len(shares)] if job.waiting)
        return batch

    def _next_jobs(self) -> tuple[list[_Job], list[_Job]]:
        """Take the jobs at the head that could share a run, and those of other shapes between."""
        now = perf_counter()
        jobs: list[_Job] = []
        others: list[_Job] = []
        while self._queue and len(jobs) + len(others) < self._max_batch_rows:
            job = self._queue.popleft()
            if job.waiting and job.ticket.deadline <= now:
                self._fail(job, DeadlineExceededError("the deadline passed in the queue"))
            elif job.waiting:
                same = not jobs or job.rows.shape[1:] == jobs[0].rows.shape[1:]
                (jobs if same else others).append(job)
        return jobs, others

    def _take(self, job: _Job, rows: int) -> _Part:
        start = len(job.rows) - job.waiting
        job.waiting -= rows
        self.waiting_rows -= rows
        if job.started is None:
            job.started = perf_counter()
            job.ticket.queue_s += job.started - job.enqueued
        return _Part(job, start, start + rows)

    def _start(self, batch: _Batch) -> None:
        if not batch:
            return
        with self._answering(batch):
            rows = join([part.job.rows[part.start : part.stop] for part in batch])
            padded = pad(rows, bucket(len(rows), self._buckets))
            if self._should_run_in_loop(padded):
                self._run_in_loop(batch, padded)
            else:
                stop = Stop()
                self._running = (batch, stop)
                self._run_task = asyncio.get_running_loop().create_task(
                    self._run_in_lane(batch, padded, stop)
                )

    @contextmanager
    def _answering(self, batch: _Batch) -> Iterator[None]:
        """See that every job of *batch* hears of it, however its run ends."""
        try:
            yield
        except RunStoppedError:
            logger.info("a run was stopped: all of its %d requests had left", len(batch))
        except InferenceError as error:
            self._failed(batch, error)
        except Exception as error:
            logger.exception("a run ended in a way that was not foreseen")
            failure = InferenceError("the model failed on these rows")
            failure.__cause__ = error
            self._failed(batch, failure)

    def _should_run_in_loop(self, rows: Rows) -> bool:
        if not self._may_run_in_loop or self._lane.busy:
            return False
        return self._cost.run_s(len(rows), rows.size // len(rows)) < IN_LOOP_MAX_S

    def _run_in_loop(self, batch: _Batch, rows: Rows) -> None:
        started = thread_time()  # of this thread alone: others may have had the core meanwhile
        try:
            self._give_back(batch, len(rows), self._session.run(rows))
        finally:
            self._note_run_in_loop(thread_time() - started)

    def _note_run_in_loop(self, seconds: float) -> None:
        """Move the graph to the thread for good when it is slow several times in a row."""
        self._slow_runs = self._slow_runs + 1 if seconds > IN_LOOP_LIMIT_S else 0
        if self._slow_runs == IN_LOOP_SLOW_RUNS:
            self._may_run_in_loop = False

    async def _run_in_lane(self, batch: _Batch, rows: Rows, stop: Stop) -> None:
        try:
            with self._answering(batch):
                outputs = await self._lane.run(partial(self._session.run, rows, stop))
                self._give_back(batch, len(rows), outputs)
        except asyncio.CancelledError:  # the lane was closed before the run began
            for part in batch:
                self._fail(part.job, UnavailableError("the model is being unloaded"))
            raise
        finally:
            self._running = self._run_task = None
            self._idle_or_next()

    def _give_back(self, batch: _Batch, rows: int, outputs: Outputs) -> None:
        """Hand the outputs of a run of *rows*, some of them perhaps padding, to their jobs."""
        now = perf_counter()
        if any(len(output) != rows for output in outputs):
            # a row is missing or too many, and nobody knows whose
            raise InferenceError("the model does not give one row for each row")
        is_finite = all(first_non_finite(output) is None for output in outputs)
        at = 0
        for part in batch:
            results = tuple(output[at : at + part.rows] for output in outputs)
            at += part.rows
            if not is_finite and (bad := _first_bad(results)) is not None:
                error = InferenceError("the model gave a non-finite value", row=part.start + bad)
                self._fail(part.job, error)
            else:
                self._accept(part, results, now)

    def _accept(self, part: _Part, results: Outputs, now: float) -> None:
        job = part.job
        if job.future.done():
            return
        job.results.append((part.start, results))
        job.missing -= part.rows
        if job.missing:
            return
        job.ticket.infer_s += now - (job.started or now)
        if len(job.results) == 1:
            job.future.set_result(results)
        else:
            job.results.sort(key=lambda result: result[0])
            by_output = zip(*(result for _, result in job.results), strict=True)
            job.future.set_result(tuple(join(pieces) for pieces in by_output))
        self._settle(job)

    def _failed(self, batch: _Batch, error: InferenceError) -> None:
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
        batch = self._still_waiting(batch)
        if sum(part.rows for part in batch) > 1:
            first, second = _halves(batch)
            self._again.extendleft([second, first])
        elif batch:
            logger.error("the model failed on a row", exc_info=error)
            self._fail(batch[0].job, InferenceError(str(error), row=batch[0].start))

    def _still_waiting(self, batch: _Batch) -> _Batch:
        return [part for part in batch if part.job in self._jobs]

    def _fail(self, job: _Job, error: HourglassError) -> None:
        if not job.future.done():
            job.future.set_exception(error)
        self._settle(job)

    def _settle(self, job: _Job) -> None:
        """Take a job that has ended, however, off every list; stop its run if it was the last."""
        if job not in self._jobs:
            return
        self._jobs.discard(job)
        self.waiting_rows -= job.waiting
        job.waiting = 0
        job.results = []
        job.rows = _NO_ROWS  # its place in the queue may outlive it, and must not cost memory
        if self._running is not None:
            batch, stop = self._running
            if job.missing and not self._still_waiting(batch):
                stop()
        self._idle_or_next()

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
                where = "in the queue" if job.started is None else "during the run"
                self._fail(job, DeadlineExceededError(f"the deadline passed {where}"))
        if self._jobs:
            self._sweep_by(min(job.ticket.deadline for job in self._jobs))


def _halves(batch: _Batch) -> tuple[_Batch, _Batch]:
    """Cut a batch of two or more rows at its middle row."""
    room = sum(part.rows for part in batch) // 2
    first: _Batch = []
    second: _Batch = []
    for job, start, stop in batch:
        cut = min(start + room, stop)
        room -= cut - start
        if start < cut:
            first.append(_Part(job, start, cut))
        if cut < stop:
            second.append(_Part(job, cut, stop))
    return first, second


def _first_bad(results: Outputs) -> int | None:
    bad = [row for result in results if (row := first_non_finite(result)) is not None]
    return min(bad, default=None)
