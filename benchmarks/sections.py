"""The parts of the report beside the closed and the open loop."""

from collections.abc import Sequence

from benchmarks import hotpath, json_cost
from benchmarks.hotpath import Costs
from benchmarks.markdown import NOTHING, table
from benchmarks.mixed import Mixed
from benchmarks.overload import TIMEOUT_MS, TIMES, Overload


def hot_path(costs: Costs) -> list[str]:
    """Write what a request costs without sockets."""
    if not costs:
        return []
    return ["## Hot path, without sockets", hotpath.render(costs)]


def json_alone(costs: json_cost.Costs) -> list[str]:
    """Write what JSON costs a row, without a request around it."""
    if not costs:
        return []
    return ["## JSON alone, rows of 784 float32", json_cost.render(costs)]


def overload(runs: Sequence[Overload]) -> list[str]:
    """Write what is left of the peak, and what the overload cost."""
    if not runs:
        return []
    title = f"## Overload, {TIMES} times the peak, clients that wait for {TIMEOUT_MS:g} ms, pinned"
    answered = ["model", "one row alone ms", "peak rows/s (before, after)", "planned/s", "seconds"]
    answered += ["goodput rows/s", "of peak", "late", "refused", "other answers", "broken"]
    answered += ["unanswered", "not sent"]
    cost = ["model", "refusal p50 ms", "p99 ms", "slowest ms", "generator late, p99 ms", "slowest"]
    cost += [
        "MiB before",
        "highest",
        "after",
        "growth",
        "single request ms",
        "normal again after s",
    ]
    return [
        title,
        table(answered, [_answered(run) for run in runs]),
        table(cost, [_cost(run) for run in runs]),
    ]


def _answered(run: Overload) -> list[str]:
    fates = run.fates
    others = ", ".join(f"{count:,} x {status}" for status, count in fates.others.items())
    unsent = f"{fates.unsent:,} (void)" if run.is_void else f"{fates.unsent:,}"
    return [
        run.model,
        f"{run.run_ms:.1f}" if run.run_ms else NOTHING,
        "{:,.1f} ({:,.1f}, {:,.1f})".format(run.peak, *run.peaks),
        f"{fates.planned / run.seconds:,.0f}",
        f"{run.seconds:g}",
        f"{run.goodput:,.1f}",
        f"{run.share:.2f}",
        *(f"{count:,}" for count in (fates.late, fates.refused)),
        others or NOTHING,
        *(f"{count:,}" for count in (fates.broken, fates.unanswered)),
        unsent,
    ]


def _cost(run: Overload) -> list[str]:
    fates, memory = run.fates, run.memory
    refusals = [fates.refused_p50_ms, fates.refused_p99_ms, fates.refused_max_ms]
    latencies = [f"{ms:.1f}" if fates.refused else NOTHING for ms in refusals]
    lags = [f"{ms:.2f}" for ms in (fates.lag_p99_ms, fates.lag_max_ms)]
    sizes = [f"{mib:.1f}" for mib in (memory.start, memory.highest, memory.end, memory.growth)]
    return [run.model, *latencies, *lags, *sizes, f"{run.normal_ms:.1f}", f"{run.recovered_s:.2f}"]


def mixed(runs: Sequence[Mixed]) -> list[str]:
    """Write what large requests cost small ones."""
    if not runs:
        return []
    head = ["model", "planned run ms", "p50 ms alone", "p50 ms beside", "p99 ms alone"]
    head += ["p99 ms beside", "at most", "large requests", "errors", "generator late, p99 ms"]
    return ["## One row beside 512, raw, pinned", table(head, [_mixed(run) for run in runs])]


def _mixed(run: Mixed) -> list[str]:
    taken = [*run.solo, *run.beside]
    return [
        run.model,
        f"{run.planned_ms:.2f}",
        f"{run.solo_p50_ms:.2f}",
        f"{run.beside_p50_ms:.2f}",
        f"{run.solo_p99_ms:.2f}",
        f"{run.beside_p99_ms:.2f}",
        f"{run.limit_ms:.2f}",
        f"{sum(figures.beside for figures in run.beside):,}",
        str(sum(figures.errors for figures in taken)),
        f"{run.lag_p99_ms:.2f}",
    ]
