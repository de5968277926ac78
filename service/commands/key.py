"""``hourglass key``: a new API key, and the line by which a server knows it."""

from service.commands.console import (
    Commands,
    Options,
    add_command,
    add_settings,
    complain,
    read_settings,
    say,
)
from service.keys import INFER, SCOPES, add_line, line_of, make_key
from service.settings import ENVIRONMENT_PREFIX


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "Make an API key: it is printed once, and its SHA-256 added to the file of keys."
    parser = add_command(commands, "key", key, text)
    parser.add_argument("name", metavar="NAME", help="Whose it is; the log names it.")
    parser.add_argument(
        "--scopes", default=INFER, help=f"What it is for: {', '.join(SCOPES)}, by commas [{INFER}]."
    )
    add_settings(parser, ["api_keys_file"])


def key(options: Options) -> int:
    """Make a key and its line; the key alone goes to the standard output."""
    file = read_settings(options).api_keys_file
    made = make_key()
    line = line_of(made, options["name"], options["scopes"])
    if file is None:
        complain(f"the line for the file of {ENVIRONMENT_PREFIX}API_KEYS_FILE:\n{line}")
    else:
        add_line(file, line)
        complain(f"added to {file}; a server that runs reads it at its next start")
    say(made)
    return 0
