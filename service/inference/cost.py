"""What a run costs by the number of its rows: measured at load, not assumed.

A dense model gains six to seven times from batching, a small convolutional one 1.2 times; the
useful batch and the place to run it are properties of model and machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

REPEATS = 3


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of a run by its rows: measured points, straight lines between them.

    Attributes:
        rows: Batch sizes in ascending order.
        seconds: The time that a run of each took.
    """

    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    def run_s(self, rows: int) -> float:
        """Expected seconds of one run, in proportion beyond the largest measured batch."""
        largest = self.rows[-1]
        if rows > largest:
            return self.seconds[-1] * rows / largest
        return float(np.interp(rows, self.rows, self.seconds))

    @property
    def rows_per_s(self) -> float:
        """What full batches give."""
        return self.rows[-1] / self.seconds[-1]


def measure_cost(run: Callable[[int], object], sizes: Sequence[int]) -> CostModel:
    """Time *run* at each batch size, after one run that does not count.

    The shortest of three: a disturbance only ever makes a run longer.
    """
    seconds = []
    for size in sizes:
        run(size)
        seconds.append(min(_timed(run, size) for _ in range(REPEATS)))
    return CostModel(tuple(sizes), tuple(seconds))


def batch_sizes(largest: int) -> list[int]:
    """Powers of two up to *largest*, and *largest* itself."""
    sizes = [1 << power for power in range(largest.bit_length()) if 1 << power < largest]
    return [*sizes, largest]


def _timed(run: Callable[[int], object], size: int) -> float:
    started = perf_counter()
    run(size)
    return perf_counter() - started
