"""``hourglass seal``: a new seal for a manifest that was edited by hand."""

from service.checking import check_packages
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
from service.commands.trials import add_limits, choose, read_limits
from service.repository.packages import read_manifest_text, write_manifest
from service.repository.seal import resealed


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "Check a package whose manifest was edited, and seal the manifest anew."
    parser = add_command(commands, "seal", seal, text)
    parser.add_argument(
        "model", metavar="MODEL[/VERSION]", help="Which one; without a version all."
    )
    add_settings(parser, ["models", "max_batch_rows", *DEVICE_SETTINGS])
    add_limits(parser)


def seal(options: Options) -> int:
    """Check packages without regard to their seals, and seal those that are good."""
    settings = read_settings(options)
    found = choose(settings.models, options["model"])
    texts = {}
    faults = 0
    for location in found:
        texts[location] = read_manifest_text(location)
    for verdict in check_packages(found, settings, read_limits(options), is_sealed=False):
        if verdict.reason is not None:
            faults += 1
            say(f"{verdict.location}  BAD  {printable(verdict.reason)}")
            continue
        before = texts[verdict.location]
        write_manifest(verdict.location, resealed(before), instead_of=before)
        say(f"{verdict.location}  sealed")
    return EXIT_FAULT if faults else 0
