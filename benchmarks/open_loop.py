"""The open-loop part: latency at a given rate, counted from when each request should have gone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks.cases import MODELS, RAW_1, Layout, is_wanted
from benchmarks.generator import Figures
from benchmarks.load import Target
from benchmarks.servers import CONTENDERS, ask, running
from benchmarks.streams import Stream, generate
from benchmarks.workload import Workload

RATES: Final = (500, 1000, 2000, 4000, 8000)
# a generator that is later than this for one request in a hundred adds to what it measures
MAX_LAG_MS: Final = 1.0
# a server that answers less than this share of what comes has a queue that grows
MIN_ACHIEVED: Final = 0.97
WARM_UP_REQUESTS: Final = 50


@dataclass(frozen=True, slots=True)
class OpenRun:
    """One contender and model at one rate."""

    model: str
    contender: str
    rate: int
    figures: Figures

    @property
    def is_void(self) -> bool:
        """Whether the generator could not keep to its plan."""
        return self.figures.lag_p99_ms > MAX_LAG_MS

    @property
    def is_overloaded(self) -> bool:
        """Whether the server could not keep up with the rate."""
        return self.figures.achieved_per_s < MIN_ACHIEVED * self.rate


def measure(
    workload: Workload,
    layout: Layout,
    *,
    seconds: float,
    patterns: Sequence[str],
    say: Callable[[str], None],
) -> Iterator[OpenRun]:
    """Ask one row at a time, raw, at each rate until a server can no longer follow."""
    with ExitStack() as stack:
        for model in MODELS:
            for contender in CONTENDERS:
                name = f"open-loop/{model}/{contender.name}"
                if contender.is_the_same_for_all or not is_wanted(name, patterns):
                    continue
                say(name)
                server = stack.enter_context(running(contender, workload, model, layout.server))
                target = server.target(model, RAW_1)
                for rate, figures in _climb(target, layout, seconds):
                    yield OpenRun(model, contender.name, rate, figures)


def _climb(target: Target, layout: Layout, seconds: float) -> Iterator[tuple[int, Figures]]:
    for _ in range(WARM_UP_REQUESTS):
        ask(target)
    for rate in RATES:
        figures = generate(Stream(target, rate, seconds), layout).figures
        yield rate, figures
        if figures.achieved_per_s < MIN_ACHIEVED * rate:
            return
