"""What a run costs by the number of its rows: measured at load, not assumed.

A dense model gains six to seven times from batching, a small convolutional one 1.2 times; the
useful batch and the place to run it are properties of model and machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

REPEATS = 3
# a run this long is not repeated: a disturbance is small beside it
LONG_RUN_S = 0.02
# after a run this long, larger batches are taken to cost in proportion
LAST_RUN_S = 0.1


@dataclass(frozen=True, slots=True)
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
        return larger * float(np.interp(rows, self.rows, self.seconds))

    @property
    def rows_per_s(self) -> float:
        """What full batches give."""
        return self.rows[-1] / self.seconds[-1]


def measure_cost(
    run: Callable[[int], object],
    sizes: Sequence[int],
    *,
    row_elements: int = 0,
    thorough: bool = False,
) -> CostModel:
    """Time *run* at each batch size, after one run that does not count.

    The shortest of three: a disturbance only ever makes a run longer. Long runs are made once,
    and none after the first that is very long, so that a slow model too is up in seconds.

    Args:
        run: Makes a run of so many rows.
        sizes: Batch sizes in ascending order.
        row_elements: Elements of a row, where rows of other sizes may come.
        thorough: Make a run of every size, however long, where each must be warmed up.
    """
    seconds: list[float] = []
    for size in sizes:
        first = _timed(run, size)
        is_long = first > LONG_RUN_S
        seconds.append(first if is_long else min(_timed(run, size) for _ in range(REPEATS)))
        if first > LAST_RUN_S and not thorough:
            break
    return CostModel(tuple(sizes[: len(seconds)]), tuple(seconds), row_elements)


def batch_sizes(largest: int) -> list[int]:
    """Powers of two up to *largest*, and *largest* itself."""
    sizes = [1 << power for power in range(largest.bit_length()) if 1 << power < largest]
    return [*sizes, largest]


def _timed(run: Callable[[int], object], size: int) -> float:
    started = perf_counter()
    run(size)
    return perf_counter() - started
