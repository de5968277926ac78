"""One loaded version of a model: its operations, and which graph answers what."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from time import perf_counter
from typing import Final, TypeAlias

from service.errors import (
    DeadlineExceededError,
    UnavailableError,
    UnsupportedOperationError,
)
from service.inference.batcher import Batcher
from service.inference.graphs import CODE, RECONSTRUCTION, SCORE, Signature
from service.inference.jobs import Outputs
from service.inference.operations import ANOMALY_SCORE, DECODE, ENCODE, INFER, RECONSTRUCT
from service.inference.ticket import Ticket
from service.scoring.measures import Scores, feature_errors, mean_squared_error
from service.specs import Rows

Codes: TypeAlias = Rows
Reconstructions: TypeAlias = Rows

# which operation gives which output of the graph of everything, in its order
_OUTPUTS: Final = {ENCODE: CODE, RECONSTRUCT: RECONSTRUCTION, ANOMALY_SCORE: SCORE}


class Autoencoder:
    """The operations of one version, each a queue in front of its own graph.

    Args:
        signature: What the rows look like.
        batchers: By operation. A large model has only ``encode`` and ``decode``, which are then
            run in turn for the other operations.
        open_everything: Opens the queue of the graph that gives code, reconstruction and score
            at once; called in a thread at the first request that wants more than one of them.
    """

    def __init__(
        self,
        signature: Signature,
        batchers: Mapping[str, Batcher],
        *,
        open_everything: Callable[[], Batcher] | None = None,
    ) -> None:
        self.signature = signature
        self._batchers = dict(batchers)
        self._open_everything = open_everything
        self._opening: asyncio.Task[None] | None = None
        self._is_leaving = False
        self._operations = _possible(signature, batchers)

    @property
    def operations(self) -> list[str]:
        """What this model can do, in the order of the documents."""
        return list(self._operations)

    @property
    def batchers(self) -> Mapping[str, Batcher]:
        """The queues that are open now, by operation."""
        return self._batchers

    def check(self, operation: str) -> None:
        """See that this model has *operation*, and room in its queue for a row.

        Raises:
            UnsupportedOperationError: It has not; names those that it has.
            OverloadedError: The queue is full.
            UnavailableError: It is being unloaded.
        """
        if not self._batchers:
            raise _leaving()
        if operation not in self._operations:
            raise UnsupportedOperationError(
                f"the model has no operation '{operation}'",
                expected=" or ".join(self.operations),
                received=operation,
            )
        if operation in self._batchers:
            self._batchers[operation].check_room()

    async def encode(self, rows: Rows, ticket: Ticket) -> Codes:
        """Compress rows of the input to codes."""
        return (await self._run(ENCODE, rows, ticket))[0]

    async def decode(self, codes: Codes, ticket: Ticket) -> Reconstructions:
        """Rebuild rows from codes."""
        return (await self._run(DECODE, codes, ticket))[0]

    async def reconstruct(self, rows: Rows, ticket: Ticket) -> Reconstructions:
        """Send rows through encoder and decoder; the same bits as *decode* of *encode*."""
        if RECONSTRUCT in self._batchers:
            return (await self._run(RECONSTRUCT, rows, ticket))[0]
        self.check(RECONSTRUCT)
        return await self.decode(await self.encode(rows, ticket), ticket)

    async def score(self, rows: Rows, ticket: Ticket) -> Scores:
        """Give each row's mean squared reconstruction error; high is abnormal."""
        if ANOMALY_SCORE in self._batchers:
            return (await self._run(ANOMALY_SCORE, rows, ticket))[0]
        self.check(ANOMALY_SCORE)
        return (await self.score_features(rows, ticket))[0]

    async def score_features(self, rows: Rows, ticket: Ticket) -> tuple[Scores, Rows]:
        """Give the bits of *score*, and the squared error of every feature."""
        self.check(ANOMALY_SCORE)
        width = self.signature.input.width
        if self._open_everything is None:
            reconstruction = await self.reconstruct(rows, ticket)
            scores = mean_squared_error(rows, reconstruction, width=width)
        else:
            *_, reconstruction, scores = await self._everything(rows, ticket)
        return scores, feature_errors(rows, reconstruction, width=width)

    async def infer(
        self, rows: Rows, ticket: Ticket, outputs: Collection[str]
    ) -> Mapping[str, Rows]:
        """Give several of code, reconstruction and score at once, by name; perhaps more of them.

        In one run; a large model has a second for its decoder, and is scored by NumPy.
        """
        if INFER in self._batchers or self._open_everything is not None:
            results = await self._everything(rows, ticket)
            names = [_OUTPUTS[name] for name in self._operations if name in _OUTPUTS]
            return dict(zip(names, results, strict=True))
        codes = await self.encode(rows, ticket)
        reconstruction = await self.decode(codes, ticket)
        found = {CODE: codes, RECONSTRUCTION: reconstruction}
        if SCORE in outputs:
            width = self.signature.input.width
            found[SCORE] = mean_squared_error(rows, reconstruction, width=width)
        return found

    async def drain(self) -> None:
        """Refuse newcomers and answer everybody who is in."""
        self._is_leaving = True
        last = self._batchers.get(DECODE)
        first = [batcher for batcher in self._batchers.values() if batcher is not last]
        await asyncio.gather(*(batcher.drain() for batcher in first))
        # only now: what has just been encoded may still be on its way to the decoder
        if last is not None:
            await last.drain()

    def close(self) -> None:
        """Drop every session; the objects themselves are frozen and would keep them alive."""
        self._is_leaving = True
        for batcher in self._batchers.values():
            batcher.close()
        self._batchers.clear()
        self._open_everything = None

    async def _run(self, operation: str, rows: Rows, ticket: Ticket) -> Outputs:
        batcher = self._batchers.get(operation)
        if batcher is None:
            self.check(operation)
            raise _leaving()  # closed since the request came in
        return await batcher.run(rows, ticket)

    async def _everything(self, rows: Rows, ticket: Ticket) -> Outputs:
        if INFER not in self._batchers:
            await self._wait_for_everything(ticket)
        return await self._run(INFER, rows, ticket)

    async def _wait_for_everything(self, ticket: Ticket) -> None:
        """Wait until the queue is open, as long as the deadline allows.

        A request that leaves meanwhile does not take the opening with it.
        """
        if self._opening is None:
            if self._is_leaving or self._open_everything is None:
                raise _leaving()
            self._opening = asyncio.create_task(self._open(self._open_everything))
        in_time, _ = await asyncio.wait([self._opening], timeout=_left_s(ticket))
        if not in_time:
            raise DeadlineExceededError("the deadline passed while a graph was being opened")
        in_time.pop().result()

    async def _open(self, make: Callable[[], Batcher]) -> None:
        try:
            batcher = await asyncio.to_thread(make)
        finally:
            self._opening = None
        if self._is_leaving:
            batcher.close()
        else:
            self._batchers[INFER] = batcher


def _possible(signature: Signature, batchers: Collection[str]) -> tuple[str, ...]:
    in_turn = ENCODE in batchers and DECODE in batchers
    can = {
        ENCODE: ENCODE in batchers,
        DECODE: DECODE in batchers,
        RECONSTRUCT: RECONSTRUCT in batchers or in_turn,
        ANOMALY_SCORE: ANOMALY_SCORE in batchers or (in_turn and signature.reconstructs),
    }
    return tuple(operation for operation, possible in can.items() if possible)


def _left_s(ticket: Ticket) -> float | None:
    left_s = max(0.0, ticket.deadline - perf_counter())
    return left_s if left_s < float("inf") else None


def _leaving() -> UnavailableError:
    return UnavailableError("the model is being unloaded")
