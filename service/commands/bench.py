"""``hourglass bench``: how fast one model is served, beside ONNX Runtime called directly."""

import argparse
import json
from dataclasses import asdict
from typing import Any, Final

from service.benching.load import FORMATS
from service.benching.machine import describe_machine
from service.benching.measuring import (
    SLICES,
    DirectCase,
    Figures,
    Plan,
    Result,
    ServedCase,
    measure,
    served_cases,
    steps,
)
from service.commands.console import (
    EXIT_FAULT,
    Commands,
    Options,
    add_command,
    add_settings,
    complain,
    progress_bar,
    read_settings,
    say,
)
from service.errors import ConfigurationError
from service.inference import operations
from service.logs import configure_logging
from service.repository.packages import Location, find_location

_MAX_CLIENTS: Final = 1000

_HEAD: Final = (
    *("", "requests/s", "rows/s", "p50 ms", "p99 ms", "rows a run", "of the best direct"),
)


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "Measure one model as it is served, beside ONNX Runtime called directly."
    parser = add_command(commands, "bench", bench, text)
    parser.add_argument("model", metavar="NAME[/VERSION]", help="the newest version without one")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each case [5]")
    parser.add_argument(
        "--concurrency",
        type=_numbers,
        default=[1, 8, 32],
        metavar="N,N",
        help="clients that ask at the same time [1,8,32]",
    )
    parser.add_argument(
        "--format", type=_words, default=["raw", "json"], metavar="F,F", help="raw, json [raw,json]"
    )
    parser.add_argument(
        "--rows", type=_numbers, default=[1, 32], metavar="N,N", help="rows of a request [1,32]"
    )
    parser.add_argument(
        "--operation",
        choices=(operations.ANOMALY_SCORE, operations.RECONSTRUCT, operations.ENCODE),
        help="the first of these that the model has",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_settings(
        parser,
        ["models", "device", "device_id", "intra_op_threads", "max_batch_rows", "parallel_runs"],
    )


def bench(options: Options) -> int:
    """Measure one model as it is served, beside ONNX Runtime called directly."""
    settings = read_settings(options)
    configure_logging("text", "error")
    plan = _plan(options)
    location = find_location(settings.models, options["model"])
    with progress_bar(steps(plan), "slices", quiet=options["quiet"]) as move:
        result = measure(location, settings, plan, move)
    machine = describe_machine()
    if options["json"]:
        say(json.dumps(_document(location, plan, result, machine), indent=2))
    else:
        _print(location, plan, result, machine)
    failures = sum(figures.failures for figures in result.figures)
    if failures:
        complain(f"hourglass: {failures} requests failed; the figures leave them out")
    return EXIT_FAULT if failures else 0


def _plan(options: Options) -> Plan:
    unknown = set(options["format"]) - FORMATS.keys()
    if unknown:
        raise ConfigurationError(f"--format is {' or '.join(FORMATS)}")
    if not 0 < options["seconds"] <= 3600:  # noqa: PLR2004 - an hour a case is long enough
        raise ConfigurationError("--seconds is more than 0, and 3600 at most")
    if max(options["concurrency"]) > _MAX_CLIENTS:
        raise ConfigurationError(f"--concurrency is {_MAX_CLIENTS} at most")
    cases = served_cases(options["format"], options["rows"], options["concurrency"])
    return Plan(seconds=options["seconds"], cases=cases, operation=options["operation"])


def _print(location: Location, plan: Plan, result: Result, machine: dict[str, str | int]) -> None:
    say(
        f"{location} {result.operation} on {result.device}; {machine['processor']},"
        f" {machine['cores']} cores, {machine['system']}, ONNX Runtime {machine['onnxruntime']},"
        f" Python {machine['python']}, Hourglass {machine['hourglass']}"
    )
    say(
        f"{plan.seconds:g} s a case in {SLICES} slices taken in turn; clients and server share"
        " the cores"
    )
    lines = [_HEAD, *(_cells(figures) for figures in result.figures)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        say("  ".join([f"{first:<{widths[0]}}", *cells]))


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        _name(figures.case),
        f"{figures.requests_per_s:,.0f}",
        f"{figures.rows_per_s:,.0f}",
        f"{figures.p50_ms:.2f}",
        f"{figures.p99_ms:.2f}",
        f"{figures.rows_per_run:.1f}",
        f"{100 * figures.share:.0f} %",
    )


def _name(case: ServedCase | DirectCase) -> str:
    if isinstance(case, DirectCase):
        plural = "s" if case.threads > 1 else ""
        return f"direct, {case.threads} thread{plural}, batch {case.rows}"
    plural = "s" if case.clients > 1 else ""
    return f"{case.form}, {case.rows} a request, {case.clients} client{plural}"


def _document(
    location: Location, plan: Plan, result: Result, machine: dict[str, str | int]
) -> dict[str, Any]:
    return {
        "model": location.name,
        "version": location.version,
        "operation": result.operation,
        "device": result.device,
        "machine": machine,
        "seconds": plan.seconds,
        "slices": SLICES,
        "cases": [
            {
                "kind": "direct" if isinstance(figures.case, DirectCase) else "served",
                **asdict(figures),
            }
            for figures in result.figures
        ],
    }


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("every number is 1 or more")
    return numbers


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]
