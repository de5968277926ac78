"""The way of a file: read, answer, write; several chunks in flight, answers in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry

from service.assembly import NO_LIMIT, LiveModel, make_engine, opened
from service.errors import InferenceError, InvalidRowsError
from service.inference import operations
from service.inference.evidence import gather
from service.inference.ticket import Ticket
from service.metrics import Metrics
from service.offline.chunks import Answer, Chunk, Reader, Writer
from service.placement import server_device
from service.repository.packages import Package
from service.scoring import catalogue
from service.scoring.catalogue import Evidence, Need
from service.scoring.measures import MSE, feature_errors
from service.scoring.verdicts import Rule, above
from service.settings import Settings

# while the first of them is written, the device has the others; more would only take memory
IN_FLIGHT: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One file, from its reader to its writer.

    Attributes:
        operation: What the model does with each row.
        layer: The layer that *encode* gives instead of the code.
        rule: What makes a score an anomaly.
        wants_errors: Whether a score comes with the error of every feature.
        needs: What the evidence must hold that comes with a score; ``None`` for no evidence.
        skips: Go on after rows that are wrong, instead of ending at the first.
        on_fault: Told of every row that is left out.
        on_progress: Told how far it has come, in the reader's unit.
    """

    live: LiveModel
    operation: str
    reader: Reader
    writer: Writer
    layer: str | None = None
    rule: Rule | None = None
    wants_errors: bool = False
    needs: frozenset[Need] | None = None
    skips: bool = False
    on_fault: Callable[[str], None] = lambda _: None
    on_progress: Callable[[int], object] = lambda _: None


@dataclass(slots=True)
class Outcome:
    """What came of a run, counted in rows."""

    rows: int = 0
    skipped: int = 0
    anomalies: int = 0


@contextmanager
def open_model(package: Package, settings: Settings) -> Iterator[LiveModel]:
    """Load a model as the server would, with a queue that refuses nothing.

    Raises:
        PackageError: It does not do what its manifest says.
        DeviceUnavailableError: The device that *settings* ask for does not work here.
    """
    engine = make_engine(settings, server_device(settings), Metrics(CollectorRegistry()))
    engine = replace(engine, max_queue_rows=NO_LIMIT, max_wait_s=float("inf"))
    with opened(package, engine) as live:
        yield live


def process(run: Run) -> Outcome:
    """Answer every row of a file.

    Raises:
        RequestError: The file, or a row when none may be skipped, is not what the model takes.
        InferenceError: The model fails.
        OSError: The file cannot be read, or the answer not written.
    """
    try:
        outcome = asyncio.run(_process(run))
        run.writer.finish()
    except BaseException:
        run.writer.abandon()
        raise
    return outcome


async def _process(run: Run) -> Outcome:
    outcome = Outcome()

    async def write(answer: Answer) -> None:
        _count(run, answer, outcome)
        await asyncio.to_thread(run.writer.write, answer)
        run.on_progress(answer.chunk.done)

    await _in_order(iter(run.reader), lambda chunk: _answer(run, chunk), write)
    if not outcome.rows:
        raise InvalidRowsError("the file holds no rows")
    return outcome


async def _in_order(
    chunks: Iterator[Chunk],
    answer: Callable[[Chunk], Awaitable[Answer]],
    write: Callable[[Answer], Awaitable[None]],
) -> None:
    """Read ahead and keep some chunks in flight; write in the order of reading."""
    waiting: deque[asyncio.Future[Answer]] = deque()
    reading = _read_apart(chunks)
    try:
        while (chunk := await reading) is not None:
            reading = _read_apart(chunks)
            waiting.append(asyncio.ensure_future(answer(chunk)))
            if len(waiting) == IN_FLIGHT:
                await write(await waiting.popleft())
        while waiting:
            await write(await waiting.popleft())
    finally:
        rest: list[asyncio.Future[Any]] = [reading, *waiting]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


def _read_apart(chunks: Iterator[Chunk]) -> asyncio.Future[Chunk | None]:
    return asyncio.ensure_future(asyncio.to_thread(next, chunks, None))


async def _answer(run: Run, chunk: Chunk) -> Answer:
    """Answer a chunk; a row that the model fails on is left out of it."""
    while len(chunk.rows):
        try:
            answer = await _compute(run, chunk)
        except InferenceError as error:
            if error.row is None:
                raise
            chunk = chunk.without(error.row, str(error))
        else:
            return answer
    return _no_answer(run, chunk)


async def _compute(run: Run, chunk: Chunk) -> Answer:
    """Ask the model as a request would."""
    model, rows = run.live.autoencoder, chunk.rows
    if run.layer is not None:
        return Answer(chunk, await model.layer(run.layer, rows, Ticket()))
    match run.operation:
        case operations.ENCODE:
            return Answer(chunk, await model.encode(rows, Ticket()))
        case operations.RECONSTRUCT:
            return Answer(chunk, await model.reconstruct(rows, Ticket()))
    measure = MSE if run.rule is None else run.rule.measure
    if measure == MSE and not run.wants_errors and run.needs is None:
        return Answer(chunk, await model.score(rows, Ticket()))
    needs = catalogue.needs_of([measure]) | (run.needs or frozenset())
    evidence = await gather(model, needs, rows, Ticket())
    return await asyncio.to_thread(_scored, run, chunk, evidence, measure)


def _scored(run: Run, chunk: Chunk, evidence: Evidence, measure: str) -> Answer:
    errors = None
    if run.wants_errors and evidence.reconstructions is not None:
        width = run.live.manifest.input.width
        errors = feature_errors(evidence.rows, evidence.reconstructions, width=width)
    scores = run.live.scores_of(evidence, measure)
    return Answer(chunk, scores, errors, None if run.needs is None else evidence)


def _no_answer(run: Run, chunk: Chunk) -> Answer:
    """Answer a chunk of which no row is left."""
    manifest = run.live.manifest
    specs = {operations.ENCODE: manifest.code, operations.RECONSTRUCT: manifest.output}
    spec = specs.get(run.operation) if run.layer is None else manifest.layers[run.layer].spec
    if spec is None:
        return Answer(chunk, np.empty(0, np.float32), np.empty((0, 0), np.float32))
    shape = [axis or 1 for axis in spec.shape]
    return Answer(chunk, np.empty((0, *shape), spec.numpy_dtype))


def _count(run: Run, answer: Answer, outcome: Outcome) -> None:
    """Count the rows of an answer, and tell of those that were left out.

    Raises:
        InvalidRowsError: There is one, and none may be.
    """
    faults = answer.chunk.told_faults()
    if faults and not run.skips:
        raise InvalidRowsError(faults[0])
    for fault in faults:
        run.on_fault(fault)
    outcome.rows += answer.chunk.count
    outcome.skipped += len(faults)
    if run.rule is not None and run.rule.threshold is not None:
        outcome.anomalies += int(above(answer.values, run.rule.threshold).sum())
