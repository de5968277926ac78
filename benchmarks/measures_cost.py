"""What measures, explanations, regions and the domain guard cost beside the plain score.

    python -m benchmarks.measures_cost        three bundled models, two minutes; writes a report

In this process, as a request would have it: the model's runs, the measure, the verdicts and the
JSON of the answer, without body and HTTP. Everything is asked in turn, round by round, on rows of
the kind that the model knows. What the guard costs a one-row request over HTTP is measured beside.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias

import numpy as np
import uvloop

from benchmarks import machine
from benchmarks.cases import RAW, RAW_1, Layout, layouts
from benchmarks.markdown import NOTHING, table
from benchmarks.proc import on_cores
from benchmarks.servers import AS_IT_COMES, ROOT, Caller, running
from benchmarks.stats import divide
from benchmarks.workload import Workload
from service.api.assessing import assess
from service.api.operations import render as render_answer
from service.api.outputs import Given
from service.api.plans import Plan, make_plan, route_of
from service.assembly import LiveModel
from service.inference.operations import ANOMALY_SCORE
from service.inference.ticket import Ticket
from service.offline.pipeline import open_model
from service.repository.golden import read_golden_rows
from service.repository.packages import Package, find_location, read_package
from service.scoring.measures import MSE
from service.settings import Settings
from service.specs import Rows

MODELS: Final = ("mnist-conv/2", "mnist-dense-32/1", "shuttle/1")
ROWS: Final = (1, 32, 256)
ROUNDS: Final = 15
# of everything that is asked in one round: some 10 ms for the quickest
ROWS_A_ROUND: Final = 256
REQUESTS_A_ROUND: Final = 200  # over HTTP
RESULTS: Final = Path("benchmarks/results")

BASE: Final = f"metric={MSE}"
GUARDED: Final = "include=domain"

Costs: TypeAlias = Mapping[int, Mapping[str, Sequence[float]]]
"""Microseconds a row in every round, by the rows of a request and by what it asks."""


@dataclass(frozen=True, slots=True)
class Web:
    """Microseconds of a one-row request over HTTP in every round, without and with the guard."""

    plain: Sequence[float]
    guarded: Sequence[float]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured with one model."""

    model: str
    costs: Costs
    web: Web


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    layout = layouts()[0]
    findings = [_measure(options.models, name, options.rounds, layout) for name in MODELS]
    path = options.out / f"{datetime.now(UTC):%Y-%m-%d}-measures-cost.md"
    path.write_text(render(findings, options.rounds), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


def _measure(models: Path, name: str, rounds: int, layout: Layout) -> Finding:
    package = read_package(find_location(models, name))
    rows = known_rows(package, max(ROWS))
    with open_model(package, Settings(models=models, device="cpu")) as live:
        costs = uvloop.run(ask_in_turn(live, rows, rounds))
    return Finding(name, costs, _over_http(models, name, rows[:1], rounds, layout))


def known_rows(package: Package, count: int) -> Rows:
    """Repeat the golden rows of a package, which are rows that its model knows."""
    golden = package.manifest.golden
    if golden is None:
        raise SystemExit(f"{package.manifest.name} has no golden rows to ask with")
    rows = read_golden_rows(package.files[golden.file]).rows
    return np.resize(rows, (count, *rows.shape[1:]))


def questions(live: LiveModel) -> list[str]:
    """List what is asked of a model, as queries; the plain score comes first."""
    measures = [] if live.calibration is None else live.calibration.measures
    found = [BASE, *(f"metric={name}" for name in measures if name != MSE), f"{BASE}&explain=5"]
    if live.manifest.input.image is not None:
        found.append(f"{BASE}&include=regions")
    return [*found, f"{BASE}&{GUARDED}", f"{BASE}&include=uncertain"]


async def ask_in_turn(live: LiveModel, rows: Rows, rounds: int) -> Costs:
    """Ask every question with so many rows, one after the other in each round."""
    plans = {question: _plan(live, question) for question in questions(live)}
    costs: dict[int, dict[str, list[float]]] = {}
    for count in ROWS:
        taken: dict[str, list[float]] = {question: [] for question in plans}
        for number in range(rounds + 1):
            for question, plan in plans.items():
                cost = await _cost(plan, rows[:count])
                if number:  # in the first round caches and late graphs see it for the first time
                    taken[question].append(cost)
        costs[count] = taken
    return costs


def _plan(live: LiveModel, query: str) -> Plan:
    path = f"/v1/models/{live.name}/versions/{live.version}/{ANOMALY_SCORE}"
    scope = {"path": path, "query_string": query.encode()}
    route = route_of(scope)
    if route is None:
        raise AssertionError("the path is one of an operation")
    return make_plan(route, live, scope, {b"content-type": RAW.encode()}, Settings())


async def _cost(plan: Plan, rows: Rows) -> float:
    """Give the microseconds a row of a request with *rows*."""
    turns = max(1, ROWS_A_ROUND // len(rows))
    started = time.perf_counter()
    for _ in range(turns):
        await _answer(plan, rows)
    return (time.perf_counter() - started) / (turns * len(rows)) * 1e6


async def _answer(plan: Plan, rows: Rows) -> None:
    ticket = Ticket()
    if plan.wish.is_more_than_scores:
        given = await assess(plan.live, plan.wish, rows, ticket, wants_errors=False)
    else:
        given = Given(await plan.live.autoencoder.score(rows, ticket))
    answer = render_answer(plan, plan.wish, given, ticket)
    if callable(answer):  # it is large: a request would have it written in a thread
        await asyncio.to_thread(answer)


def _over_http(models: Path, name: str, row: Rows, rounds: int, layout: Layout) -> Web:
    """Ask a server of one model for one row, in turn without and with the guard."""
    model, _, version = name.partition("/")
    with tempfile.TemporaryDirectory(prefix="hourglass-measures-") as folder:
        repository, body = Path(folder) / "models", Path(folder) / "one-row.body"
        shutil.copytree(models / name, repository / model / version)
        body.write_bytes(row.astype("<f4").tobytes())
        workload = Workload(repository, {}, {}, {RAW_1.name: body})
        with running(AS_IT_COMES, workload, model, layout.server) as server:
            plain = server.target(model, RAW_1)
            guarded = replace(plain, url=f"{plain.url}?{GUARDED}")
            with (
                on_cores(layout.generator),
                closing(Caller(plain)) as one,
                closing(Caller(guarded)) as other,
            ):
                return _in_turn(one, other, rounds)


def _in_turn(plain: Caller, guarded: Caller, rounds: int) -> Web:
    taken = [(_median_us(plain), _median_us(guarded)) for _ in range(rounds + 1)]
    return Web(*zip(*taken[1:], strict=True))


def _median_us(caller: Caller) -> float:
    times = []
    for _ in range(REQUESTS_A_ROUND):
        status, seconds = caller.call()
        if status != 200:  # noqa: PLR2004
            raise RuntimeError(f"the server answers {status}")
        times.append(seconds * 1e6)
    return median(times)


def render(findings: Sequence[Finding], rounds: int) -> str:
    """Write the report."""
    facts = [
        f"* Machine: {machine.describe()}",
        "* Command: `python -m benchmarks.measures_cost`; how it is measured:"
        " [README](../README.md#measures-and-guard)",
        f"* Medians of {rounds} interleaved rounds; *times* are ratios to the plain score of the"
        " same round and the same number of rows",
    ]
    parts = [
        "# What measures and guard cost",
        "\n".join(facts),
        "## Over HTTP, one row",
        _web(findings),
    ]
    for finding in findings:
        parts += [f"## {finding.model}, in process", _costs(finding.costs)]
    return "\n\n".join(parts) + "\n"


def _web(findings: Sequence[Finding]) -> str:
    head = ["model", "plain, us", f"`{GUARDED}`, us", "times plain"]
    return table(head, [_web_row(finding) for finding in findings])


def _web_row(finding: Finding) -> list[str]:
    web = finding.web
    figures = [f"{median(web.plain):.0f}", f"{median(web.guarded):.0f}"]
    return [finding.model, *figures, _times(web.guarded, web.plain)]


def _costs(costs: Costs) -> str:
    head = ["asked"]
    for count in costs:
        head += [f"{count} {'row' if count == 1 else 'rows'}, times", "us a row", "more"]
    asked = next(iter(costs.values()))
    return table(head, [_line(question, costs) for question in asked])


def _line(question: str, costs: Costs) -> list[str]:
    line = [f"`{question}`"]
    for taken in costs.values():
        ours, base = taken[question], taken[BASE]
        more = median(a - b for a, b in zip(ours, base, strict=True))
        is_base = question == BASE
        line += [
            NOTHING if is_base else _times(ours, base),
            f"{median(ours):.1f}",
            NOTHING if is_base else f"{more:.1f}",
        ]
    return line


def _times(ours: Sequence[float], base: Sequence[float]) -> str:
    return f"{divide(ours, base).middle:.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measures_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=ROUNDS, help="(default %(default)s)")
    add("--models", type=Path, default=ROOT / "models", help="a repository with the three models")
    add("--out", type=Path, default=RESULTS, help="folder of the report")
    return parser


if __name__ == "__main__":
    main()
