"""What commands share that try packages: which ones, and within which limits."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from service.checking import Limits
from service.commands.console import Options
from service.errors import ConfigurationError
from service.repository.packages import Location, scan

N = TypeVar("N", int, float)


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Let the repository be given as it is, besides ``--models``."""
    parser.add_argument(
        "models",
        metavar="FOLDER",
        nargs="?",
        default=argparse.SUPPRESS,
        help="Folder of the model repository, as --models.",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Give a command the flags of what a package may take."""
    parser.add_argument(
        "--memory-mib",
        type=_positive(int),
        default=Limits().memory_mib,
        help="MiB that a package may take while it is loaded (Linux). [default %(default)s]",
    )
    parser.add_argument(
        "--timeout-s",
        type=_positive(float),
        default=Limits().timeout_s,
        help="Seconds that a package may take. [default %(default)g]",
    )


def read_limits(options: Options) -> Limits:
    """Read what *add_limits* has added."""
    return Limits(memory_mib=options["memory_mib"], timeout_s=options["timeout_s"])


def choose(models: Path, wanted: str | None) -> list[Location]:
    """List what the repository holds of *wanted*, a name or name/version, or all of it.

    Raises:
        ConfigurationError: It holds nothing of that.
    """
    found = [
        location for location in scan(models) if wanted in {None, location.name, str(location)}
    ]
    if not found and wanted is not None:
        raise ConfigurationError(f"{models} holds no model {wanted}")
    return found


def _positive(kind: type[N]) -> Callable[[str], N]:
    def read(text: str) -> N:
        number = kind(text)
        if not 0 < number < float(1 << 40):  # NaN is refused too
            raise ValueError(text)
        return number

    read.__name__ = f"positive {kind.__name__}"  # argparse says it: "invalid positive int value"
    return read
