"""One load of a package, in a thread that can be given up."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from service.assembly import Engine, LiveModel
from service.errors import PackageError
from service.inference.allowance import Allowance

# a run ends some milliseconds after it was told to
ENDS_WITHIN_S: Final = 1.0
# the clock may stand, so look again, but not all the time
LOOK_AGAIN_S: Final = 0.05


class Load:
    """A package on its way to a live model.

    The thread is a daemon: ONNX Runtime cannot be stopped while it opens a graph, or in the
    middle of a node, and a process must be able to end meanwhile.

    Args:
        make: Makes the live model; blocking.
        engine: Its settings say how long that may take.
        drop: Told of a live model for which nobody waits any more.
    """

    def __init__(
        self,
        make: Callable[[Allowance], LiveModel],
        engine: Engine,
        drop: Callable[[LiveModel], None],
    ) -> None:
        self._make = make
        self._engine = engine
        self._drop = drop
        self._allowance = Allowance(engine.load_timeout_s)
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[LiveModel] = self._loop.create_future()
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)

    @property
    def is_stuck(self) -> bool:
        """Whether nobody waits for it any more, and its thread goes on."""
        return self._outcome.cancelled() and self._thread.is_alive()

    def stop(self) -> None:
        """End it as soon as it can be ended."""
        self._allowance.end(self._engine.measuring)

    async def run(self) -> LiveModel:
        """Load, within the time that there is.

        Raises:
            PackageError: It took too long, or whatever *make* raises.
        """
        self._thread.start()
        try:
            while (left_s := self._allowance.left_s) > 0:
                if await self._is_over(max(left_s, LOOK_AGAIN_S)):
                    return self._outcome.result()
            self.stop()
            if await self._is_over(ENDS_WITHIN_S) and self._outcome.exception() is None:
                return self._outcome.result()
        finally:
            self._outcome.cancel()  # which changes nothing where there is one
        raise PackageError(f"it was not loaded within {self._allowance.seconds:g} s")

    async def _is_over(self, within_s: float) -> bool:
        done, _ = await asyncio.wait({self._outcome}, timeout=within_s)
        return bool(done)

    def _work(self) -> None:
        outcome: LiveModel | BaseException
        try:
            outcome = self._make(self._allowance)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for it
            outcome = error
        with suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: LiveModel | BaseException) -> None:
        if isinstance(outcome, BaseException):
            if not self._outcome.done():
                self._outcome.set_exception(outcome)
        elif self._outcome.done():
            self._drop(outcome)
        else:
            self._outcome.set_result(outcome)
