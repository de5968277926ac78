"""``hourglass serve``: the server itself."""

from service.app import create_app
from service.assembly import SessionFactory
from service.commands.console import (
    Commands,
    add_command,
    add_settings,
    read_settings,
)
from service.inference.memory import return_large_blocks
from service.logs import configure_logging
from service.server import EXIT_DEVICE_LOST, Server, end_at_once, make_config
from service.settings import Settings


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "Serve until a signal comes, or until the device is lost."
    parser = add_command(commands, "serve", lambda options: serve(read_settings(options)), text)
    add_settings(parser, Settings.model_fields)


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
    if lifecycle.is_stuck:
        end_at_once(0)  # the runtime would be taken apart under a thread that uses it
    return 0
