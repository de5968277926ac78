"""Packages that nobody should trust, loaded as the server would in processes that may die of them.

One child serves for all packages that let it live. It loads them in turn, so the package that was
asked for is the one that a crash belongs to.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from service.errors import ConfigurationError
from service.repository.packages import Location
from service.settings import Settings

_ROOT: Final = Path(__file__).parents[1]
_CHILD: Final = "service.trial"

# imports on a busy machine, and a trial of the GPU
_START_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a package may take while it is loaded.

    Attributes:
        memory_mib: Beyond what the process has before.
        timeout_s: From the reading of its files to the end of its trial runs.
    """

    memory_mib: int = 4096
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one package.

    Attributes:
        operations: Those that it has.
        reason: What is wrong with it, ``None`` if nothing is.
        seconds: How long that took.
    """

    location: Location
    operations: list[str]
    reason: str | None
    seconds: float


def check_packages(
    locations: Iterable[Location],
    settings: Settings,
    limits: Limits,
    *,
    is_sealed: bool = True,
    child: str = _CHILD,
) -> Iterator[Verdict]:
    """Load packages as the server does under *settings*.

    Args:
        locations: Where they lie.
        settings: The server's.
        limits: What each may take.
        is_sealed: Whether a manifest must be what its seal says.
        child: The module that a child runs.

    Raises:
        ConfigurationError: The device does not work, or no process can be started.
    """
    order = {
        "settings": settings.model_dump(mode="json"),
        "memory_mib": limits.memory_mib,
        "is_sealed": is_sealed,
    }
    running: _Child | None = None
    try:
        for location in locations:
            if running is None or not running.is_alive:
                running = _Child(child, order, limits.timeout_s)
            yield running.check(location)
    finally:
        if running is not None:
            running.end()


class _Child:
    """A process that loads packages, and what its end meant."""

    def __init__(self, module: str, order: dict[str, Any], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._is_late = False
        # -P: the folder that somebody happens to be in may be as hostile as the packages
        command = [sys.executable, "-P", "-m", module]
        self._popen = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a dying runtime says there names its own sources
            env=os.environ | {"PYTHONPATH": _search_path()},
            encoding="utf-8",
        )
        self.is_alive = True
        answer = self._ask(order, _START_WITHIN_S)
        if answer is None:
            raise ConfigurationError(f"a check cannot begin: {self._end_of_it()}")
        if "fault" in answer:
            self.end()
            raise ConfigurationError(answer["fault"])

    def check(self, location: Location) -> Verdict:
        started = perf_counter()
        asked = {
            "name": location.name,
            "version": location.version,
            "folder": str(location.folder),
        }
        answer = self._ask(asked, self._timeout_s) or {"reason": self._end_of_it()}
        return Verdict(
            location=location,
            operations=answer.get("operations", []),
            reason=answer.get("reason"),
            seconds=perf_counter() - started,
        )

    def end(self) -> None:
        """End it, whatever it is doing."""
        self.is_alive = False
        self._popen.kill()
        self._popen.communicate()

    def _ask(self, order: dict[str, Any], within_s: float) -> dict[str, Any] | None:
        """Give the answer, ``None`` if the process ended instead."""
        if self._popen.stdin is None or self._popen.stdout is None:
            return None
        timer = threading.Timer(within_s, self._kill_late)
        timer.start()
        try:
            self._popen.stdin.write(json.dumps(order) + "\n")
            self._popen.stdin.flush()
            line = self._popen.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        answer: dict[str, Any] | None = json.loads(line) if line.endswith("\n") else None
        return answer

    def _kill_late(self) -> None:
        self._is_late = True
        self._popen.kill()

    def _end_of_it(self) -> str:
        """Say why the process ended."""
        status = self._popen.wait()
        self.end()
        if self._is_late:
            return f"it was not loaded within {self._timeout_s:g} s"
        if status == -signal.SIGKILL:
            return "its process was killed, for want of memory most likely"
        if status < 0:
            return f"it crashes the runtime ({signal.Signals(-status).name})"
        return f"its process ended with status {status}"


def _search_path() -> str:
    """Give the child this very code first, however it was found."""
    return os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
