"""``hourglass calibrations``: those beside a package, and which one counts."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from service.commands.console import (
    EXIT_FAULT,
    Commands,
    Options,
    add_command,
    add_settings,
    complain,
    printable,
    read_settings,
    say,
    say_columns,
)
from service.errors import ConfigurationError, RequestError
from service.repository.calibrations import (
    CalibrationSet,
    activate,
    active_calibration,
    calibrations_of,
    list_calibrations,
    revert,
)
from service.repository.packages import Location, find_location
from service.settings import Settings

_HEADINGS: Final = ("", "NAME", "CREATED", "ROWS", "METRICS", "DESCRIPTION")


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "List the calibrations of a model that lie in the state folder, or choose one."
    parser = add_command(commands, "calibrations", calibrations, text)
    parser.add_argument("model", metavar="NAME[/VERSION]", help="the newest version without one")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--activate", metavar="NAME[/NUMBER]", help="let this one count; the newest of its name"
    )
    choice.add_argument("--revert", action="store_true", help="take the last choice back")
    add_settings(parser, ["models", "state"])


def calibrations(options: Options) -> int:
    """List the calibrations of a model that lie in the state folder, or choose one."""
    settings = read_settings(options)
    location = find_location(settings.models, options["model"])
    folder = state_of(settings, location)
    try:
        _choose(folder, options)
        active = active_calibration(folder)
        _show(location, list_calibrations(folder), active)
    except RequestError as error:
        raise ConfigurationError(str(error)) from error
    except OSError as error:
        complain(f"hourglass: reading or writing failed: {error.strerror or 'no reason given'}")
        return EXIT_FAULT
    return 0


def state_of(settings: Settings, location: Location) -> Path:
    """Give the folder of a model's calibrations.

    Raises:
        ConfigurationError: There is no state folder.
    """
    if settings.state is None:
        raise ConfigurationError("named calibrations need --state or HOURGLASS_STATE")
    return calibrations_of(settings.state, location)


def _choose(folder: Path, options: Options) -> None:
    if options["revert"]:
        revert(folder)
    elif options["activate"] is not None:
        name, _, number = options["activate"].partition("/")
        if number and not number.isdecimal():
            raise ConfigurationError("--activate takes NAME or NAME/NUMBER")
        activate(folder, name, int(number) if number else None, now=datetime.now(UTC))


def _show(
    location: Location, found: Iterable[CalibrationSet], active: CalibrationSet | None
) -> None:
    rows = [_HEADINGS, *(_cells(each, is_active=each == active) for each in found)]
    counts = "the package's own" if active is None else f"{active.name}/{active.version}"
    say(f"{location} is judged by {counts}")
    if len(rows) > 1:
        say_columns(rows)


def _cells(stored: CalibrationSet, *, is_active: bool) -> tuple[str, ...]:
    return (
        "*" if is_active else "",
        f"{stored.name}/{stored.version}",
        f"{stored.created:%Y-%m-%d %H:%M} UTC",
        str(stored.rows),
        ", ".join(stored.measures),
        printable(stored.description),
    )
