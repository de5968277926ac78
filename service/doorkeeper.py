"""Who may come in, and who has stayed for too long: all connections together, with one timer.

A timer for each connection would have to be set at every answer. Here a connection only notes by
when its client must have done what it waits for, and all are looked over several times a second.
"""

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from service.errors import ConfigurationError
from service.settings import Settings

if sys.platform != "win32":
    import fcntl
    import resource
    import termios

if TYPE_CHECKING:
    from service.connection import Connection

# a connection is cut within this of its time; looking at 10,000 of them takes 2 ms
LOOK_AFTER_S: Final = 0.25

# files for everything else: a serving process has about 20 open, loading a model takes some more
_RESERVED_FILES: Final = 96
# connections over the limit, which health and metrics are answered on
_EXTRA: Final = 32
# without a limit of files there is still memory: 14 KiB for each connection that rests
_AUTO_MAX: Final = 10_000


class Doorkeeper:
    """Keeps the list of open connections.

    Args:
        places: Connections at the same time; the next ones are *extra*.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        # above it, whoever rests between two requests makes room for those who may have one
        self._comfortable = max(1, places - places // 10)
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, connection: "Connection") -> None:
        """Put a new connection on the list."""
        self._connections.add(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(LOOK_AFTER_S, self._ring, connection.loop)

    def leave(self, connection: "Connection") -> None:
        """Take a connection that has ended off the list."""
        self._connections.discard(connection)

    @property
    def is_full(self) -> bool:
        """Whether the connection that came last is one too many to be served."""
        return len(self._connections) > self._places

    @property
    def is_overrun(self) -> bool:
        """Whether it is even one too many to be answered."""
        return len(self._connections) > self._places + _EXTRA

    def look(self, now: float) -> None:
        """Let every connection see to its client's time.

        Args:
            now: By the clock of the loop.
        """
        for connection in list(self._connections):
            connection.look(now)
        surplus = len(self._connections) - self._comfortable
        if surplus > 0:
            resting = [each for each in self._connections if each.is_resting]
            for connection in sorted(resting, key=lambda each: each.due)[:surplus]:
                connection.make_room()

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self.look(loop.time())
        if self._connections:
            self._timer = loop.call_later(LOOK_AFTER_S, self._ring, loop)


def places(settings: Settings, files: int | None) -> int:
    """Say how many connections may be open at the same time.

    Args:
        settings: May name a number.
        files: That the process may have open; ``None`` without a limit.

    Raises:
        ConfigurationError: The number is more than that leaves room for.
    """
    wanted = settings.max_connections
    if files is None:
        return _AUTO_MAX if wanted == "auto" else wanted
    room = max(files - _RESERVED_FILES - _EXTRA, files // 4)
    if wanted == "auto":
        return min(room, _AUTO_MAX)
    if wanted > room:
        raise ConfigurationError(
            f"max_connections is {wanted}, but a process that may have {files} files open"
            f" can serve {room} connections: raise the limit (ulimit -n)"
        )
    return wanted


def file_limit() -> int | None:
    """Tell how many files this process may have open; ``None`` where nothing limits them."""
    if sys.platform == "win32":
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Tell how much the kernel keeps that the client has not taken; 0 where it does not tell."""
    made = transport.get_extra_info("socket")
    if made is None or sys.platform == "win32":
        return 0
    with suppress(OSError, ValueError):  # it may be closed already
        answer = fcntl.ioctl(made.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(answer, sys.byteorder)
    return 0


def reset(transport: asyncio.Transport) -> None:
    """End a connection so that neither this process nor the kernel keeps anything for it."""
    made = transport.get_extra_info("socket")
    if made is not None:
        with suppress(OSError, ValueError):  # it may be closed already
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
