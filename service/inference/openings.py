"""Queues that are opened by the first request that needs them, because many never are."""

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TypeAlias

from service.errors import DeadlineExceededError, UnavailableError
from service.inference.batcher import Batcher
from service.inference.ticket import Ticket

MakeBatcher: TypeAlias = Callable[[], Batcher]
"""Opens a graph and its queue; called in a thread, for it takes a while."""


class Openings:
    """Opens queues, each once, and puts them beside those that are open.

    Args:
        batchers: The open queues of a model, by name.
        makers: Those that can be opened.
    """

    def __init__(self, batchers: dict[str, Batcher], makers: Mapping[str, MakeBatcher]) -> None:
        self._batchers = batchers
        self._makers = dict(makers)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_leaving = False

    def __contains__(self, name: str) -> bool:
        return name in self._makers

    async def wait_for(self, name: str, ticket: Ticket) -> None:
        """Wait until the queue is open, as long as the deadline allows.

        A request that leaves meanwhile does not take the opening with it.

        Raises:
            DeadlineExceededError: It takes too long.
            UnavailableError: The model is being unloaded.
        """
        if name in self._batchers:
            return
        if name not in self._tasks:
            if self._is_leaving or name not in self._makers:
                raise leaving()
            self._tasks[name] = asyncio.create_task(self._open(name))
        in_time, _ = await asyncio.wait([self._tasks[name]], timeout=_left_s(ticket))
        if not in_time:
            raise DeadlineExceededError("the deadline passed while a graph was being opened")
        in_time.pop().result()

    def leave(self) -> None:
        """Open no more."""
        self._is_leaving = True

    def close(self) -> None:
        """Open no more, and let go of what queues would be made of."""
        self._is_leaving = True
        self._makers.clear()

    async def _open(self, name: str) -> None:
        try:
            batcher = await asyncio.to_thread(self._makers[name])
        finally:
            del self._tasks[name]
        if self._is_leaving:
            batcher.close()
        else:
            self._batchers[name] = batcher


def _left_s(ticket: Ticket) -> float | None:
    left_s = max(0.0, ticket.deadline - perf_counter())
    return left_s if left_s < float("inf") else None


def leaving() -> UnavailableError:
    """What whoever comes too late is told."""
    return UnavailableError("the model is being unloaded")
