"""The small record that travels with a request: its deadline, its times, and whether it left.

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
        has_left: Nobody waits for the answer any more.
        give_up: Set while rows are queued or run: takes them out again.
    """

    # defaults of the class, not of each request: most are never or only once written
    rows = 0
    parse_s = 0.0
    queue_s = 0.0
    infer_s = 0.0
    render_s = 0.0
    has_left = False
    give_up: Callable[[], None] | None = None

    def __init__(self, *, timeout_s: float = float("inf")) -> None:
        self.started = perf_counter()
        self.deadline = self.started + timeout_s

    def leave(self) -> None:
        """Give the request up, wherever its rows are just now."""
        self.has_left = True
        if self.give_up is not None:
            self.give_up()
