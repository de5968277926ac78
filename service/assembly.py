"""From a package to a model that serves: graphs, sessions, warm-up, golden rows, queues.

A version that comes out of here has built every graph on the wanted device, has run each at
several batch sizes, and has given the stored answers to its golden rows.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from typing import Final, Literal, Self, TypeAlias

import numpy as np

from service.blueprint import (
    JOIN_MAX_BYTES,
    is_joined,
    make_graphs,
    opened_graphs,
    served_run,
    signature_of,
)
from service.errors import (
    AllocationError,
    DeviceLostError,
    InferenceError,
    PackageError,
    UnavailableError,
)
from service.grants import usable_cores
from service.inference import operations
from service.inference.allowance import Allowance, Turns
from service.inference.arena import shrink_arena
from service.inference.autoencoder import Autoencoder
from service.inference.batcher import Batcher
from service.inference.batching import pad
from service.inference.cost import CostModel, batch_sizes, measure_cost
from service.inference.graphs import (
    CODE,
    RECONSTRUCTION,
    SCORE,
    Graphs,
)
from service.inference.invariance import Run
from service.inference.lane import Lanes
from service.inference.memory import give_back_memory
from service.inference.openings import MakeBatcher
from service.inference.planner import Place
from service.inference.providers import Device
from service.inference.session import OrtSession, RunStoppedError, Session
from service.metrics import Metrics, ModelMetrics, OperationMetrics
from service.placement import device_for
from service.repository.calibrations import (
    CalibrationSet,
    active_calibration,
    calibrations_of,
    load_calibration,
)
from service.repository.golden import GoldenRows, read_golden_rows
from service.repository.manifest import Manifest
from service.repository.packages import Location, Package
from service.scoring import catalogue
from service.scoring.calibration import Calibration, read_calibration
from service.scoring.catalogue import Evidence
from service.scoring.measures import MSE, Scores
from service.scoring.verdicts import Rule, choose_rule
from service.settings import Settings
from service.specs import Rows, TensorSpec

logger = logging.getLogger(__name__)

SessionFactory: TypeAlias = Callable[[bytes, Device], Session]

# larger batches were slower on a CPU (cache), and keep everybody waiting
AUTO_MAX_ROWS: Final = 128

# rows that may wait where nobody is to be refused
NO_LIMIT: Final = 1 << 40

# rows of a free axis to warm up with, where no golden rows say better
FREE_AXIS_LENGTH: Final = 64

# which graph gives which of the golden answers
_GIVES: Final = {
    operations.ENCODE: CODE,
    operations.DECODE: RECONSTRUCTION,
    operations.RECONSTRUCT: RECONSTRUCTION,
    operations.ANOMALY_SCORE: SCORE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What all models of a server share.

    Attributes:
        device: Where sessions are made, unless a manifest says otherwise.
        lanes: The threads of each device.
        make_session: ``OrtSession`` or a fake.
        metrics: Where series are started.
        max_batch_rows: Rows in a run at most, or what is useful for each operation.
        max_queue_rows: Rows that may wait for one operation.
        max_wait_s: See *Batcher*, as *delay_s* and *place*.
        join_max_bytes: Above this a model has only ``encode`` and ``decode`` sessions.
        load_timeout_s: How long a model may take to load.
        on_device_lost: Called when the device can no longer answer.
        lost: Sessions on a lost device; they are kept, because their destructors throw.
        state: Where calibrations lie that were made after the packages.
        stopping: Set when models that are still being loaded are not wanted any more.
        measuring: Taken while runs are timed, so that models that load side by side do not
            disturb each other's figures.
    """

    device: Device
    lanes: Lanes
    make_session: SessionFactory
    metrics: Metrics
    max_batch_rows: int | Literal["auto"] = "auto"
    max_queue_rows: int = 4096
    max_wait_s: float = float("inf")
    delay_s: float = 0.0
    place: Place = "auto"
    join_max_bytes: int = JOIN_MAX_BYTES
    load_timeout_s: float = float("inf")
    on_device_lost: Callable[[], None] = lambda: None
    lost: list[object] = field(default_factory=list)
    state: Path | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    measuring: Turns = field(default_factory=Turns)


