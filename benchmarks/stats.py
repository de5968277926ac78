"""From the slices of a cell to its figures: medians, and ratios slice by slice."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

# above this the figure says how fast the generator is, not the server
MAX_GENERATOR_SHARE: Final = 0.9
MAX_ERROR_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Sample:
    """One slice of load on one contender.

    Attributes:
        requests_per_s: Answered requests (for ONNX Runtime alone: runs).
        p50_ms: Median latency.
        p99_ms: Latency that one request in a hundred exceeds.
        cpu_us: CPU time of the server for one request.
        generator_share: CPU time of the generator divided by the time of the slice.
        errors: Requests that failed, or were answered with anything but success.
        error_share: Share of them.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    generator_share: float = 0.0
    errors: int = 0
    error_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The medians of a cell's slices, and all their errors."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    generator_share: float
    errors: int
    error_share: float = 0.0

    @property
    def is_void(self) -> bool:
        """Whether the load generator was the limit, or more than one in a hundred failed.

        A refusal is quick: counted as an answer it would look like speed.
        """
        return self.generator_share > MAX_GENERATOR_SHARE or self.error_share > MAX_ERROR_SHARE


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of what was compared slice by slice, and the extremes."""

    middle: float
    low: float
    high: float


def summarise(samples: Sequence[Sample]) -> Summary:
    """Take the median of every figure by itself."""
    return Summary(
        requests_per_s=median(sample.requests_per_s for sample in samples),
        p50_ms=median(sample.p50_ms for sample in samples),
        p99_ms=median(sample.p99_ms for sample in samples),
        cpu_us=median(sample.cpu_us for sample in samples),
        generator_share=median(sample.generator_share for sample in samples),
        errors=sum(sample.errors for sample in samples),
        error_share=median(sample.error_share for sample in samples),
    )


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> Ratio:
    """Compare requests/s slice by slice."""
    return divide(
        [sample.requests_per_s for sample in ours], [sample.requests_per_s for sample in theirs]
    )


def divide(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Divide what was taken side by side: neighbours in time shared the machine's mood."""
    quotients = [a / b for a, b in zip(ours, theirs, strict=True) if b > 0]
    if not quotients:
        return Ratio(float("inf"), float("inf"), float("inf"))
    return Ratio(median(quotients), min(quotients), max(quotients))


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least *share* of *values* do not exceed."""
    ordered = sorted(values)
    # -(-x // 1) is the ceiling; the tiny step back keeps 0.99 * 100 from becoming 100
    rank = int(-(-(share * len(ordered) - 1e-9) // 1))
    return ordered[max(0, rank - 1)]
