"""One loaded version of a model: its operations, and which graph answers what."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from service.errors import UnsupportedOperationError
from service.inference.batcher import Batcher, Outputs
from service.inference.graphs import Signature
from service.inference.ticket import Ticket
from service.scoring.measures import Scores, feature_errors, mean_squared_error
from service.specs import Rows

Codes: TypeAlias = Rows
Reconstructions: TypeAlias = Rows

ENCODE: Final = "encode"
DECODE: Final = "decode"
RECONSTRUCT: Final = "reconstruct"
ANOMALY_SCORE: Final = "anomaly-score"
INFER: Final = "infer"

ALL: Final = (ENCODE, DECODE, RECONSTRUCT, ANOMALY_SCORE)


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
        self._opening = asyncio.Lock()

    @property
    def operations(self) -> list[str]:
        """What this model can do, in the order of the documents."""
        whole = {ENCODE, DECODE} <= self._batchers.keys()
        can = {
            ENCODE: ENCODE in self._batchers,
            DECODE: DECODE in self._batchers,
            RECONSTRUCT: RECONSTRUCT in self._batchers or whole,
            ANOMALY_SCORE: ANOMALY_SCORE in self._batchers
            or (whole and self.signature.reconstructs),
        }
        return [operation for operation, possible in can.items() if possible]

    @property
    def batchers(self) -> Mapping[str, Batcher]:
        """The queues that are open now, by operation."""
        return self._batchers

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
        return await self.decode(await self.encode(rows, ticket), ticket)

    async def score(self, rows: Rows, ticket: Ticket) -> Scores:
        """Give each row's mean squared reconstruction error; high is abnormal."""
        if ANOMALY_SCORE in self._batchers:
            return (await self._run(ANOMALY_SCORE, rows, ticket))[0]
        return (await self.score_features(rows, ticket))[0]

    async def score_features(self, rows: Rows, ticket: Ticket) -> tuple[Scores, Rows]:
        """Give the bits of *score*, and the squared error of every feature."""
        width = self.signature.input.width
        if self._open_everything is None:
            reconstruction = await self.reconstruct(rows, ticket)
            scores = mean_squared_error(rows, reconstruction, width=width)
        else:
            *_, reconstruction, scores = await self._everything(rows, ticket)
        return scores, feature_errors(rows, reconstruction, width=width)

    async def drain(self) -> None:
        """Refuse newcomers and answer everybody who is in."""
        await asyncio.gather(*(batcher.drain() for batcher in self._batchers.values()))

    def close(self) -> None:
        """Drop every session; the objects themselves are frozen and would keep them alive."""
        for batcher in self._batchers.values():
            batcher.close()
        self._batchers.clear()
        self._open_everything = None

    async def _run(self, operation: str, rows: Rows, ticket: Ticket) -> Outputs:
        batcher = self._batchers.get(operation)
        if batcher is None:
            raise UnsupportedOperationError(
                f"the model has no operation '{operation}'",
                expected=" or ".join(self.operations),
                received=operation,
            )
        return await batcher.run(rows, ticket)

    async def _everything(self, rows: Rows, ticket: Ticket) -> Outputs:
        async with self._opening:
            if INFER not in self._batchers and self._open_everything is not None:
                self._batchers[INFER] = await asyncio.to_thread(self._open_everything)
        return await self._run(INFER, rows, ticket)
