"""The hot path: CPU time of one request between its bytes and those of its answer, no sockets.

    python -m benchmarks.hotpath              a table, half a minute
    python -m benchmarks.hotpath --profile    functions by the time spent in themselves

The server's own protocol class is fed from memory on its event loop (see *wire*), all connections
in one turn, so neither the kernel nor a load generator is in the figures. Rounds of all trials
are interleaved; CPU time is that of this process, so others on the machine cost it nothing but
caches.
"""

import argparse
import asyncio
import cProfile
import json
import logging
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias

import uvloop

from benchmarks.cases import CONV, DENSE, JSON_1, RAW_1, Kind, Layout, is_wanted, layouts
from benchmarks.contenders import bare
from benchmarks.generator import make_request
from benchmarks.markdown import NOTHING, table
from benchmarks.proc import on_cores, pin
from benchmarks.servers import BARE, HOURGLASS, ROOT, plain_environment
from benchmarks.stats import Ratio, divide
from benchmarks.wire import Crowd, Host, hosting
from benchmarks.workload import make_body, make_workload
from service.app import create_app
from service.server import make_config
from service.settings import Settings

SECTION: Final = "hot-path"
ROUNDS: Final = 25
# of one trial in one round: 20 to 150 ms, so that a round is over before keep-alive is
REQUESTS: Final = 512
CONCURRENCIES: Final = (1, 32)
READY_WITHIN_S: Final = 60.0
PROFILE_LINES: Final = 45
HEAD: Final = (
    "server", "model", "body", "connections", "CPU us a request", "lowest",
    "of it in the loop's thread", "times bare",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trial:
    """What is asked, of whom, by how many at once; the bare server has no model."""

    model: str
    kind: Kind
    concurrency: int

    @property
    def server(self) -> str:
        return HOURGLASS if self.model else BARE

    @property
    def name(self) -> str:
        return f"{SECTION}/{self.model or BARE}/{self.kind.name}/{self.concurrency}"

    @property
    def floor(self) -> "Trial":
        """The same asked of the bare server."""
        return Trial("", self.kind, self.concurrency)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of a request in microseconds, the mean of one round.

    Attributes:
        all_us: Of all threads.
        loop_us: Of the event loop's thread alone; the rest is the device's.
    """

    all_us: float
    loop_us: float


Costs: TypeAlias = Mapping[Trial, Sequence[Cost]]


def trials(patterns: Sequence[str]) -> list[Trial]:
    """List what fits one of *patterns*, each after its floor."""
    found: dict[Trial, None] = {}
    for kind, models in ((RAW_1, (DENSE, CONV)), (JSON_1, (DENSE,))):
        for concurrency in CONCURRENCIES:
            for model in models:
                trial = Trial(model, kind, concurrency)
                if is_wanted(trial.name, patterns):
                    found |= {trial.floor: None, trial: None}
    return list(found)


def middle(costs: Sequence[Cost]) -> float:
    """Give the median of all threads' time."""
    return median(cost.all_us for cost in costs)


def times_bare(trial: Trial, costs: Costs) -> Ratio | None:
    """Divide by the floor round by round."""
    ours, floor = costs.get(trial, ()), costs.get(trial.floor, ())
    if not trial.model or not ours or len(ours) != len(floor):
        return None
    return divide([cost.all_us for cost in ours], [cost.all_us for cost in floor])


def render(costs: Costs) -> str:
    """Write the table."""
    return table(HEAD, [_row(trial, costs) for trial in costs])


def _row(trial: Trial, costs: Costs) -> list[str]:
    taken = costs[trial]
    found = times_bare(trial, costs)
    figures = [middle(taken), min(cost.all_us for cost in taken)]
    figures.append(median(cost.loop_us for cost in taken))
    names = [trial.server, trial.model or NOTHING, trial.kind.name, str(trial.concurrency)]
    times = f"{found.middle:.2f} ({found.low:.2f} to {found.high:.2f})" if found else NOTHING
    return [*names, *(f"{figure:.1f}" for figure in figures), times]


def measure(
    repository: Path,
    layout: Layout,
    *,
    rounds: int,
    patterns: Sequence[str],
    say: Callable[[str], None],
) -> dict[Trial, list[Cost]]:
    """Measure in a process of its own, on the server's cores."""
    wanted = trials(patterns)
    if not wanted:
        return {}
    say(SECTION)
    command = [sys.executable, "-m", "benchmarks.hotpath", "--json", "--rounds", str(rounds)]
    command += ["--models", str(repository)]
    for trial in wanted:
        command += ["--only", trial.name] if trial.model else []
    with on_cores(layout.server):
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True, env=plain_environment(),
        )  # fmt: skip
    found = json.loads(done.stdout)
    return {trial: [Cost(*cost) for cost in found[trial.name]] for trial in wanted}


