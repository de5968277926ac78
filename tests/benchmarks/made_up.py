"""Results that are made up."""

from typing import Any

from benchmarks.cases import CONV
from benchmarks.generator import Fates, Figures
from benchmarks.mixed import Mixed
from benchmarks.overload import Memory, Overload
from benchmarks.slow import SLOW


def an_overload(
    *, model: str = SLOW, growth: float = 4.0, recovered_s: float = 0.7, **fates: Any
) -> Overload:
    """Ten seconds of 300 requests/s for a model that does 100."""
    given: dict[str, Any] = {
        "planned": 3000, "in_time": 950, "late": 5, "refused": 2000, "others": {}, "broken": 6,
        "unsent": 0, "unanswered": 7, "refused_p50_ms": 2.0, "refused_p99_ms": 8.0,
        "refused_max_ms": 49.0, "lag_p99_ms": 0.1, "lag_max_ms": 0.9, **fates,
    }  # fmt: skip
    memory = Memory(start=100.0, highest=120.0, end=110.0, growth=growth)
    return Overload(model, 25.0, (90.0, 110.0), 10.0, Fates(**given), memory, 26.0, recovered_s)


def a_mixed(*, beside_p99_ms: float = 5.0, lag_ms: float = 0.1, planned_ms: float = 2.0) -> Mixed:
    """Three slices alone, p99 2 ms in the median, and three beside."""
    solo = [Figures(200, 1, p99_ms, lag_ms, 1) for p99_ms in (1.5, 2.0, 9.0)]
    beside = [Figures(200, 3, beside_p99_ms + n, lag_ms, 0, beside=20) for n in (-1, 0, 1)]
    return Mixed(CONV, planned_ms, solo, beside)
