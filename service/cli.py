"""The command line; with ``service.commands`` the only reader of environment and ``sys.argv``."""

import argparse
import sys
from collections.abc import Sequence

from service import __version__
from service.commands import (
    bench,
    calibrate,
    calibrations,
    check,
    doctor,
    importing,
    key,
    models,
    offline,
    seal,
    serve,
)
from service.commands.console import EXIT_FAULT, EXIT_USAGE, complain, joined
from service.errors import ConfigurationError, HourglassError

_IN_THE_LIST = (
    *(serve, importing, calibrate, calibrations, check, seal, models),
    *(offline, bench, doctor, key),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status: 0 well, 1 something is wrong, 2 wrongly asked.

    A server also ends with 3, when it cannot start, and with 4, when its device is lost.
    """
    typed = joined(sys.argv[1:] if arguments is None else arguments)
    options = vars(_parser().parse_args(typed))
    command = options.pop("command")
    try:
        return int(command(options))
    except HourglassError as error:
        complain(f"hourglass: {error}")
        return EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_FAULT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hourglass", description="A REST inference service for autoencoders."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _IN_THE_LIST:
        module.add(commands)
    return parser
