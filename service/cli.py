"""The commands; the only reader of the environment and of ``sys.argv``."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from service import __version__
from service.app import create_app
from service.assembly import SessionFactory
from service.doctor import examine
from service.errors import ConfigurationError, HourglassError, PackageError
from service.inference.memory import return_large_blocks
from service.logs import configure_logging
from service.packaging import check_package
from service.placement import server_device
from service.repository.packages import read_manifest, scan
from service.server import EXIT_DEVICE_LOST, Server, end_at_once, make_config
from service.settings import ENVIRONMENT_PREFIX, Settings

EXIT_FAULT = 1
EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status: 0 well, 1 something is wrong, 2 wrongly asked.

    A server also ends with 3, when it cannot start, and with 4, when its device is lost.
    """
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        return int(command(_settings(options)))
    except ConfigurationError as error:
        print(f"hourglass: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to people
        return EXIT_USAGE


def serve(settings: Settings, *, sessions: SessionFactory | None = None) -> int:
    """Serve until a signal comes, or until the device is lost.

    Args:
        settings: How this server is to run.
        sessions: See *create_app*.
    """
    configure_logging(settings.log_format, settings.log_level)
    return_large_blocks()
    app = create_app(settings, sessions=sessions)
    lifecycle, delay_s = app.state.lifecycle, settings.drain_delay_ms / 1e3
    # a name, so that what it holds outlives the run: see end_at_once
    server = Server(make_config(app, settings), lifecycle, drain_delay_s=delay_s)
    server.run()
    if lifecycle.is_device_lost:
        end_at_once(EXIT_DEVICE_LOST)
    return 0


def check(settings: Settings) -> int:
    """Load every package as the server would and say what is wrong with it."""
    configure_logging("text", "error")
    device = server_device(settings)
    faults = 0
    for location in scan(settings.models):
        try:
            operations = check_package(location, settings, device)
        except Exception as error:  # noqa: BLE001 - the server leaves out what fails in any way
            faults += 1
            is_ours = isinstance(error, HourglassError)
            _say(f"{location}  BAD  {error if is_ours else 'it cannot be loaded'}")
        else:
            _say(f"{location}  ok  {', '.join(operations)}")
    return EXIT_FAULT if faults else 0


def models(settings: Settings) -> int:
    """List what the repository holds, by the manifests alone."""
    for location in scan(settings.models):
        try:
            manifest = read_manifest(location)
        except PackageError as error:
            _say(f"{location}  BAD  {error}")
            continue
        size = sum(record.bytes for record in manifest.files.values())
        code = "no code" if manifest.code is None else f"code {list(manifest.code.shape)}"
        title = manifest.title or ""
        _say(f"{location}  {list(manifest.input.shape)} -> {code}  {size / 1e6:.2f} MB  {title}")
    return 0


def doctor(settings: Settings) -> int:
    """Try what this machine can do, name what is wrong and how to mend it."""
    configure_logging("text", "error")
    findings = examine(settings)
    for finding in findings:
        _say(f"{finding.verdict:<5}  {finding.subject:<11}  {finding.text}")
        if finding.remedy is not None:
            _say(f"{'':<20}{finding.remedy}")
    return EXIT_FAULT if any(finding.verdict == "fault" for finding in findings) else 0


def _say(text: str) -> None:
    print(text)  # noqa: T201 - a command speaks to people


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hourglass", description="A REST inference service for autoencoders."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fields = Settings.model_fields
    device = [name for name in fields if name.startswith(("device", "intra_op", "cuda"))]
    for command, names in (
        (serve, list(fields)),
        (check, ["models", "max_batch_rows", *device]),
        (models, ["models"]),
        (doctor, ["models", "device", "device_id", "intra_op_threads"]),
    ):
        text = (command.__doc__ or "").partition("\n")[0]
        sub = commands.add_parser(command.__name__, help=text, description=text)
        sub.set_defaults(command=command)
        for name in names:
            _add_flag(sub, name, fields[name])
    return parser


def _add_flag(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    """Give a setting its flag; pydantic checks the value, whether it is typed or inherited."""
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    text = f"{field.description} [{ENVIRONMENT_PREFIX}{name.upper()}, default {default}]"
    action = argparse.BooleanOptionalAction if field.annotation is bool else "store"
    parser.add_argument(
        "--" + name.replace("_", "-"),
        dest=name,
        default=argparse.SUPPRESS,
        help=text.replace("%", "%%"),
        action=action,
    )


def _settings(flags: dict[str, Any]) -> Settings:
    """Join flags and environment, and refuse what is no setting: it would be a typing error."""
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(n for n in os.environ if n.startswith(ENVIRONMENT_PREFIX) and n not in known)
    if unknown:
        raise ConfigurationError(f"there is no setting {', '.join(unknown)}")
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_faults(error))) from error


def _faults(error: ValidationError) -> list[str]:
    return [
        # the first part is the setting; what follows is pydantic's own: a place in a union
        f"{fault['loc'][0] if fault['loc'] else 'settings'}: {fault['msg']}"
        for fault in error.errors(include_url=False)
    ]