class Bench:
    """Both servers, started, and everybody's requests."""

    def __init__(self, ours: Host, floor: Host) -> None:
        self._ours = ours
        self._floor = floor

    async def crowd(self, trial: Trial) -> Crowd:
        """Connect *trial*'s clients; their first turn, which does not count, is over."""
        host = self._ours if trial.model else self._floor
        path = f"/v1/models/{trial.model}/anomaly-score" if trial.model else "/"
        url = f"http://127.0.0.1:8000{path}"
        request = make_request(url, make_body(trial.kind), trial.kind.media)
        answer = await host.ask(request)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200") or not body:
            raise RuntimeError(f"{trial.name} was answered: {answer[:200]!r}")
        crowd = Crowd(host, request, body, trial.concurrency)
        await crowd.run(1)
        return crowd

    async def cost(self, trial: Trial, requests: int) -> Cost:
        """Measure one round of *trial*."""
        crowd = await self.crowd(trial)
        turns = max(1, requests // trial.concurrency)
        before = time.process_time(), time.thread_time()
        await crowd.run(turns)
        after = time.process_time(), time.thread_time()
        crowd.hang_up()
        us = 1e6 / (turns * trial.concurrency)
        return Cost((after[0] - before[0]) * us, (after[1] - before[1]) * us)

    async def profile(self, trial: Trial, requests: int) -> pstats.Stats:
        """Let cProfile watch the loop's thread; it makes everything two to three times slower."""
        crowd = await self.crowd(trial)
        profiler = cProfile.Profile()
        profiler.enable()
        await crowd.run(max(1, requests // trial.concurrency))
        profiler.disable()
        crowd.hang_up()
        return pstats.Stats(profiler)


@asynccontextmanager
async def bench(repository: Path) -> AsyncIterator[Bench]:
    """Start both servers in this process and wait until the models are there."""
    settings = Settings(models=repository, device="cpu")
    app = create_app(settings)
    async with hosting(make_config(app, settings)) as ours, hosting(bare.make_config(0)) as floor:
        await _wait_until_ready(ours)
        pin(os.getpid(), os.sched_getaffinity(0))
        yield Bench(ours, floor)


async def _wait_until_ready(host: Host) -> None:
    request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with asyncio.timeout(READY_WITHIN_S):
        # the server tells nobody but those who ask
        while not (await host.ask(request)).startswith(b"HTTP/1.1 200"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _measure(
    repository: Path, wanted: Sequence[Trial], *, rounds: int, requests: int
) -> dict[Trial, list[Cost]]:
    costs: dict[Trial, list[Cost]] = {trial: [] for trial in wanted}
    async with bench(repository) as made:
        for trial in wanted:  # caches and allocators have seen everything once
            await made.cost(trial, requests)
        for _ in range(rounds):
            for trial in wanted:
                costs[trial].append(await made.cost(trial, requests))
    return costs


async def _profile(repository: Path, wanted: Sequence[Trial], requests: int) -> None:
    async with bench(repository) as made:
        for trial in wanted:
            await made.cost(trial, requests)
            turns = max(1, requests // trial.concurrency)
            stats = await made.profile(trial, requests)
            print(f"{trial.name}: what cProfile sees, {requests} requests\n")
            print("\n".join(profile_lines(stats, turns * trial.concurrency)), end="\n\n")


def profile_lines(stats: pstats.Stats, requests: int) -> Iterator[str]:
    """List functions by their own time: per request the calls, their own and their whole time."""
    entries = stats.stats  # type: ignore[attr-defined]
    calls = sum(entry[1] for entry in entries.values()) / requests
    own_us = sum(entry[2] for entry in entries.values()) / requests * 1e6
    yield f"{calls:.1f} calls and {own_us:.1f} us a request"
    yield "  calls   own us   all us"
    ranked = sorted(entries.items(), key=lambda item: -item[1][2])
    for (file, line, name), (_, count, own, whole, _) in ranked[:PROFILE_LINES]:
        figures = (count / requests, own / requests * 1e6, whole / requests * 1e6)
        yield "{:7.2f} {:8.2f} {:8.2f}".format(*figures) + f"  {_place(file, line)}{name}"


def _place(file: str, line: int) -> str:
    if file == "~":  # a function in C
        return ""
    return f"{'/'.join(Path(file).parts[-3:])}:{line} "


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hotpath",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=ROUNDS, help="rounds of every trial (default %(default)s)")
    add("--requests", type=int, default=REQUESTS, help="of a round (default %(default)s)")
    add("--only", action="append", default=[], metavar="PATTERN", help="as hot-path/*/raw-1/32")
    add("--models", type=Path, help="a repository with both models; made if not given")
    add("--profile", action="store_true", help="print where the time goes instead")
    add("--json", action="store_true", help="print all rounds as JSON, for the report")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)  # that models are still loading is no news
    if not options.json:  # the report's caller has chosen the cores already
        os.sched_setaffinity(0, layouts()[0].server)
    with tempfile.TemporaryDirectory(prefix="hourglass-bench-") as folder:
        repository = options.models or make_workload(Path(folder)).repository
        if options.profile:
            wanted = [t for t in trials(options.only or [f"*/{DENSE}/*/32"]) if t.model]
            uvloop.run(_profile(repository, wanted, options.requests * 4))
            return
        wanted = trials(options.only)
        work = _measure(repository, wanted, rounds=options.rounds, requests=options.requests)
        costs = uvloop.run(work)
    if options.json:
        print(json.dumps({t.name: [astuple(cost) for cost in costs[t]] for t in wanted}))
    else:
        print(render(costs))


if __name__ == "__main__":
    main()
