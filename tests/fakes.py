"""Small stand-ins with behaviour and visible state."""

import threading
from collections.abc import Callable, Mapping

import numpy as np

from service.errors import InferenceError
from service.inference.lane import Lane
from service.inference.session import RunStoppedError, Stop
from service.specs import Rows

WAIT_S = 5.0  # nothing in a test may wait longer


def doubled(rows: Rows) -> tuple[Rows, ...]:
    return (rows * 2,)


class FakeSession:
    """A session that computes a function, remembers its runs, and can be held or made to fail.

    Args:
        compute: From rows to outputs.
        fails: Rows for which a run raises, by a predicate on the batch.
        control_flow: Keeps runs out of the loop, as a graph with an If would.
    """

    provider = "CPUExecutionProvider"
    nodes: Mapping[str, int] = {"CPUExecutionProvider": 1}

    def __init__(
        self,
        compute: Callable[[Rows], tuple[Rows, ...]] = doubled,
        *,
        fails: Callable[[Rows], bool] = lambda _: False,
        control_flow: bool = False,
    ) -> None:
        self.compute = compute
        self.fails = fails
        self.has_control_flow = control_flow
        self.batches: list[Rows] = []
        self.stopped = 0
        self.is_closed = False
        self.started = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)
        self._gate = threading.Event()
        self._gate.set()

    @property
    def sizes(self) -> list[int]:
        """Rows of each run so far."""
        return [len(batch) for batch in self.batches]

    def hold(self) -> None:
        """Keep every further run until *release*; only for runs in a thread."""
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def release_one(self) -> None:
        """Let the run that is held end, and hold the next."""
        self._passes.release()

    def run(self, rows: Rows, stop: Stop | None = None) -> tuple[Rows, ...]:
        self.batches.append(np.array(rows))
        self.started.release()
        self._wait(stop)
        if self.fails(rows):
            raise InferenceError("the model failed on these rows")
        return self.compute(rows)

    def close(self) -> None:
        self.is_closed = True

    def _wait(self, stop: Stop | None) -> None:
        for _ in range(int(WAIT_S / 0.005)):
            if self._gate.wait(0.005) or self._passes.acquire(blocking=False):
                return
            if stop is not None and stop.options.terminate:
                self.stopped += 1
                raise RunStoppedError
        raise AssertionError("the gate was never opened")


def end(lane: Lane) -> None:
    """Close a lane and wait for its threads, which the next test would count by their names."""
    lane.close()
    for thread in lane._started:
        thread.join(WAIT_S)
