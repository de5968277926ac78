"""``hourglass calibrate``: what scores of normal rows look like, written into the package."""

from datetime import UTC, datetime
from typing import Final

from service.calibrating import Choice
from service.commands.calibrations import state_of
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
    say_columns,
)
from service.commands.offline import MODEL_SETTINGS, add_input, read_input
from service.errors import ConfigurationError
from service.logs import configure_logging
from service.offline.calibrating import Calibrated, calibrate_rows, misses
from service.offline.files import open_reader
from service.offline.pipeline import open_model
from service.packaging import write_calibration
from service.repository.calibrations import activate, save_calibration
from service.repository.manifest import CalibrationFacts, HeldBackRate
from service.repository.packages import Location, Package, find_location, read_package
from service.scoring.calibration import DEFAULT_FALSE_POSITIVE_RATE
from service.scoring.measures import MSE
from service.settings import Settings

_COLUMNS: Final = ("rate", "threshold", "rows above", "achieved", "95 % interval")


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "Calibrate a model on clean rows, and write that into its package."
    parser = add_command(commands, "calibrate", calibrate, text)
    parser.add_argument("model", metavar="NAME[/VERSION]", help="the newest version without one")
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE|FOLDER",
        help="clean rows that the model was not trained on: csv, npy, parquet or pictures",
    )
    parser.add_argument(
        "--name",
        help="keep it beside the package, in the state folder, under this name, and judge by it",
    )
    parser.add_argument(
        "--hold-out",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="of the rows to try the thresholds on, instead of setting them [0.2]",
    )
    parser.add_argument(
        "--metrics",
        metavar="A,B",
        help="what to calibrate [all that suit the model and learn no more than 1 MiB]",
    )
    parser.add_argument(
        "--default-metric", default=MSE, metavar="A", help=f"what scores without a wish [{MSE}]"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides which rows those are [0]")
    parser.add_argument(
        "--description", default="", metavar="TEXT", help="what the rows are; for the model card"
    )
    add_input(parser)
    add_settings(parser, [*MODEL_SETTINGS, "max_picture_pixels"])


def calibrate(options: Options) -> int:
    """Calibrate a model on clean rows, and write that into its package."""
    # scores in less precision would not be those of a server, which never uses it for them
    settings = read_settings(options).model_copy(update={"cuda_tf32": False})
    configure_logging("text", "error")
    if not 0 <= options["hold_out"] < 1:
        raise ConfigurationError("--hold-out is a share of the rows: from 0 to less than 1")
    if options["seed"] < 0:
        raise ConfigurationError("--seed is not negative")
    location = find_location(settings.models, options["model"])
    if options["name"] is not None:
        state_of(settings, location)
    try:
        made = _calibrated(options, settings, location)
        place = _keep(options, settings, location, made)
    except OSError as error:
        complain(f"hourglass: reading or writing failed: {error.strerror or 'no reason given'}")
        return EXIT_FAULT
    _report(location, made, place)
    return 0


def _calibrated(options: Options, settings: Settings, location: Location) -> Calibrated:
    package = read_package(location)
    choice = read_input(options, settings)
    with (
        # nor by a calibration of the state folder, which may be damaged as well
        open_model(_uncalibrated(package), settings.model_copy(update={"state": None})) as live,
        open_reader(options["data"], live.manifest.input, choice) as reader,
        progress_bar(reader.total, reader.unit, quiet=options["quiet"]) as move,
    ):
        return calibrate_rows(
            live,
            reader,
            model_sha256=package.model_sha256,
            hold_out=options["hold_out"],
            seed=options["seed"],
            choice=_choice(options),
            on_progress=move,
        )


def _choice(options: Options) -> Choice:
    metrics = options["metrics"]
    names = None if metrics is None else tuple(name.strip() for name in metrics.split(","))
    return Choice(names, options["default_metric"])


def _uncalibrated(package: Package) -> Package:
    """Leave out the calibration that is to be replaced: it may be what keeps it from loading."""
    return Package(package.manifest.model_copy(update={"calibration": None}), package.files)


def _facts(options: Options, made: Calibrated) -> CalibrationFacts:
    return CalibrationFacts(
        file="chosen-when-written",
        data=options["description"],
        rows=made.calibration.rows,
        data_sha256=made.calibration.data_sha256,
        held_back=made.held_back,
    )


def _keep(options: Options, settings: Settings, location: Location, made: Calibrated) -> str:
    """Write a calibration where it is wanted, and name that."""
    name = options["name"]
    if name is None:
        return write_calibration(location, made.calibration, _facts(options, made))
    folder = state_of(settings, location)
    now, description = datetime.now(UTC), options["description"]
    stored = save_calibration(folder, name, made.calibration, now=now, description=description)
    activate(folder, stored.name, stored.version, now=now)
    return f"the state folder as {stored.name}/{stored.version}"


def _report(location: Location, made: Calibrated, file: str) -> None:
    held = made.held_back.rows if made.held_back is not None else 0
    say(f"{location}: calibrated on {made.calibration.rows} rows, {held} held back; in {file}")
    metrics = ", ".join(made.calibration.measures)
    say(f"metrics: {metrics}; the default is {made.calibration.default_measure}")
    if not made.is_exact:
        say("the scale of heat maps is at most 0.05 % too high: it was counted in bins")
    default = made.calibration.default_false_positive_rate
    if default > DEFAULT_FALSE_POSITIVE_RATE:
        complain(f"warning: so few rows cannot show 1 %; {_percent(default)} is the default rate")
    if made.held_back is None:
        say("nothing is known of the rates: no rows were held back to try the thresholds on")
        return
    say_columns([_COLUMNS, *(_cells(rate, held) for rate in made.held_back.rates)])
    for rate in made.held_back.rates:
        if misses(rate):
            wanted = _percent(rate.false_positive_rate)
            complain(f"warning: the rows held back speak against a rate of {wanted}")


def _cells(rate: HeldBackRate, held: int) -> tuple[str, ...]:
    low, high = rate.interval
    return (
        _percent(rate.false_positive_rate),
        f"{rate.threshold:.6g}",
        f"{rate.rows_above} of {held}",
        _percent(rate.achieved),
        f"{_percent(low)} to {_percent(high)}",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
