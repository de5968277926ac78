"""What waits in a queue and what goes into a run: jobs, and parts of them."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from service.errors import ClientGoneError, HourglassError
from service.inference.batching import first_non_finite
from service.inference.session import Stop
from service.inference.ticket import Ticket
from service.specs import Rows

Outputs: TypeAlias = tuple[Rows, ...]

Done: TypeAlias = Callable[[Outputs | HourglassError], None]
"""Told once, in the loop, how a job ended; raises nothing."""


class Job:
    """One request's rows in the queue.

    Attributes:
        waiting: Rows that no run has taken yet.
        missing: Rows without a result.
        started: When a run first took some of them; 0 before.
    """

    __slots__ = (
        *("_fail", "done", "enqueued", "missing", "results", "rows", "started"),
        *("ticket", "waiting"),
    )

    def __init__(
        self,
        rows: Rows,
        ticket: Ticket,
        done: Done,
        fail: Callable[["Job", HourglassError], None],
        now: float,
    ) -> None:
        self.rows = rows
        self.ticket = ticket
        self.done = done
        self.enqueued = now
        self.started = 0.0
        self.waiting = self.missing = len(rows)
        self.results: list[tuple[int, Outputs]] = []
        self._fail = fail

    def leave(self) -> None:
        """Take it out of the queue: its client has left."""
        self._fail(self, ClientGoneError("the client has left"))


class Part(NamedTuple):
    """The rows from *start* to *stop* of one job, in one run."""

    job: Job
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


Batch: TypeAlias = list[Part]


class Run:
    """A batch on its way through a thread."""

    __slots__ = ("batch", "expected_s", "rows", "stop")

    def __init__(self, batch: Batch, rows: int, expected_s: float) -> None:
        self.batch = batch
        self.rows = rows
        self.expected_s = expected_s
        self.stop = Stop()


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Cut a batch of two or more rows at its middle row."""
    room = sum(part.rows for part in batch) // 2
    first: Batch = []
    second: Batch = []
    for job, start, stop in batch:
        cut = min(start + room, stop)
        room -= cut - start
        if start < cut:
            first.append(Part(job, start, cut))
        if cut < stop:
            second.append(Part(job, cut, stop))
    return first, second


def first_bad(results: Outputs) -> int | None:
    """Index of the first row for which some output is not finite, if there is one."""
    bad = [row for result in results if (row := first_non_finite(result)) is not None]
    return min(bad, default=None)
