"""``hourglass check``: every package as the server would load it."""

import json

from service.checking import Verdict, check_packages
from service.commands.console import (
    DEVICE_SETTINGS,
    EXIT_FAULT,
    Commands,
    Options,
    add_command,
    add_settings,
    printable,
    read_settings,
    say,
)
from service.commands.trials import add_folder, add_limits, choose, read_limits
from service.errors import ConfigurationError
from service.repository.packages import linked_models


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "Load every package as the server would and say what is wrong with it."
    parser = add_command(commands, "check", check, text)
    add_folder(parser)
    add_settings(parser, ["models", "max_batch_rows", *DEVICE_SETTINGS])
    add_limits(parser)
    parser.add_argument("--model", metavar="NAME[/VERSION]", help="Check this one alone.")
    parser.add_argument("--json", action="store_true", help="Print an object of JSON a line.")


def check(options: Options) -> int:
    """Load every package as the server would and say what is wrong with it."""
    settings = read_settings(options)
    wanted, tell = options["model"], _tell_json if options["json"] else _tell
    found = choose(settings.models, wanted)
    linked = linked_models(settings.models) if wanted is None else []
    if not found and not linked:
        raise ConfigurationError(f"{settings.models} holds no model package")
    for name in linked:
        tell(name, None, "the folder is a link")
    faults = len(linked)
    for verdict in check_packages(found, settings, read_limits(options)):
        tell(str(verdict.location), verdict, verdict.reason)
        faults += verdict.reason is not None
    return EXIT_FAULT if faults else 0


def _tell(subject: str, verdict: Verdict | None, reason: str | None) -> None:
    if verdict is None or reason is not None:
        say(f"{subject}  BAD  {printable(reason or '')}")
    else:
        say(f"{subject}  ok  {', '.join(verdict.operations)}")


def _tell_json(subject: str, verdict: Verdict | None, reason: str | None) -> None:
    name, _, version = subject.partition("/")
    line = {
        "model": name,
        "version": int(version) if version else None,
        "ok": reason is None,
        "operations": verdict.operations if verdict else [],
        "reason": reason,
        "seconds": round(verdict.seconds, 3) if verdict else 0.0,
    }
    say(json.dumps(line))
