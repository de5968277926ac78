"""The targets of the service, each beside what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.cases import CONV, DENSE, JSON_1, RAW_1, RAW_64, Case, Kind
from benchmarks.closed_loop import Samples
from benchmarks.generator import Fates
from benchmarks.markdown import NOTHING, table
from benchmarks.mixed import Mixed
from benchmarks.overload import Overload
from benchmarks.servers import BARE, HOURGLASS, USUAL
from benchmarks.slow import SLOW
from benchmarks.stats import Ratio, Sample, ratio, summarise

CONCURRENCY: Final = 32
OF_BARE: Final = 0.70
TIMES_USUAL: Final = (
    (DENSE, RAW_1, 5.0),
    (DENSE, JSON_1, 5.0),
    (CONV, RAW_1, 2.0),
    (CONV, JSON_1, 4.0),
)
OF_ONE_THREAD: Final = 0.85
# fewer clients than this may leave the device waiting
ENOUGH_CLIENTS: Final = 8
P99_BY_P50: Final = 2.5
ABOVE_BARE_US: Final = 250.0
OF_PEAK: Final = 0.9
REFUSED_WITHIN_MS: Final = 50.0
# memory that does not grow by more than this between two times of the load is flat
FLAT_MIB: Final = 8.0
NORMAL_WITHIN_S: Final = 2.0

HEAD: Final = ("target", "wanted", "measured", "")
PINNED: Final = "pinned"
UNPINNED: Final = "unpinned"


@dataclass(frozen=True, slots=True)
class Finding:
    """One target and how it stands.

    Attributes:
        is_met: ``None`` when it was not measured, or cannot be judged.
    """

    target: str
    wanted: str
    measured: str
    is_met: bool | None = None
    is_void: bool = False

    @property
    def judgement(self) -> str:
        if self.is_void:
            return "void"
        if self.is_met is None:
            return "not measured"
        return "met" if self.is_met else "**missed**"


def find(samples: Samples, overloads: Sequence[Overload], mixed: Sequence[Mixed]) -> list[Finding]:
    """Compare everything that was measured with what is wanted."""
    return [
        *_throughput(samples),
        _large_requests(samples),
        *(_steadiness(samples, layout) for layout in (PINNED, UNPINNED)),
        *_cpu(samples),
        *_overload(overloads),
        *_neighbours(mixed),
    ]


def render(findings: Sequence[Finding]) -> str:
    """Write the table."""
    return table(HEAD, [(f.target, f.wanted, f.measured, f.judgement) for f in findings])


def _throughput(samples: Samples) -> Iterator[Finding]:
    case = Case(PINNED, DENSE, RAW_1, CONCURRENCY)
    yield _ratio(samples, case, BARE, OF_BARE)
    for model, kind, wanted in TIMES_USUAL:
        yield _ratio(samples, Case(PINNED, model, kind, CONCURRENCY), USUAL, wanted)


def _ratio(samples: Samples, case: Case, other: str, wanted: float) -> Finding:
    names = {BARE: "of the bare application", USUAL: "times the usual service"}
    target, limit = f"requests/s, {case.name}, {names[other]}", f"at least {wanted:g}"
    ours = samples.served.get((case, HOURGLASS), [])
    theirs = samples.served.get((case, other), [])
    if not ours or len(ours) != len(theirs):
        return Finding(target, limit, NOTHING)
    found = ratio(ours, theirs)
    is_void = summarise(ours).is_void or summarise(theirs).is_void
    return Finding(target, limit, _spread(found), found.middle >= wanted, is_void)


def _large_requests(samples: Samples) -> Finding:
    """Take the best of all numbers of clients that are enough."""
    target = f"rows/s, {UNPINNED}/{CONV}/{RAW_64.name}, of ONNX Runtime with one thread"
    limit = f"at least {OF_ONE_THREAD:g}"
    alone = samples.direct.get((UNPINNED, CONV, RAW_64.rows, 1), [])
    found = []
    for case in samples.cases:
        is_wanted = (case.layout, case.model, case.kind) == (UNPINNED, CONV, RAW_64)
        ours = samples.served.get((case, HOURGLASS), [])
        if not is_wanted or case.concurrency < ENOUGH_CLIENTS or len(ours) != len(alone):
            continue
        if not summarise(ours).is_void:
            found.append((ratio(ours, alone), case.concurrency))
    if not found:
        return Finding(target, limit, NOTHING)
    best, clients = max(found, key=lambda pair: pair[0].middle)
    measured = f"{_spread(best)} with {clients} clients"
    return Finding(target, limit, measured, best.middle >= OF_ONE_THREAD)


def _steadiness(samples: Samples, layout: str) -> Finding:
    """Take the worst of all cells."""
    target = f"p99 by p50 at concurrency {CONCURRENCY}, {layout}, worst cell"
    limit = f"at most {P99_BY_P50:g}"
    found = [
        (spread_of_latency(taken), case)
        for (case, name), taken in samples.served.items()
        if (name, case.layout, case.concurrency) == (HOURGLASS, layout, CONCURRENCY)
        and not summarise(taken).is_void
    ]
    if not found:
        return Finding(target, limit, NOTHING)
    worst, case = max(found, key=lambda pair: pair[0])
    measured = f"{worst:.1f} ({case.model}/{case.kind.name})"
    if bare := samples.served.get((case, BARE)):  # how steady the machine itself was
        measured += f", the bare application {spread_of_latency(bare):.1f}"
    return Finding(target, limit, measured, worst <= P99_BY_P50)


def spread_of_latency(taken: Sequence[Sample]) -> float:
    """Divide p99 by p50."""
    summary = summarise(taken)
    return summary.p99_ms / summary.p50_ms if summary.p50_ms else float("inf")


def _cpu(samples: Samples) -> Iterator[Finding]:
    for model in (DENSE, CONV):
        for kind in (RAW_1, JSON_1):
            yield _above_bare(samples, model, kind)


def _above_bare(samples: Samples, model: str, kind: Kind) -> Finding:
    case = Case(PINNED, model, kind, 1)
    target = f"CPU us a request above the bare application, {case.name}"
    limit = f"at most {ABOVE_BARE_US:g}"
    above_us = cpu_above_bare(case, samples.served)
    if above_us is None:
        return Finding(target, limit, NOTHING)
    measured = f"{above_us:.0f}"
    alone = samples.direct.get((PINNED, model, kind.rows, 1))
    if alone:
        measured += f" ({summarise(alone).cpu_us:.0f} of it ONNX Runtime alone)"
    return Finding(target, limit, measured, above_us <= ABOVE_BARE_US)


def cpu_above_bare(case: Case, served: Mapping[tuple[Case, str], Sequence[Sample]]) -> float | None:
    """Subtract the bare application's CPU time of a request from the service's."""
    ours, bare = served.get((case, HOURGLASS)), served.get((case, BARE))
    return summarise(ours).cpu_us - summarise(bare).cpu_us if ours and bare else None


def _overload(overloads: Sequence[Overload]) -> Iterator[Finding]:
    run = next((run for run in overloads if run.model == SLOW), None)
    name = f"{SLOW} at three times its peak"
    wanted = (
        (f"{name}: answers in time, of the peak", f"at least {OF_PEAK:g}"),
        (f"{name}: the slowest refusal, ms", f"at most {REFUSED_WITHIN_MS:g}"),
        (f"{name}: memory grows by, MiB", f"at most {FLAT_MIB:g}"),
        (f"{name}: normal again after, s", f"at most {NORMAL_WITHIN_S:g}"),
    )
    if run is None:
        yield from (Finding(target, limit, NOTHING) for target, limit in wanted)
        return
    found = (
        (f"{run.share:.2f}", run.share >= OF_PEAK),
        _refusals(run.fates),
        (f"{run.memory.growth:.1f}", run.memory.growth <= FLAT_MIB),
        (f"{run.recovered_s:.2f}", run.recovered_s <= NORMAL_WITHIN_S),
    )
    for (target, limit), (measured, is_met) in zip(wanted, found, strict=True):
        yield Finding(target, limit, measured, is_met, run.is_void)


def _refusals(fates: Fates) -> tuple[str, bool | None]:
    if not fates.refused:  # no refusal was slow, but nobody was told to come back later either
        return "nobody was refused", None
    return f"{fates.refused_max_ms:.1f}", fates.refused_max_ms <= REFUSED_WITHIN_MS


def _neighbours(mixed: Sequence[Mixed]) -> Iterator[Finding]:
    by_model = {run.model: run for run in mixed}
    for model in (CONV, DENSE):
        run = by_model.get(model)
        target = f"p99 of one row beside 512, {model}, ms"
        if run is None:
            yield Finding(target, "solo + two planned runs", NOTHING)
            continue
        limit = (
            f"at most {run.limit_ms:.1f} (solo {run.solo_p99_ms:.1f} + 2 x {run.planned_ms:.2f})"
        )
        found = run.beside_p99_ms
        yield Finding(target, limit, f"{found:.1f}", found <= run.limit_ms, run.is_void)


def _spread(found: Ratio) -> str:
    return f"{found.middle:.2f} ({found.low:.2f} to {found.high:.2f})"
