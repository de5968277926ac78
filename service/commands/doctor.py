"""``hourglass doctor``: what this machine can do."""

from service.commands.console import (
    EXIT_FAULT,
    Commands,
    Options,
    add_command,
    add_settings,
    read_settings,
    say,
)
from service.doctor import examine
from service.logs import configure_logging


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "Try what this machine can do, name what is wrong and how to mend it."
    parser = add_command(commands, "doctor", doctor, text)
    add_settings(parser, ["models", "device", "device_id", "intra_op_threads"])


def doctor(options: Options) -> int:
    """Try what this machine can do, name what is wrong and how to mend it."""
    settings = read_settings(options)
    configure_logging("text", "error")
    findings = examine(settings)
    for finding in findings:
        say(f"{finding.verdict:<5}  {finding.subject:<11}  {finding.text}")
        if finding.remedy is not None:
            say(f"{'':<20}{finding.remedy}")
    return EXIT_FAULT if any(finding.verdict == "fault" for finding in findings) else 0
