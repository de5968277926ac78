"""What is measured, in which order, and the figures that come of it.

Every case gets several short slices of time, all cases taking turns, so that what a machine does
beside it falls on all of them; a rate is the median of its slices.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from statistics import median
from typing import Final

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from service.benching.child import get, serving
from service.benching.direct import (
    BATCHES,
    THREADS,
    choose_operation,
    direct_run,
    run_directly,
    sample_rows,
)
from service.benching.load import Sample, ask, make_request
from service.errors import ConfigurationError
from service.placement import device_for, server_device
from service.repository.packages import Location, read_package
from service.settings import Settings

SLICES: Final = 3

_BATCH_ROWS: Final = "hourglass_batch_rows"


@dataclass(frozen=True, slots=True)
class ServedCase:
    """Requests of one kind."""

    form: str
    rows: int
    clients: int


@dataclass(frozen=True, slots=True)
class DirectCase:
    """Runs of one kind."""

    threads: int
    rows: int


Case = ServedCase | DirectCase


@dataclass(slots=True)
class Samples:
    """Slices of one case.

    Attributes:
        slices: What was measured.
        runs: Runs of the server meanwhile.
        run_rows: Rows in them.
    """

    slices: list[Sample] = field(default_factory=list)
    runs: float = 0.0
    run_rows: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of a case.

    Attributes:
        rows_per_run: Rows that the server ran together on average; those of the batch, directly.
        share: Of the most rows a second that ONNX Runtime was seen to do directly.
    """

    case: Case
    requests_per_s: float
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    rows_per_run: float
    share: float
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured.

    Attributes:
        seconds: Of each case.
        operation: Of the model; chosen when ``None``.
    """

    seconds: float
    cases: Sequence[ServedCase]
    operation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All that was measured of a model."""

    operation: str
    device: str
    figures: Sequence[Figures]


def served_cases(
    forms: Sequence[str], rows: Sequence[int], clients: Sequence[int]
) -> list[ServedCase]:
    """Give every combination."""
    return [ServedCase(*each) for each in product(forms, rows, clients)]


def measure(
    location: Location,
    settings: Settings,
    plan: Plan,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Result:
    """Measure one version as it is served, and directly.

    Raises:
        HourglassError: The server did not start, or stopped to answer.
    """
    package = read_package(location)
    operation = choose_operation(package, plan.operation)
    device = device_for(package.manifest, server_device(settings))
    # threads of its own are a matter of the CPU
    threads = THREADS if device.kind == "cpu" else THREADS[:1]
    samples: dict[Case, Samples] = {}
    largest = max(settings.max_request_rows, 1)
    if any(case.rows > largest for case in plan.cases):
        raise ConfigurationError(f"a request may hold {largest} rows")
    with ExitStack() as stack:
        runs = {n: stack.enter_context(direct_run(package, operation, device, n)) for n in threads}
        port = stack.enter_context(serving(location, settings))
        path = f"/v1/models/{location.name}/versions/{location.version}/{operation}"
        requests = {
            case: make_request(path, sample_rows(package, case.rows), case.form)
            for case in plan.cases
        }
        for _ in range(SLICES):
            for direct in (DirectCase(*each) for each in product(threads, BATCHES)):
                rows = sample_rows(package, direct.rows)
                sample = run_directly(runs[direct.threads], rows, plan.seconds / SLICES)
                samples.setdefault(direct, Samples()).slices.append(sample)
                on_progress(1)
            for case, request in requests.items():
                into = samples.setdefault(case, Samples())
                _measure_served(port, request, case, plan.seconds / SLICES, into)
                on_progress(1)
    return Result(operation=operation, device=str(device), figures=summarise(samples))


def steps(plan: Plan) -> int:
    """Say how often *measure* tells of its progress, on a CPU."""
    return SLICES * (len(plan.cases) + len(THREADS) * len(BATCHES))


def summarise(samples: Mapping[Case, Samples]) -> list[Figures]:
    """Make figures of what was measured."""
    rates = {
        case: median(len(each.latencies) / each.seconds for each in taken.slices)
        for case, taken in samples.items()
    }
    best = max(rates[case] * case.rows for case in samples if isinstance(case, DirectCase))
    return [_figures(case, taken, rates[case], best) for case, taken in samples.items()]


def _measure_served(
    port: int, request: bytes, case: ServedCase, seconds: float, into: Samples
) -> None:
    runs, rows = _runs_so_far(port)
    sample = asyncio.run(ask(port, request, clients=case.clients, seconds=seconds))
    runs_after, rows_after = _runs_so_far(port)
    into.slices.append(sample)
    into.runs += runs_after - runs
    into.run_rows += rows_after - rows


def _runs_so_far(port: int) -> tuple[float, float]:
    """Count the runs of the server, and the rows in them."""
    _, page = get(port, "/metrics")
    totals = {"_count": 0.0, "_sum": 0.0}
    for family in text_string_to_metric_families(page.decode()):
        if family.name == _BATCH_ROWS:
            for sample in family.samples:
                end = sample.name.removeprefix(_BATCH_ROWS)
                if end in totals:
                    totals[end] += sample.value
    return totals["_count"], totals["_sum"]


def _figures(case: Case, taken: Samples, rate: float, best: float) -> Figures:
    latencies = np.concatenate([each.latencies for each in taken.slices]) * 1e3
    p50, p99 = np.percentile(latencies, (50, 99)) if len(latencies) else (np.nan, np.nan)
    is_direct = isinstance(case, DirectCase)
    return Figures(
        case=case,
        requests_per_s=rate,
        rows_per_s=rate * case.rows,
        p50_ms=float(p50),
        p99_ms=float(p99),
        rows_per_run=case.rows if is_direct else taken.run_rows / max(taken.runs, 1),
        share=rate * case.rows / best,
        failures=sum(each.failures for each in taken.slices),
    )
