"""What a run costs by the number of its rows: measured at load, not assumed.

A dense model gains six to seven times from batching, a small convolutional one 1.2 times; the
useful batch and the place to run it are properties of model and machine.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Final, NamedTuple

import numpy as np

REPEATS: Final = 3
# a run that was repeated for so long is repeated no more: all models wait for it at load
ENOUGH_S: Final = 0.5e-3
# a run this long is not repeated, and after it larger batches are taken to cost in proportion
LAST_RUN_S: Final = 0.1

# a batch is saturated when so many doublings together win less than this factor of speed
SATURATED_AFTER: Final = 2
WINS_NOTHING: Final = 1.05

# giving a run to a thread and its answers back to the loop, measured; a run in the loop is
# spared it, so one that is shorter than two of them belongs there
HAND_OVER_S: Final = 0.15e-3

# a batch is large enough when it gives this share of what the largest would
USEFUL_SHARE: Final = 0.9
# no run is planned longer while others wait
SHARED_RUN_S: Final = 2e-3
# unless the model needs a longer one for this share: below it, what one waits less all pay for
SHARED_SHARE: Final = 0.5
# stands for a batch without limit
ENDLESS_ROWS: Final = 1 << 20


class Fit(NamedTuple):
    """A straight line through the measured times: seconds of a run = base_s + row_s * rows."""

    base_s: float
    row_s: float


@dataclass(frozen=True)
class CostModel:
    """Seconds of a run by its rows: measured points, straight lines between them.

    Attributes:
        rows: Batch sizes in ascending order.
        seconds: The time that a run of each took.
        row_elements: Elements of a row that was measured; 0 where rows have one size.
    """

    rows: tuple[int, ...]
    seconds: tuple[float, ...]
    row_elements: int = 0

    def run_s(self, rows: int, row_elements: int = 0) -> float:
        """Expected seconds of one run, in proportion beyond the largest measured batch and row."""
        larger = max(1.0, row_elements / self.row_elements) if self.row_elements else 1.0
        largest = self.rows[-1]
        if rows > largest:
            return larger * self.seconds[-1] * rows / largest
        if rows < len(self._small):
            return larger * self._small[rows]
        return larger * float(np.interp(rows, self.rows, self.seconds))

    @property
    def rows_per_s(self) -> float:
        """What batches of the largest size that was measured give."""
        return self.rows[-1] / self.seconds[-1]

    @cached_property
    def fit(self) -> Fit:
        """The line with the smallest squares of relative errors; neither part is negative."""
        rows, seconds = np.array(self.rows, float), np.array(self.seconds)
        weighted = np.stack([1 / seconds, rows / seconds], axis=1)
        base_s, row_s = np.linalg.lstsq(weighted, np.ones(len(rows)), rcond=None)[0]
        if row_s <= 0:
            return Fit(float(seconds.mean()), 0.0)
        if base_s <= 0:
            return Fit(0.0, float((seconds / rows).mean()))
        return Fit(float(base_s), float(row_s))

    def rows_for(self, share: float) -> int:
        """Give the smallest batch that reaches *share* of the speed of endless ones, by the fit.

        The hand-over to a thread is counted in. Where a run costs the same whatever its rows,
        no batch is large enough.
        """
        base_s, row_s = self.fit
        if not row_s:
            return ENDLESS_ROWS
        # rows / (base + row * rows) >= share / row, solved for rows
        needed = share / (1 - share) * (base_s + HAND_OVER_S) / row_s
        return max(1, min(ENDLESS_ROWS, math.ceil(needed)))

    @cached_property
    def useful_rows(self) -> int:
        """Rows beyond which a larger batch wins next to nothing."""
        return self.rows_for(USEFUL_SHARE)

    def shared_rows(self, pace: float = 1.0) -> int:
        """Rows of a run while others wait: what 2 ms hold, unless a model is too slow for that.

        Args:
            pace: How many times longer runs take just now than they were measured.
        """
        base_s, row_s = self.fit
        left_s = SHARED_RUN_S / pace - base_s
        within = int(min(ENDLESS_ROWS, left_s / row_s)) if row_s and left_s > 0 else 1
        return max(within, self.rows_for(SHARED_SHARE))

    @cached_property
    def _small(self) -> list[float]:
        """The times of the usual sizes, looked up instead of interpolated for every run."""
        sizes = range(min(self.rows[-1], 256) + 1)
        return [float(s) for s in np.interp(sizes, self.rows, self.seconds)]


def measure_cost(
    run: Callable[[int], object],
    sizes: Sequence[int],
    *,
    row_elements: int = 0,
    thorough: bool = False,
    clock: Callable[[], float] = perf_counter,
) -> CostModel:
    """Time *run* at each batch size.

    The shortest of four, the first of which warms up: a disturbance only ever makes a run longer.
    Of long runs two are enough, and one of a very long one; after two sizes none is made once one
    is very long, so that a slow model too is up in seconds. Nor are larger batches tried once two
    doublings have won nothing, or a useful batch has been tried.

    Args:
        run: Makes a run of so many rows.
        sizes: Batch sizes in ascending order.
        row_elements: Elements of a row, where rows of other sizes may come.
        thorough: Make a run of every size, however long, where each must be warmed up.
        clock: Gives seconds. While other models load, that of the thread alone is not disturbed;
            it is good for runs that use no other thread and no device.
    """
    seconds: list[float] = []
    for size in sizes:
        seconds.append(_shortest(run, size, clock))
        if not thorough and _is_enough(CostModel(tuple(sizes[: len(seconds)]), tuple(seconds))):
            break
    return CostModel(tuple(sizes[: len(seconds)]), tuple(seconds), row_elements)


def _shortest(run: Callable[[int], object], size: int, clock: Callable[[], float]) -> float:
    """Give the shortest of some runs of one size: four, or fewer where they take long."""
    first = _timed(run, size, clock)
    if first > LAST_RUN_S:
        return first
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < ENOUGH_S:
        times.append(_timed(run, size, clock))
    return min(first, *times)


def _is_enough(cost: CostModel) -> bool:
    """Whether measuring still larger batches would teach nothing, or take too long."""
    rows, seconds = cost.rows, cost.seconds
    if len(rows) > 1 and seconds[-1] > LAST_RUN_S:
        return True
    if len(rows) <= SATURATED_AFTER:
        return False
    before = -1 - SATURATED_AFTER
    has_won = rows[-1] / seconds[-1] >= WINS_NOTHING * rows[before] / seconds[before]
    return not has_won or rows[-1] >= cost.useful_rows


def batch_sizes(largest: int) -> list[int]:
    """Powers of two up to *largest*, and *largest* itself."""
    sizes = [1 << power for power in range(largest.bit_length()) if 1 << power < largest]
    return [*sizes, largest]


def _timed(run: Callable[[int], object], size: int, clock: Callable[[], float]) -> float:
    began, started = perf_counter(), clock()
    run(size)
    # the clock of a thread may stand still for a short run, which takes its time all the same
    return clock() - started or perf_counter() - began
