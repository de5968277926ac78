"""How long a model may take to load, counted without the time that it waits for others."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from service.inference.session import Stop


class Turns:
    """One at a time. Who is put out has lost its turn, even if it goes on for a while."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holder: object | None = None

    def take(self, who: object) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._holder is None)
            self._holder = who

    def leave(self, who: object) -> None:
        """Let the next one in; nothing happens if it is not the turn of *who*."""
        with self._changed:
            if self._holder is who:
                self._holder = None
                self._changed.notify()


class Allowance:
    """What one load may take, and the handle by which it is ended.

    Args:
        seconds: Its time, without that in *turn* before the turn came.

    Attributes:
        stop: To be handed to each of its runs.
    """

    def __init__(self, seconds: float = float("inf")) -> None:
        self.seconds = seconds
        self.stop = Stop()
        self._started = perf_counter()
        self._waited_s = 0.0
        self._waits_since: float | None = None

    @property
    def left_s(self) -> float:
        """Seconds that are left; asked for from another thread, so that it may lag a little."""
        since, now = self._waits_since, perf_counter()
        waits_s = 0.0 if since is None else now - since
        return self.seconds - (now - self._started - self._waited_s - waits_s)

    @contextmanager
    def turn(self, turns: Turns) -> Iterator[None]:
        """Wait for a turn while the clock stands, and have it."""
        self._waits_since = since = perf_counter()
        turns.take(self)
        self._waited_s += perf_counter() - since
        self._waits_since = None
        try:
            yield
        finally:
            turns.leave(self)

    def end(self, turns: Turns) -> None:
        """Stop the run in progress and every later one, and let others have its turn."""
        self.stop()
        turns.leave(self)
