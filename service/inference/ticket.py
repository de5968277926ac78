"""The small record that travels with a request and collects its times.

Headers, histograms and the log line are all made from it. Times are those of
``time.perf_counter``, in seconds.
"""

from collections.abc import Callable
from time import perf_counter


class Ticket:
    """Deadline and times of one request; the way for its client to leave.

    Attributes:
        started: When the request came in.
        deadline: When its answer is of no use any more.
        rows: Rows it carries, known once the body is parsed.
        parse_s: Body read and parsed into rows.
        queue_s: From the queue's door to the start of the first run that holds its rows.
        infer_s: From there to the last row's result.
        render_s: Results made into the bytes of an answer.
    """

    __slots__ = (
        "deadline",
        "infer_s",
        "leave",
        "parse_s",
        "queue_s",
        "render_s",
        "rows",
        "started",
    )

    def __init__(self, *, timeout_s: float = float("inf"), started: float | None = None) -> None:
        self.started = perf_counter() if started is None else started
        self.deadline = self.started + timeout_s
        self.rows = 0
        self.parse_s = 0.0
        self.queue_s = 0.0
        self.infer_s = 0.0
        self.render_s = 0.0
        self.leave: Callable[[], None] | None = None
        """Set while rows are queued or run: gives them up because nobody waits any more."""
