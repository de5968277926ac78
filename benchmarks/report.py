"""The report: Markdown tables with ratios, and the charts beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median
from typing import Final

from benchmarks import json_cost, targets
from benchmarks.cases import KINDS, MODELS, Case
from benchmarks.closed_loop import Samples
from benchmarks.coldstart import ColdStart
from benchmarks.hotpath import Costs
from benchmarks.markdown import NOTHING, table
from benchmarks.mixed import Mixed
from benchmarks.open_loop import OpenRun
from benchmarks.overload import Overload
from benchmarks.plots import Panel, Point, chart
from benchmarks.sections import hot_path, json_alone, mixed, overload
from benchmarks.servers import BARE, HOURGLASS, USUAL
from benchmarks.stats import Ratio, Sample, Summary, ratio, summarise

SERVED: Final = (HOURGLASS, USUAL, BARE)
DETAILS: Final = (
    "model", "body", "concurrency", "server", "requests/s", "p50 ms", "p99 ms",
    "CPU us a request", "generator's core", "errors",
)  # fmt: skip
ALONE: Final = ("model", "rows a run", "threads", "rows/s", "p50 ms", "p99 ms", "CPU us a run")

Served = Mapping[tuple[Case, str], Sequence[Sample]]


@dataclass(slots=True)
class Results:
    """All that was measured, and how.

    Attributes:
        facts: What the report begins with: machine, versions, command.
        cold_starts: By contender.
    """

    facts: Mapping[str, str]
    samples: Samples
    cold_starts: Mapping[str, ColdStart] = field(default_factory=dict)
    open_runs: Sequence[OpenRun] = ()
    hot_path: Costs = field(default_factory=dict)
    json_costs: json_cost.Costs = field(default_factory=dict)
    overloads: Sequence[Overload] = ()
    mixed: Sequence[Mixed] = ()


def write_report(results: Results, charts: Mapping[str, str]) -> str:
    """Write the Markdown; *charts* are the files of the charts by their titles."""
    samples = results.samples
    findings = targets.find(samples, results.overloads, results.mixed)
    sections = ["# Benchmark", _facts(results), "## Targets", targets.render(findings)]
    sections += [f"![{title}]({file})" for title, file in charts.items()]
    for layout, cases in groupby(_sorted(samples.cases), key=lambda case: case.layout):
        sections += _closed_loop(layout, list(cases), samples)
    sections += hot_path(results.hot_path)
    sections += json_alone(results.json_costs)
    sections += _open_loop(results.open_runs)
    sections += overload(results.overloads)
    sections += mixed(results.mixed)
    sections += _cold_start(results.cold_starts, samples.memory_mib)
    return "\n\n".join(sections) + "\n"


def make_charts(results: Results) -> dict[str, str]:
    """Draw the charts; SVG by title."""
    charts = {}
    served, cases = results.samples.served, _sorted(results.samples.cases)
    for (layout, model), cells in groupby(cases, key=lambda case: (case.layout, case.model)):
        found = list(cells)
        panels = [
            Panel(kind.name, _lines([case for case in found if case.kind == kind], served))
            for kind in KINDS
        ]
        title = f"{model} {layout}"
        charts[title] = chart(title, panels, x_name="concurrency", y_name="requests/s")
    if results.open_runs:
        panels = [Panel(model, _open_lines(model, results.open_runs)) for model in MODELS]
        title = "open loop"
        charts[title] = chart(title, panels, x_name="requests/s", y_name="p99 in ms")
    return charts


def _facts(results: Results) -> str:
    facts = dict(results.facts)
    shares = results.samples.others_shares
    if shares:
        facts["Disturbance"] = (
            f"other processes used {median(shares):.2f} cores in the median slice,"
            f" {max(shares):.2f} in the worst"
        )
    return "\n".join(f"* **{name}:** {value}" for name, value in facts.items())


def _closed_loop(layout: str, cases: Sequence[Case], samples: Samples) -> list[str]:
    head = ["model", "body", "concurrency", "Hourglass requests/s", "times usual"]
    head += ["of bare", "of ONNX Runtime alone", "of its one thread"]
    head += ["CPU a request, of usual's", "CPU us above bare", "p99 / p50"]
    alone = [
        [model, str(rows), str(threads), *_figures(summarise(taken), rows)]
        for (of, model, rows, threads), taken in samples.direct.items()
        if of == layout
    ]
    return [
        f"## Closed loop, {layout}",
        table(head, [_compared(case, samples) for case in cases]),
        f"### ONNX Runtime alone, {layout}",
        table(ALONE, alone),
        f"### All figures, {layout}",
        table(
            DETAILS,
            [row for case in cases for row in _details(case, samples.served)],
        ),
    ]


def _compared(case: Case, samples: Samples) -> list[str]:
    """Write how Hourglass did in one cell, and its ratios to the others."""
    ours = samples.served.get((case, HOURGLASS), [])
    usual = samples.served.get((case, USUAL), [])
    bare = samples.served.get((case, BARE), [])
    return [
        *_names(case),
        _rate(summarise(ours)) if ours else NOTHING,
        _ratio(ours, usual, "{:.1f}"),
        _ratio(ours, bare, "{:.2f}"),
        *_of_alone(case, ours, samples),
        f"{summarise(ours).cpu_us / summarise(usual).cpu_us:.2f}" if ours and usual else NOTHING,
        f"{summarise(ours).cpu_us - summarise(bare).cpu_us:.0f}" if ours and bare else NOTHING,
        f"{targets.spread_of_latency(ours):.1f}" if ours else NOTHING,
    ]


def _of_alone(case: Case, ours: Sequence[Sample], samples: Samples) -> list[str]:
    """Compare with ONNX Runtime alone, with all of its threads and with one."""
    by_threads = {
        threads: taken
        for (*of, threads), taken in samples.direct.items()
        if of == [case.layout, case.model, case.kind.rows]
    }
    most, one = by_threads.get(max(by_threads, default=1), []), by_threads.get(1, [])
    return [_ratio(ours, most, "{:.2f}"), _ratio(ours, one, "{:.2f}")]


def _details(case: Case, served: Served) -> list[list[str]]:
    rows = []
    for name in SERVED:
        taken = served.get((case, name))
        if not taken:
            continue
        summary = summarise(taken)
        figures = [_rate(summary), *_latencies(summary), f"{summary.cpu_us:,.0f}"]
        share = f"{summary.generator_share:.0%}"
        rows.append([*_names(case), name, *figures, share, str(summary.errors)])
    return rows


def _figures(summary: Summary, rows: int) -> list[str]:
    rate = f"{summary.requests_per_s * rows:,.0f}"
    return [rate, *_latencies(summary), f"{summary.cpu_us:,.0f}"]


def _open_loop(runs: Sequence[OpenRun]) -> list[str]:
    if not runs:
        return []
    head = ["model", "server", "planned/s", "achieved/s", "p50 ms", "p99 ms"]
    head += ["generator late, p99 ms", "errors", "remark"]
    return ["## Open loop, one row, raw, pinned", table(head, [_open_row(run) for run in runs])]


def _open_row(run: OpenRun) -> list[str]:
    figures = run.figures
    remark = "void" if run.is_void else "overloaded" if run.is_overloaded else ""
    latencies = [f"{figures.p50_ms:,.2f}", f"{figures.p99_ms:,.2f}", f"{figures.lag_p99_ms:.2f}"]
    rates = [f"{run.rate:,}", f"{figures.achieved_per_s:,.0f}"]
    return [run.model, run.contender, *rates, *latencies, str(figures.errors), remark]


def _cold_start(starts: Mapping[str, ColdStart], peaks: Mapping[str, float]) -> list[str]:
    if not starts:
        return []
    head = ["server", "first answer after s", "MiB then", "MiB at most under load"]
    rows = [
        [name, f"{start.seconds:.2f}", f"{start.memory_mib:.0f}", _mib(peaks.get(name))]
        for name, start in starts.items()
    ]
    return ["## Cold start and memory", table(head, rows)]


def _names(case: Case) -> list[str]:
    return [case.model, case.kind.name, str(case.concurrency)]


def _rate(summary: Summary) -> str:
    rate = f"{summary.requests_per_s:,.0f}"
    return f"{rate} (void)" if summary.is_void else rate


def _latencies(summary: Summary) -> list[str]:
    return [f"{summary.p50_ms:,.2f}", f"{summary.p99_ms:,.2f}"]


def _ratio(ours: Sequence[Sample], theirs: Sequence[Sample], form: str) -> str:
    if not ours or len(ours) != len(theirs):
        return NOTHING
    found: Ratio = ratio(ours, theirs)
    text = f"{form} ({form} to {form})".format(found.middle, found.low, found.high)
    is_void = summarise(ours).is_void or summarise(theirs).is_void
    return f"{text}, void" if is_void else text


def _mib(mib: float | None) -> str:
    return NOTHING if mib is None else f"{mib:.0f}"


def _sorted(cases: Iterable[Case]) -> list[Case]:
    """Order by layout and model as they came, then as in the grid."""
    found = list(cases)
    layouts = list(dict.fromkeys(case.layout for case in found))
    return sorted(
        found,
        key=lambda case: (
            layouts.index(case.layout),
            MODELS.index(case.model),
            KINDS.index(case.kind),
            case.concurrency,
        ),
    )


def _lines(cases: Sequence[Case], served: Served) -> dict[str, list[Point]]:
    return {
        name: [
            (case.concurrency, summarise(served[case, name]).requests_per_s)
            for case in cases
            if (case, name) in served
        ]
        for name in SERVED
    }


def _open_lines(model: str, runs: Sequence[OpenRun]) -> dict[str, list[Point]]:
    lines: dict[str, list[Point]] = {}
    for run in runs:
        if run.model == model and not run.is_void:
            lines.setdefault(run.contender, []).append((run.rate, run.figures.p99_ms))
    return lines
