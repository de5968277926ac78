"""``hourglass check``: every package as the server would load it."""

from service.commands.console import (
    DEVICE_SETTINGS,
    EXIT_FAULT,
    Commands,
    Options,
    add_command,
    add_settings,
    read_settings,
    say,
)
from service.errors import HourglassError
from service.logs import configure_logging
from service.packaging import check_package
from service.placement import server_device
from service.repository.packages import scan


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "Load every package as the server would and say what is wrong with it."
    parser = add_command(commands, "check", check, text)
    add_settings(parser, ["models", "max_batch_rows", *DEVICE_SETTINGS])


def check(options: Options) -> int:
    """Load every package as the server would and say what is wrong with it."""
    settings = read_settings(options)
    configure_logging("text", "error")
    device = server_device(settings)
    faults = 0
    for location in scan(settings.models):
        try:
            operations = check_package(location, settings, device)
        except Exception as error:  # noqa: BLE001 - the server leaves out what fails in any way
            faults += 1
            is_ours = isinstance(error, HourglassError)
            say(f"{location}  BAD  {error if is_ours else 'it cannot be loaded'}")
        else:
            say(f"{location}  ok  {', '.join(operations)}")
    return EXIT_FAULT if faults else 0
