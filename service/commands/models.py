"""``hourglass models``: what the repository holds."""

from service.commands.console import (
    Commands,
    Options,
    add_command,
    add_settings,
    read_settings,
    say,
)
from service.errors import PackageError
from service.repository.packages import read_manifest, scan


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "List what the repository holds, by the manifests alone."
    add_settings(add_command(commands, "models", models, text), ["models"])


def models(options: Options) -> int:
    """List what the repository holds, by the manifests alone."""
    for location in scan(read_settings(options).models):
        try:
            manifest = read_manifest(location)
        except PackageError as error:
            say(f"{location}  BAD  {error}")
            continue
        size = sum(record.bytes for record in manifest.files.values())
        code = "no code" if manifest.code is None else f"code {list(manifest.code.shape)}"
        title = manifest.title or ""
        say(f"{location}  {list(manifest.input.shape)} -> {code}  {size / 1e6:.2f} MB  {title}")
    return 0
