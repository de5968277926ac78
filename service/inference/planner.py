"""How many rows a run takes, where it happens, and how long the work that waits will take.

It starts from what runs cost at load, and follows what they cost just now.
"""

from time import perf_counter
from typing import Final, Literal, TypeAlias

from service.inference.cost import HAND_OVER_S, CostModel

Place: TypeAlias = Literal["auto", "loop", "thread"]

# a run that is shorter than two hand-overs to a thread is better done in the loop
IN_LOOP_MAX_S: Final = 2 * HAND_OVER_S
# a run that takes longer than this does not belong in the loop, whatever was measured at load
IN_LOOP_LIMIT_S: Final = 1e-3
# one alone may be the machine's doing (seen once in some thousand runs of a model of 0.1 ms)
IN_LOOP_SLOW_RUNS: Final = 3

# how long batches stay small after one for which there was no memory
SHRUNK_FOR_S: Final = 60.0

# how much of the pace so far the latest run replaces
_PACE_WEIGHT: Final = 0.1


class Planner:
    """The plans for one session.

    Args:
        cost: What a run costs by its rows, measured at load.
        max_batch_rows: Rows in a run at most.
        place: Where runs happen: each in the loop, each in a thread, or where it is cheaper.
    """

    def __init__(self, cost: CostModel, *, max_batch_rows: int, place: Place) -> None:
        self.cost = cost
        self.max_batch_rows = max_batch_rows
        self.shared_rows = min(max_batch_rows, cost.shared_rows())
        self._place: Place = place
        self._slow_runs = 0
        self._pace = 1.0
        self._row_s = 1 / cost.rows_per_s
        self._memory_rows: int | None = None
        self._memory_until = 0.0

    def rows(self, *, others_wait: bool) -> int:
        """Rows of the next run at most: fewer while others wait, that their wait is short."""
        rows = self.shared_rows if others_wait else self.max_batch_rows
        if self._memory_rows is None:
            return rows
        if perf_counter() >= self._memory_until:
            self._memory_rows = None
            return rows
        return min(rows, self._memory_rows)

    def run_s(self, rows: int) -> float:
        """Seconds that a run of so many rows takes just now."""
        return self._pace * self.cost.run_s(rows)

    def work_s(self, rows: int) -> float:
        """Seconds that so many rows take in full batches just now."""
        return self._pace * self._row_s * rows

    def is_for_loop(self, expected_s: float) -> bool:
        """Whether a run that was measured to take *expected_s* is to happen in the loop."""
        return self._place == "loop" or (self._place == "auto" and expected_s < IN_LOOP_MAX_S)

    def note_loop_run(self, seconds: float) -> None:
        """Move the graph to the threads for good when it is slow several times in a row."""
        self._slow_runs = self._slow_runs + 1 if seconds > IN_LOOP_LIMIT_S else 0
        if self._slow_runs == IN_LOOP_SLOW_RUNS and self._place == "auto":
            self._place = "thread"

    def note_thread_run(self, expected_s: float, seconds: float) -> None:
        """Follow the pace: threads, loop and other processes may share the cores."""
        self._pace += _PACE_WEIGHT * (seconds / max(expected_s, 1e-9) - self._pace)
        self.shared_rows = min(self.max_batch_rows, self.cost.shared_rows(self._pace))

    def shrink(self, rows: int) -> int:
        """Make smaller batches for a while, since there was no memory for one of *rows*."""
        self._memory_rows = max(1, rows // 2)
        self._memory_until = perf_counter() + SHRUNK_FOR_S
        return self._memory_rows
