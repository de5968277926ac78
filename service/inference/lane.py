"""The threads of one device, and whose turn it is to start a run on it.

Queues line up here when they have rows. The one that has had the least of the device's time
goes next, so that a model with long runs does not starve one with short ones (start-time fair
queueing: Goyal, Vin and Cheng, 1997, with measured seconds as the cost).
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from service.errors import UnavailableError

T = TypeVar("T")


class Queue(Protocol):
    """Who lines up: rows in front of one session.

    Attributes:
        spent_s: Seconds of the device that it has had.
    """

    spent_s: float

    def start(self) -> bool:
        """Start one run, and tell whether there is more to run."""
        ...


class _Run(Generic[T]):
    """A call for a thread, and who is told of its end in the loop."""

    __slots__ = ("_call", "_done", "_loop", "_outcome")

    def __init__(self, call: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        self._call = call
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._outcome: T | BaseException

    def make(self, then: Callable[[Callable[[], None]], None]) -> None:
        """Make the call in this thread; in the loop, *then* gets the way to tell of its end."""
        try:
            self._outcome = self._call()
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the run
            self._outcome = error
        with suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
            self._loop.call_soon_threadsafe(then, self._tell)

    def _tell(self) -> None:
        self._done(self._outcome)


class Lane:
    """The threads of one device.

    Plain threads with a queue: an executor's futures cost as much as a short run.

    Args:
        name: Of the threads, for debuggers.
        threads: Runs that may go on at the same time. On a CPU the cores; one on a GPU, whose
            sessions want to be called from one thread.
    """

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self.threads = threads
        self.busy = 0
        self._name = name
        self._runs: SimpleQueue[_Run[Any] | None] = SimpleQueue()
        self._started: list[threading.Thread] = []
        self._line: list[Queue] = []
        self._turn: asyncio.Handle | None = None
        self._clock_s = 0.0
        self._closed = False

    @property
    def queues(self) -> int:
        """How many queues have rows to run."""
        return len(self._line)

    def line_up(self, queue: Queue) -> None:
        """Let *queue* start runs when it is its turn, until it says that there is no more.

        Its first turn is at the end of the loop's: all requests that were readable in this turn
        share a run.
        """
        if queue not in self._line:
            # who comes back has no claim to the time in which it wanted nothing
            queue.spent_s = max(queue.spent_s, self._clock_s)
            self._line.append(queue)
        self._schedule()

    def run(self, call: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Make *call* in a thread, and tell *done* in the loop how it ended."""
        if self._closed:
            error = UnavailableError("the model is being unloaded")
            asyncio.get_running_loop().call_soon(done, error)
            return
        self.busy += 1
        if len(self._started) < min(self.busy, self.threads):
            self._start_thread()
        self._runs.put(_Run(call, done))

    def close(self) -> None:
        """End the threads after the runs that they are in; whoever comes now is told so."""
        self._closed = True
        for _ in self._started:
            self._runs.put(None)
        with suppress(RuntimeError):  # no loop runs any more, so nobody waits in it
            self._schedule()

    @property
    def _is_free(self) -> bool:
        return self.busy < self.threads or self._closed

    def _schedule(self) -> None:
        if self._turn is None and self._line and self._is_free:
            self._turn = asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._turn = None
        if self._line and self._is_free:
            queue = min(self._line, key=attrgetter("spent_s"))
            self._clock_s = queue.spent_s
            if not queue.start():
                self._line.remove(queue)
            self._schedule()

    def _start_thread(self) -> None:
        name = f"{self._name}_{len(self._started)}"
        # a daemon: a run without end must not keep the process
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._started.append(thread)
        thread.start()

    def _work(self) -> None:
        while (run := self._runs.get()) is not None:
            run.make(self._finished)
            del run  # its rows are not kept until the next one comes

    def _finished(self, tell: Callable[[], None]) -> None:
        self.busy -= 1
        self._next()  # the device first: answers can be written while it works
        tell()
        self._schedule()


class Lanes:
    """The lane of every device in use, made when it is first asked for.

    Args:
        cpu_threads: Runs that may go on at the same time on the CPU.
    """

    def __init__(self, cpu_threads: int = 1) -> None:
        self._cpu_threads = cpu_threads
        self._lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()  # models load side by side

    def of(self, device: str) -> Lane:
        """Give the lane of ``cpu``, or of one GPU."""
        with self._lock:
            if device not in self._lanes:
                threads = self._cpu_threads if device == "cpu" else 1
                self._lanes[device] = Lane(f"hourglass-{device}", threads=threads)
            return self._lanes[device]

    def close(self) -> None:
        with self._lock:
            for lane in self._lanes.values():
                lane.close()
