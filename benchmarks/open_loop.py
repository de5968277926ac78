"""The open-loop part: latency at a given rate, counted from when each request should have gone."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks.cases import MODELS, RAW_1, Layout, is_wanted
from benchmarks.generator import PATIENCE_S
from benchmarks.load import Target
from benchmarks.proc import on_cores
from benchmarks.servers import CONTENDERS, ROOT, ask, running
from benchmarks.workload import Workload

RATES: Final = (500, 1000, 2000, 4000, 8000)
# a generator that is later than this for one request in a hundred adds to what it measures
MAX_LAG_MS: Final = 1.0
# a server that answers less than this share of what comes has a queue that grows
MIN_ACHIEVED: Final = 0.97
START_S: Final = 20
WARM_UP_REQUESTS: Final = 50


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run of the generator found."""

    achieved_per_s: float
    p50_ms: float
    p99_ms: float
    lag_p99_ms: float
    errors: int


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
        figures = generate(target, rate, seconds, layout)
        yield rate, figures
        if figures.achieved_per_s < MIN_ACHIEVED * rate:
            return


def generate(target: Target, rate: int, seconds: float, layout: Layout) -> Figures:
    """Run the generator on its own core."""
    arguments = [target.url, str(target.body), target.media, str(rate), str(seconds)]
    with on_cores(layout.generator):
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "benchmarks.generator", *arguments],
            stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True,
            timeout=seconds + PATIENCE_S + START_S,
        )  # fmt: skip
    return Figures(**json.loads(done.stdout))
