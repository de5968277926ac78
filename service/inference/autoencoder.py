"""One loaded version of a model: its operations, and which graph answers what."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeAlias

from service.errors import UnsupportedOperationError
from service.inference.batcher import Batcher
from service.inference.graphs import CODE, RECONSTRUCTION, SCORE, Signature
from service.inference.jobs import Outputs
from service.inference.openings import MakeBatcher, Openings, leaving
from service.inference.operations import (
    ANOMALY_SCORE,
    DECODE,
    ENCODE,
    INFER,
    LAYERS,
    RECONSTRUCT,
    of_layer,
)
from service.inference.ticket import Ticket
from service.scoring.measures import Scores, mean_squared_error
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
        later: Opens further queues at the first request that needs them: ``infer`` of the graph
            that gives code, reconstruction and score at once, one for each layer by
            ``operations.of_layer``, and ``layers`` of all those in *encoder_layers* at once.
        encoder_layers: What the graph of ``layers`` gives, in its order.
    """

    def __init__(
        self,
        signature: Signature,
        batchers: Mapping[str, Batcher],
        *,
        later: Mapping[str, MakeBatcher] | None = None,
        encoder_layers: Collection[str] = (),
    ) -> None:
        self.signature = signature
        self._batchers = dict(batchers)
        self._openings = Openings(self._batchers, later or {})
        self._has_everything = INFER in self._openings
        self._encoder_layers = tuple(encoder_layers)
        self._operations = _possible(signature, batchers)

    @property
    def operations(self) -> list[str]:
        """What this model can do, in the order of the documents."""
        return list(self._operations)

    @property
    def encoder_layers(self) -> Sequence[str]:
        """The layers that *layers* gives, in its order."""
        return self._encoder_layers

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
        self.check_has(operation)
        self.check_room(operation)

    def check_has(self, operation: str) -> None:
        """See that this model has *operation*.

        Raises:
            UnsupportedOperationError: It has not; names those that it has.
            UnavailableError: It is being unloaded.
        """
        if not self._batchers:
            raise leaving()
        if operation not in self._operations:
            raise UnsupportedOperationError(
                f"the model has no operation '{operation}'",
                expected=" or ".join(self.operations),
                received=operation,
            )

    def check_room(self, queue: str) -> None:
        """See that *queue* has room for a row, if it is open.

        Raises:
            OverloadedError: It is full.
        """
        if queue in self._batchers:
            self._batchers[queue].check_room()

    def check_layer(self, layer: str) -> None:
        """See that this model has *layer*.

        Raises:
            UnsupportedOperationError: It has not; names those that it has.
        """
        layers = self.signature.layers
        if not layers:
            raise UnsupportedOperationError("the model has no layers", expected="no layer")
        if layer not in layers:
            raise UnsupportedOperationError(
                "the model has no such layer", expected=" or ".join(layers)
            )

    async def encode(self, rows: Rows, ticket: Ticket) -> Codes:
        """Compress rows of the input to codes."""
        return (await self._run(ENCODE, rows, ticket))[0]

    async def encode_further(self, rows: Rows, ticket: Ticket) -> Outputs:
        """Give the codes and, from the same run, the further outputs in the manifest's order."""
        return await self._run(ENCODE, rows, ticket)

    async def layer(self, layer: str, rows: Rows, ticket: Ticket) -> Rows:
        """Give what a layer makes of rows of the input."""
        self.check_has(ENCODE)
        self.check_layer(layer)
        return (await self._run_late(of_layer(layer), rows, ticket))[0]

    async def layers(self, rows: Rows, ticket: Ticket) -> Mapping[str, Rows]:
        """Give all layers of the encoder's side at once, by name; in one run.

        Raises:
            UnsupportedOperationError: There is none.
        """
        self.check_has(ENCODE)
        if not self._encoder_layers:
            raise UnsupportedOperationError("the model has no layers on the encoder's side")
        results = await self._run_late(LAYERS, rows, ticket)
        return dict(zip(self._encoder_layers, results, strict=True))

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
        scores: Scores = (await self.infer(rows, ticket, (SCORE,)))[SCORE]
        return scores

    async def infer(
        self, rows: Rows, ticket: Ticket, outputs: Collection[str]
    ) -> Mapping[str, Rows]:
        """Give several of code, reconstruction and score at once, by name; perhaps more of them.

        In one run; a large model has a second for its decoder, and is scored by NumPy.
        """
        if self._has_everything:
            results = await self._run_late(INFER, rows, ticket)
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
        self._openings.leave()
        last = self._batchers.get(DECODE)
        first = [batcher for batcher in self._batchers.values() if batcher is not last]
        await asyncio.gather(*(batcher.drain() for batcher in first))
        # only now: what has just been encoded may still be on its way to the decoder
        if last is not None:
            await last.drain()

    def close(self) -> None:
        """Drop every session; the objects themselves are frozen and would keep them alive."""
        self._openings.close()
        for batcher in self._batchers.values():
            batcher.close()
        self._batchers.clear()

    async def _run(self, operation: str, rows: Rows, ticket: Ticket) -> Outputs:
        batcher = self._batchers.get(operation)
        if batcher is None:
            self.check(operation)
            raise leaving()  # closed since the request came in
        return await batcher.run(rows, ticket)

    async def _run_late(self, queue: str, rows: Rows, ticket: Ticket) -> Outputs:
        if queue not in self._batchers:
            await self._openings.wait_for(queue, ticket)
        batcher = self._batchers.get(queue)
        if batcher is None:
            raise leaving()
        return await batcher.run(rows, ticket)


def _possible(signature: Signature, batchers: Collection[str]) -> tuple[str, ...]:
    in_turn = ENCODE in batchers and DECODE in batchers
    can = {
        ENCODE: ENCODE in batchers,
        DECODE: DECODE in batchers,
        RECONSTRUCT: RECONSTRUCT in batchers or in_turn,
        ANOMALY_SCORE: ANOMALY_SCORE in batchers or (in_turn and signature.reconstructs),
    }
    return tuple(operation for operation, possible in can.items() if possible)
