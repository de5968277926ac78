"""What the commands share: flags of settings, what people read, and exit statuses."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from service.errors import ConfigurationError
from service.settings import ENVIRONMENT_PREFIX, Settings

EXIT_FAULT: Final = 1
EXIT_USAGE: Final = 2

Options: TypeAlias = Mapping[str, Any]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

DEVICE_SETTINGS: Final = tuple(
    name for name in Settings.model_fields if name.startswith(("device", "intra_op", "cuda"))
)
"""What commands that make sessions take."""


def say(text: str) -> None:
    """Print a line of the command's answer."""
    print(text)  # noqa: T201 - a command speaks to people


def say_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print lines whose cells begin below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def complain(text: str) -> None:
    """Print a line that is no part of the answer: a warning, or why there is none."""
    print(text, file=sys.stderr)  # noqa: T201 - a command speaks to people


@contextmanager
def progress_bar(total: int | None, unit: str, *, quiet: bool) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal; give what moves it on."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm  # noqa: PLC0415 - a server, whose start it would slow down, shows none

    with tqdm(total=total, unit=unit, unit_scale=True) as bar:
        yield bar.update


def joined(arguments: Iterable[str]) -> list[str]:
    """Join flags with values such as ``-1,1``, which argparse takes for another flag."""
    made: list[str] = []
    for argument in arguments:
        is_value = re.match(r"-\.?\d", argument) is not None
        if is_value and made and re.fullmatch(r"--[a-z-]+", made[-1]):
            made[-1] = f"{made[-1]}={argument}"
        else:
            made.append(argument)
    return made


def printable(text: str) -> str:
    """Make *text* of a stranger fit for a line of a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def add_command(
    commands: Commands, name: str, run: Callable[[Options], int], text: str
) -> argparse.ArgumentParser:
    """Give ``hourglass`` a command; *text* is its line in the list of them."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    return parser


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Give settings their flags; pydantic checks the value, whether it is typed or inherited."""
    for name in names:
        _add_flag(parser, name, Settings.model_fields[name])


def read_settings(options: Options) -> Settings:
    """Join flags and environment, and refuse what is no setting: it would be a typing error.

    Raises:
        ConfigurationError: A value or a variable is wrong.
    """
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(n for n in os.environ if n.startswith(ENVIRONMENT_PREFIX) and n not in known)
    if unknown:
        raise ConfigurationError(f"there is no setting {', '.join(unknown)}")
    flags = {name: value for name, value in options.items() if name in Settings.model_fields}
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_faults(error))) from error


def _add_flag(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    shown = "none" if default is None else default
    text = f"{field.description} [{ENVIRONMENT_PREFIX}{name.upper()}, default {shown}]"
    action = argparse.BooleanOptionalAction if field.annotation is bool else "store"
    parser.add_argument(
        "--" + name.replace("_", "-"),
        dest=name,
        default=argparse.SUPPRESS,
        help=text.replace("%", "%%"),
        action=action,
    )


def _faults(error: ValidationError) -> list[str]:
    return [
        # the first part is the setting; what follows is pydantic's own: a place in a union
        f"{fault['loc'][0] if fault['loc'] else 'settings'}: {fault['msg']}"
        for fault in error.errors(include_url=False)
    ]