def make_engine(
    settings: Settings,
    device: Device,
    metrics: Metrics,
    *,
    sessions: SessionFactory | None = None,
    on_device_lost: Callable[[], None] = lambda: None,
) -> Engine:
    """Make the engine that *settings* ask for; the server and ``hourglass check`` share it."""
    parallel = settings.parallel_runs
    return Engine(
        device=device,
        lanes=Lanes(usable_cores() if parallel == "auto" else parallel),
        make_session=sessions or OrtSession,
        metrics=metrics,
        max_batch_rows=settings.max_batch_rows,
        max_queue_rows=settings.max_queue_rows,
        max_wait_s=settings.max_queue_wait_ms / 1e3,
        delay_s=settings.queue_delay_s,
        place=settings.run_place,
        load_timeout_s=settings.load_timeout_ms / 1e3,
        on_device_lost=on_device_lost,
        state=settings.state,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveModel:
    """A version that serves.

    Attributes:
        calibration: What scores are judged by.
        calibration_set: Which of the stored calibrations that is; ``None`` for the package's own.
        packaged: The package's own.
        model_sha256: Fingerprint of the graphs that serve.
        nodes: For each operation the number of graph nodes on each execution provider.
        operation_metrics: Series by operation, ``infer`` included.
        decoder_metrics: Those of ``infer``, for requests to the decoder.
        default_rule: What holds when a request asks for nothing else.
    """

    manifest: Manifest
    autoencoder: Autoencoder
    calibration: Calibration | None
    calibration_set: CalibrationSet | None
    packaged: Calibration | None
    model_sha256: str
    device: Device
    provider: str
    nodes: Mapping[str, Mapping[str, int]]
    metrics: ModelMetrics
    operation_metrics: Mapping[str, OperationMetrics]
    decoder_metrics: OperationMetrics
    default_rule: Rule

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return str(self.manifest.version)

    def has_guard_of(self, operation: str) -> bool:
        """Whether rows of an operation can be told from rows of another kind."""
        guard = None if self.calibration is None else self.calibration.domain
        if guard is None:
            return False
        return guard.knows_codes if operation == operations.DECODE else True

    def scores_of(self, evidence: Evidence, measure: str) -> Scores:
        """Score rows by a measure that the model is calibrated for, or by ``mse``."""
        fitted = None if self.calibration is None else self.calibration.fitted.get(measure)
        return catalogue.score(measure, evidence, self.manifest.input, fitted)

    def judged_by(
        self, calibration: Calibration | None, chosen: CalibrationSet | None, metrics: Metrics
    ) -> Self:
        """Give the same model with another calibration; requests under way keep the old one."""
        thresholds = default_thresholds(calibration)
        series = metrics.model(self.name, self.version, thresholds=thresholds)
        return replace(
            self,
            calibration=calibration,
            calibration_set=chosen,
            default_rule=choose_rule(calibration),
            metrics=series,
        )

    def close(self) -> None:
        """Drop every session and hand its memory back; the series end with *Metrics.remove*."""
        self.autoencoder.close()
        shrink_arena()
        give_back_memory()


def assemble(package: Package, engine: Engine, allowance: Allowance | None = None) -> LiveModel:
    """Make a live model of a package; blocking, so call it in a thread.

    Args:
        package: What was read.
        engine: What all models share.
        allowance: By which it is stopped when it takes too long.

    Raises:
        PackageError: The package does not do what its manifest says.
        DeviceUnavailableError: A session came up on another device.
        DeviceLostError: The device broke.
    """
    assembly = _Assembly(package, engine, allowance or Allowance())
    try:
        return assembly.run(package)
    except DeviceLostError:
        engine.lost.append(assembly)
        engine.on_device_lost()
        raise
    except AllocationError as error:
        assembly.undo()
        raise PackageError("there is no memory for a run of a graph") from error
    except InferenceError as error:
        assembly.undo()
        raise PackageError("a graph fails on the rows that it is tried with") from error
    except RunStoppedError as error:
        assembly.undo()
        raise UnavailableError("loading was stopped") from error
    except BaseException:
        assembly.undo()
        raise


@contextmanager
def opened(package: Package, engine: Engine) -> Iterator[LiveModel]:
    """Load one model for as long as a block lasts; the engine is of no use afterwards.

    Raises:
        PackageError: The package does not do what its manifest says.
        DeviceUnavailableError: A session came up on another device.
    """
    try:
        live = assemble(package, engine)
        try:
            yield live
        finally:
            live.close()
    finally:
        engine.lanes.close()


class _Assembly:
    """The steps of *assemble*, with what has to be undone when one fails."""

    def __init__(self, package: Package, engine: Engine, allowance: Allowance) -> None:
        self._allowance = allowance
        self._engine = engine
        self._manifest = package.manifest
        self._device = device_for(package.manifest, engine.device)
        self._sessions: dict[str, Session] = {}
        self._queues: dict[str, list[weakref.ref[Batcher]]] = {}
        self._golden = self._read_golden(package)

    def run(self, package: Package) -> LiveModel:
        """Make the live model; what opens graphs later keeps this object, and so no files."""
        manifest, engine = self._manifest, self._engine
        labels = (manifest.name, str(manifest.version))
        later, encoder_layers = self._open(package)
        give_back_memory()  # the graphs; others will want as much before this model is measured
        self._check_golden()
        packaged = self._read_calibration(package)
        chosen, calibration = self._stored_calibration(package) or (None, packaged)
        rule = choose_rule(calibration)
        model = Autoencoder(
            signature_of(manifest),
            {
                name: self._batcher(name, session, self._operation_metrics(name))
                for name, session in self._sessions.items()
            },
            later=later,
            encoder_layers=encoder_layers,
        )
        nodes = {name: dict(session.nodes) for name, session in self._sessions.items()}
        provider = next(iter(self._sessions.values())).provider
        engine.metrics.place(
            *labels,
            provider=provider,
            device=str(self._device),
            precision=manifest.input.dtype,
            nodes=nodes,
        )
        return LiveModel(
            manifest=manifest,
            autoencoder=model,
            calibration=calibration,
            calibration_set=chosen,
            packaged=packaged,
            model_sha256=package.model_sha256,
            default_rule=rule,
            device=self._device,
            provider=provider,
            nodes=nodes,
            metrics=engine.metrics.model(*labels, thresholds=default_thresholds(calibration)),
            operation_metrics={
                name: self._operation_metrics(name) for name in (*operations.ALL, operations.INFER)
            },
            decoder_metrics=engine.metrics.operation(*labels, operations.INFER, part="decoder"),
        )

    def _open(self, package: Package) -> tuple[dict[str, MakeBatcher], tuple[str, ...]]:
        """Open the sessions, say how others are opened later, and let go of the graphs."""
        graphs = make_graphs(package)
        most = self._engine.join_max_bytes
        for operation, graph in opened_graphs(package, graphs, most).items():
            self._sessions[operation] = self._engine.make_session(graph, self._device)
        has_everything = is_joined(package, graphs, most)
        return self._openers(graphs, has_everything=has_everything), graphs.encoder_layers

    def undo(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._engine.metrics.remove(self._manifest.name, str(self._manifest.version))

    def _openers(self, graphs: Graphs, *, has_everything: bool) -> dict[str, MakeBatcher]:
        """Say how to open what is not open from the start, by the names of the queues."""
        openers: dict[str, MakeBatcher] = {}
        if graphs.cut_everything is not None and has_everything:
            openers[operations.INFER] = self._opener(operations.INFER, graphs.cut_everything)
        if graphs.cut_layers is None:
            return openers
        alone = {operations.of_layer(name): (name,) for name in self._manifest.layers}
        together = {operations.LAYERS: graphs.encoder_layers} if graphs.encoder_layers else {}
        for queue, names in (alone | together).items():
            cut = partial(graphs.cut_layers, names)
            openers[queue] = self._opener(operations.ENCODE, cut)
        return openers

    def _opener(self, operation: str, make_graph: Callable[[], bytes]) -> MakeBatcher:
        """Say how to open a graph that counts as *operation*."""
        # its series start now: a model that is closed meanwhile must not start them again
        metrics = self._operation_metrics(operation)

        def open_late() -> Batcher:
            session = self._engine.make_session(make_graph(), self._device)
            try:
                return self._batcher(operation, session, metrics)
            except DeviceLostError:
                self._engine.lost.append(session)
                self._engine.on_device_lost()
                raise
            except BaseException:
                session.close()
                raise

        return open_late

    def _operation_metrics(self, operation: str) -> OperationMetrics:
        manifest = self._manifest
        return self._engine.metrics.operation(manifest.name, str(manifest.version), operation)

    def _batcher(self, operation: str, session: Session, metrics: OperationMetrics) -> Batcher:
        engine = self._engine
        is_cuda = self._device.kind == "cuda"
        largest = self._largest_batch()
        sizes, buckets = self._sizes(largest)
        cost = self._measure(session, self._sample(operation), sizes)
        if engine.max_batch_rows == "auto" and self._manifest.fixed_batch_rows is None:
            largest = min(largest, cost.useful_rows)
        batcher = Batcher(
            session,
            engine.lanes.of(str(self._device)),
            cost=cost,
            metrics=metrics,
            max_batch_rows=largest,
            max_queue_rows=engine.max_queue_rows,
            max_wait_s=engine.max_wait_s,
            delay_s=engine.delay_s,
            buckets=buckets,
            # a GPU's session wants to be called from one thread
            place="thread" if is_cuda else engine.place,
            on_device_lost=engine.on_device_lost,
        )
        queues = self._queues.setdefault(operation, [])
        queues.append(weakref.ref(batcher))
        _show_queues(queues, metrics)
        return batcher

    def _sizes(self, largest: int) -> tuple[list[int], list[int]]:
        """Choose the batch sizes to measure, and those to pad to."""
        fixed = self._manifest.fixed_batch_rows
        if fixed is not None:
            return sorted({1, largest}), [fixed]  # two points show that all runs cost the same
        sizes = batch_sizes(largest)
        # a GPU library tunes itself to every new shape: give it few
        return sizes, sizes if self._device.kind == "cuda" else []

    def _largest_batch(self) -> int:
        """Rows in a run at most, by the settings and the manifest."""
        wanted = self._engine.max_batch_rows
        largest = AUTO_MAX_ROWS if wanted == "auto" else wanted
        return min(largest, self._manifest.max_batch_rows or largest)

    def _measure(self, session: Session, sample: Rows, sizes: list[int]) -> CostModel:
        """Warm the session up, at every size where each counts, and keep the times."""
        served = self._served(session)

        def run(size: int) -> None:
            if self._engine.stopping.is_set():
                raise UnavailableError("the server is stopping")
            rows = pad(sample[:size], size)
            if any(len(output) != size for output in served(rows)):
                raise PackageError(f"a graph does not give {size} rows for {size} rows")

        elements = sample.size // len(sample)
        # a GPU library tunes itself to every new shape, so each has to have been seen
        is_cuda = self._device.kind == "cuda"
        clock = thread_time if self._device.is_the_callers else perf_counter
        with self._allowance.turn(self._engine.measuring):
            return measure_cost(run, sizes, row_elements=elements, thorough=is_cuda, clock=clock)

    def _served(self, session: Session) -> Run:
        return served_run(session, self._manifest, self._allowance.stop)

    def _sample(self, operation: str) -> Rows:
        """Rows that a run can be tried with: golden ones, or the middle of the range."""
        if operation == operations.DECODE:
            if self._golden is not None and CODE in self._golden.answers:
                return self._golden.answers[CODE]
            return _plain_row(self._manifest.code or self._manifest.input)
        return _plain_row(self._manifest.input) if self._golden is None else self._golden.rows

    def _read_golden(self, package: Package) -> GoldenRows | None:
        golden = self._manifest.golden
        return None if golden is None else read_golden_rows(package.files[golden.file])

    def _check_golden(self) -> None:
        """See that every session still gives the stored answers."""
        if self._golden is None or self._manifest.golden is None:
            return
        tolerance = self._manifest.golden.tolerance
        for operation, session in self._sessions.items():
            if _GIVES[operation] not in self._golden.answers:
                raise PackageError(f"the golden rows have no {_GIVES[operation]} to compare with")
            got = self._served(session)(self._sample(operation))
            # packages from before there were further outputs have no answers for them
            further = self._manifest.further_outputs if operation == operations.ENCODE else ()
            for name, answer in zip((_GIVES[operation], *further), got, strict=True):
                if not np.isfinite(answer).all():
                    raise PackageError(f"'{operation}' gives NaN or infinity for the golden rows")
                if not self._golden.agrees(name, answer, tolerance):
                    raise PackageError(
                        f"'{operation}' does not give the answers stored with the golden rows"
                    )

    def _stored_calibration(self, package: Package) -> tuple[CalibrationSet, Calibration] | None:
        """Read the calibration that was activated in the state folder, if one was for this model.

        Raises:
            PackageError: It is damaged. Judging by another one instead would be noticed by nobody.
        """
        if self._engine.state is None or not self._manifest.reconstructs:
            return None
        location = Location(self._manifest.name, self._manifest.version, Path())
        folder = calibrations_of(self._engine.state, location)
        chosen = active_calibration(folder)
        if chosen is None:
            return None
        if chosen.model_sha256 != package.model_sha256:
            logger.warning(
                "calibration %s/%d of %s belongs to other weights and is passed over",
                *(chosen.name, chosen.version, location),
            )
            return None
        return chosen, load_calibration(folder, chosen)

    def _read_calibration(self, package: Package) -> Calibration | None:
        facts = self._manifest.calibration
        if facts is None or not self._manifest.reconstructs:
            return None
        calibration = read_calibration(package.files[facts.file])
        if calibration.model_sha256 != package.model_sha256:
            raise PackageError("the calibration belongs to another model")
        return calibration


def default_thresholds(calibration: Calibration | None) -> dict[str, float | None]:
    """Give for each measure the threshold that its scores are counted by."""
    if calibration is None:
        return {MSE: None}
    return {
        measure: calibration.threshold(measure, calibration.default_rate(measure))
        for measure in calibration.measures
    }


def _show_queues(queues: list["weakref.ref[Batcher]"], metrics: OperationMetrics) -> None:
    """Show how many rows wait for an operation, without keeping its queues alive.

    prometheus-client ties a series and its function into a cycle; frozen, it is never collected.
    """
    metrics.queue_rows.set_function(
        lambda: sum(queue.waiting_rows for seen in list(queues) if (queue := seen()))
    )


def _plain_row(spec: TensorSpec) -> Rows:
    shape = [FREE_AXIS_LENGTH if axis is None else axis for axis in spec.shape]
    middle = sum(spec.range) / 2 if spec.range else 0
    return np.full((1, *shape), middle, spec.numpy_dtype)
