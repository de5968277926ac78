"""Run the benchmark and write its report.

python -m benchmarks            everything, about 22 minutes
python -m benchmarks --quick    two minutes, to see that it works
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import coldstart, hotpath, json_cost, machine, mixed, open_loop, overload
from benchmarks.cases import CONCURRENCIES, grid, is_wanted, layouts
from benchmarks.closed_loop import ClosedLoop, Samples
from benchmarks.flames import PICTURE, draw_flames
from benchmarks.load import find_wrk
from benchmarks.report import Results, make_charts, write_report
from benchmarks.servers import ROOT
from benchmarks.workload import Workload, make_workload

RESULTS: Final = Path("benchmarks/results")
QUICK_RESULTS: Final = Path(".cache/benchmarks")
COLD_START: Final = "cold-start"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    slices: int = 7
    seconds: int = 1
    concurrencies: tuple[int, ...] = CONCURRENCIES
    layouts: int = 2
    starts: int = 5
    open_loop_s: float = 3.0
    rounds: int = hotpath.ROUNDS
    overload_s: float = 60.0
    mixed_turns: int = 5
    mixed_s: float = 2.0


QUICK: Final = Plan(
    slices=1, concurrencies=(1, 32), layouts=1, starts=1, open_loop_s=1.0,
    rounds=3, overload_s=6.0, mixed_turns=1,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    find_wrk()
    with tempfile.TemporaryDirectory(prefix="hourglass-bench-") as folder:
        workload = make_workload(Path(folder))
        if options.profile:
            draw_flames(workload, layouts()[0])
            print(PICTURE.relative_to(ROOT))
            return
        results = measure(workload, _plan(options), options.only)
    # a part of the report must not take the place of a whole one
    is_partial = options.quick or options.only
    out = options.out or (QUICK_RESULTS if is_partial else RESULTS)
    print(write(results, out))


def measure(workload: Workload, plan: Plan, patterns: Sequence[str]) -> Results:
    """Measure all parts, one after the other."""
    started = datetime.now(UTC)
    pinned = layouts()[0]
    results = Results({}, Samples())
    if is_wanted(COLD_START, patterns):
        _say(COLD_START)
        results.cold_starts = coldstart.measure(workload, pinned, plan.starts)
    results.hot_path = hotpath.measure(
        workload.repository, pinned, rounds=plan.rounds, patterns=patterns, say=_say
    )
    results.json_costs = json_cost.measure(pinned, rounds=plan.rounds, patterns=patterns, say=_say)
    results.open_runs = list(
        open_loop.measure(workload, pinned, seconds=plan.open_loop_s, patterns=patterns, say=_say)
    )
    results.overloads = list(
        overload.measure(workload, pinned, seconds=plan.overload_s, patterns=patterns, say=_say)
    )
    slices = mixed.Slices(plan.mixed_turns, plan.mixed_s)
    results.mixed = list(mixed.measure(workload, pinned, slices, patterns=patterns, say=_say))
    loop = ClosedLoop(workload, slices=plan.slices, seconds=plan.seconds, say=_say)
    for layout in layouts()[: plan.layouts]:
        cases = list(grid(layout.name, plan.concurrencies, patterns))
        loop.measure(layout, cases, results.samples)
    results.facts = _facts(plan, started)
    return results


def write(results: Results, out: Path) -> Path:
    """Write the report and its charts below *out*; give the report's path."""
    out.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y-%m-%d}-{machine.file_slug()}"
    files = {}
    for title, svg in make_charts(results).items():
        files[title] = f"{name}-{title.replace(' ', '-')}.svg"
        (out / files[title]).write_text(svg, encoding="utf-8")
    report = out / f"{name}.md"
    report.write_text(write_report(results, files), encoding="utf-8")
    return report


def _facts(plan: Plan, started: datetime) -> dict[str, str]:
    minutes = (datetime.now(UTC) - started).total_seconds() / 60
    return {
        "Command": f"`{shlex.join(['python', '-m', 'benchmarks', *sys.argv[1:]])}`",
        "Machine": machine.describe(),
        "Versions": machine.versions(),
        "Taken": f"{started:%Y-%m-%d %H:%M} UTC, {minutes:.0f} minutes",
        "Figures": f"medians of {plan.slices} interleaved slices of {plan.seconds} s; ratios are"
        " taken slice by slice: median (lowest to highest)",
        "Operation": "`anomaly-score`; raw bodies get raw answers, JSON bodies JSON answers",
    }


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else Plan()
    return replace(
        plan,
        slices=options.slices or plan.slices,
        seconds=options.seconds or plan.seconds,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--slices", type=int, help=f"slices of each cell (default {Plan().slices})")
    add("--seconds", type=int, help=f"whole seconds of a slice (default {Plan().seconds})")
    add("--quick", action="store_true", help="one slice, two concurrencies, pinned, into .cache")
    add(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="what fits of pinned/MODEL/BODY/CONCURRENCY (or unpinned), cold-start,"
        " hot-path/MODEL/BODY/CONCURRENCY, json/STEP/ROWS, open-loop/MODEL/SERVER,"
        " overload/MODEL, mixed/MODEL",
    )
    add("--out", type=Path, help=f"folder of the report (default {RESULTS})")
    add("--profile", action="store_true", help="only draw a flame graph of the server, by py-spy")
    return parser


if __name__ == "__main__":
    main()
