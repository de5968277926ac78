"""``hourglass score``, ``encode`` and ``reconstruct``: a file instead of a request."""

import argparse
import os
import sys
from typing import Final, get_args

from service.assembly import LiveModel
from service.commands.console import (
    DEVICE_SETTINGS,
    EXIT_FAULT,
    Commands,
    Options,
    add_command,
    add_settings,
    complain,
    progress_bar,
    read_settings,
)
from service.errors import ConfigurationError, RequestError
from service.inference import operations
from service.logs import configure_logging
from service.offline.columns import ColumnChoice
from service.offline.files import (
    STANDARD,
    InputChoice,
    OutputChoice,
    check_apart,
    open_reader,
    open_writer,
)
from service.offline.pipeline import Outcome, Run, open_model, process
from service.repository.packages import find_location, read_package
from service.scoring.thresholds import Method
from service.scoring.verdicts import Rule, RuleWish, choose_rule
from service.settings import Settings

MODEL_SETTINGS: Final = ("models", "state", "max_batch_rows", "parallel_runs", *DEVICE_SETTINGS)

# skipped rows that are named one by one; the rest is counted
_MAX_NAMED: Final = 10

_TEXTS: Final = {
    operations.ANOMALY_SCORE: "Score the rows of a file, or the pictures of a folder.",
    operations.ENCODE: "Write the codes of the rows of a file, or of the pictures of a folder.",
    operations.RECONSTRUCT: "Write what the model makes of the rows of a file or folder.",
}


def add(commands: Commands) -> None:
    """Give ``hourglass`` these commands."""
    score = _add_operation(commands, "score", operations.ANOMALY_SCORE)
    score.add_argument("--metric", help="the measure, one that the model is calibrated for")
    score.add_argument(
        "--false-positive-rate",
        type=float,
        metavar="SHARE",
        help="of normal rows that may be above the threshold",
    )
    score.add_argument("--threshold", type=float, help="a score, instead of a rate")
    score.add_argument(
        "--method", choices=get_args(Method), help="how the threshold is found [conformal]"
    )
    score.add_argument(
        "--heat-maps", action="store_true", help="draw where the errors are; --out is a folder"
    )
    encode = _add_operation(commands, "encode", operations.ENCODE)
    encode.add_argument("--layer", metavar="NAME", help="a layer of the card, instead of the code")
    _add_operation(commands, "reconstruct", operations.RECONSTRUCT)


def add_input(parser: argparse.ArgumentParser) -> None:
    """Give a command the flags that say how a file is read."""
    parser.add_argument("--columns", metavar="A,B", help="columns of a table that make a row")
    parser.add_argument(
        "--ignore-extra", action="store_true", help="pass over columns that the model does not know"
    )
    parser.add_argument(
        "--resize", action="store_true", help="bring pictures to the model's size (bicubic)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def read_input(options: Options, settings: Settings) -> InputChoice:
    """Read those flags."""
    columns = options["columns"]
    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    return InputChoice(
        columns=ColumnChoice(names, ignores_others=options["ignore_extra"]),
        resize=options["resize"],
        max_pixels=settings.max_picture_pixels,
    )


def _add_operation(commands: Commands, name: str, operation: str) -> argparse.ArgumentParser:
    text = _TEXTS[operation]
    parser = add_command(commands, name, lambda options: _run(operation, options), text)
    parser.add_argument(
        "file", metavar="FILE", help="csv, npy or parquet, a folder of pictures, or - for csv"
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME[/VERSION]", help="the newest version without one"
    )
    parser.add_argument(
        "--out",
        default=STANDARD,
        metavar="FILE|FOLDER",
        help="csv, npy or parquet, or a folder for pictures; csv on the standard output without",
    )
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="what a row does that the model does not take; a skipped one has empty values",
    )
    add_input(parser)
    add_settings(parser, [*MODEL_SETTINGS, "max_picture_pixels"])
    return parser


def _run(operation: str, options: Options) -> int:
    settings = read_settings(options)
    configure_logging("text", "error")
    check_apart(options["file"], options["out"])
    try:
        package = read_package(find_location(settings.models, options["model"]))
        with open_model(package, settings) as live:
            outcome = _process(operation, options, settings, live)
    except BrokenPipeError:
        # whoever reads has seen enough; what is still buffered must not be tried again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAULT
    except OSError as error:
        complain(f"hourglass: reading or writing failed: {error.strerror or 'no reason given'}")
        return EXIT_FAULT
    return EXIT_FAULT if outcome.skipped else 0


def _process(operation: str, options: Options, settings: Settings, live: LiveModel) -> Outcome:
    rule = _settle(operation, options, live)
    skips = options["on_error"] == "skip"
    heat_maps = bool(options.get("heat_maps"))
    named: list[str] = []

    def name(fault: str) -> None:
        named.append(fault)
        if len(named) <= _MAX_NAMED:
            complain(f"skipped {fault}")

    with open_reader(options["file"], live.manifest.input, read_input(options, settings)) as reader:
        choice = OutputChoice(
            path=options["out"],
            operation=operation,
            layer=options.get("layer"),
            rule=rule,
            has_names=reader.has_names,
            heat_maps=heat_maps,
            skips=skips,
        )
        writer = open_writer(live, choice)
        with progress_bar(reader.total, reader.unit, quiet=options["quiet"]) as move:
            outcome = process(
                Run(
                    live=live,
                    operation=operation,
                    reader=reader,
                    writer=writer,
                    layer=options.get("layer"),
                    rule=rule,
                    wants_errors=heat_maps,
                    skips=skips,
                    on_fault=name,
                    on_progress=move,
                )
            )
    if not options["quiet"]:
        complain(_summary(live, outcome, rule))
    return outcome


def _settle(operation: str, options: Options, live: LiveModel) -> Rule | None:
    """See that the model can do what is asked, and by which rule.

    Raises:
        ConfigurationError: It cannot.
    """
    if operation not in live.autoencoder.operations:
        can = ", ".join(live.autoencoder.operations)
        raise ConfigurationError(f"{live.name}/{live.version} can only {can}")
    layer = options.get("layer")
    try:
        if layer is not None:
            live.autoencoder.check_layer(layer)
        if operation != operations.ANOMALY_SCORE:
            return None
        wish = RuleWish(
            measure=options["metric"],
            false_positive_rate=options["false_positive_rate"],
            threshold=options["threshold"],
            method=options["method"],
        )
        return choose_rule(live.calibration, wish)
    except RequestError as error:
        raise ConfigurationError(str(error)) from error


def _summary(live: LiveModel, outcome: Outcome, rule: Rule | None) -> str:
    text = f"{live.name}/{live.version}: {outcome.rows} rows"
    if outcome.skipped:
        text += f", {outcome.skipped} of them skipped"
    if rule is None or rule.threshold is None:
        return text
    return f"{text}, {outcome.anomalies} above {rule.threshold:.6g} ({rule.measure})"
