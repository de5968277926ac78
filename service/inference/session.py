"""One graph loaded on a device: the seam between batches and ONNX Runtime.

``Session`` is what a batcher needs, ``OrtSession`` the real one. ONNX Runtime is untyped;
``Any`` ends in this module.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import onnxruntime as ort

from service.errors import (
    AllocationError,
    DeviceLostError,
    DeviceUnavailableError,
    HourglassError,
    PackageError,
)
from service.inference.arena import share_arena
from service.inference.buffers import Buffers
from service.inference.failures import translated, unknown_operator
from service.inference.graphs import has_control_flow
from service.inference.providers import Device, device_fault
from service.specs import Rows

_SILENT = 4  # ONNX Runtime's severity "fatal"

_TERMINATED_MARK = "terminate flag"


class RunStoppedError(Exception):
    """The run was ended by its *Stop*, because nobody waits for it any more."""


class Stop:
    """A handle by which a run in progress can be ended from another thread."""

    __slots__ = ("options",)

    def __init__(self) -> None:
        self.options = ort.RunOptions()
        self.options.log_severity_level = _SILENT
        # "no captured graph"; a bound run that does not find the entry raises an exception inside
        # ONNX Runtime and catches it, which takes 70 us
        self.options.add_run_config_entry("gpu_graph_id", "-1")

    def __call__(self) -> None:
        self.options.terminate = True


class Session(Protocol):
    """A graph that turns rows into one array for each output, first axis the batch."""

    @property
    def provider(self) -> str:
        """The execution provider that really runs it."""
        ...

    @property
    def nodes(self) -> Mapping[str, int]:
        """Number of graph nodes on each execution provider."""
        ...

    @property
    def has_control_flow(self) -> bool:
        """Whether its time may depend on the values."""
        ...

    def run(self, rows: Rows, stop: Stop | None = None) -> tuple[Rows, ...]:
        """Compute all outputs; raise *InferenceError*, or *RunStoppedError* after *stop*.

        Among inference errors *AllocationError* says that fewer rows may fit, *DeviceLostError*
        that nothing will help but a restart.
        """
        ...

    def close(self) -> None:
        """Let go of the graph and its memory."""
        ...


class OrtSession:
    """A graph in ONNX Runtime, made from bytes, on the device it was meant for.

    One run at a time. On a GPU the rows and outputs of a batch size keep their memory from its
    first run on, where the batch axis is the only free one.

    Args:
        graph: Serialised ONNX graph with one input.
        device: Where and how to run. A session that comes up elsewhere is refused.

    Raises:
        PackageError: ONNX Runtime does not take the graph, or there is no memory for it.
        DeviceUnavailableError: The session came up on another provider.
        DeviceLostError: The device broke, now or earlier.
    """

    def __init__(self, graph: bytes, device: Device) -> None:
        self._device = device
        session = self._open(graph)
        self.provider: str = session.get_providers()[0]
        if self.provider != device.provider:
            raise DeviceUnavailableError(f"a session came up on {self.provider}, not on {device}")
        self.nodes: Mapping[str, int] = _nodes_by_provider(session)
        self.has_control_flow = has_control_flow(graph)
        self._session: Any = session
        self._buffers = Buffers.made_for(session, device) if device.kind == "cuda" else None
        self._input: str = session.get_inputs()[0].name
        self._outputs: list[str] = [output.name for output in session.get_outputs()]

    def run(self, rows: Rows, stop: Stop | None = None) -> tuple[Rows, ...]:
        try:
            return tuple(self._run(rows, stop.options if stop else None))
        except Exception as error:
            if _TERMINATED_MARK in str(error):
                raise RunStoppedError from error
            raise translated(error, self._find_fault) from error

    def close(self) -> None:
        self._session = self._buffers = None

    def _run(self, rows: Rows, options: ort.RunOptions | None) -> Sequence[Rows]:
        if self._buffers is not None and self._buffers.take(rows):
            return self._buffers.run(rows, options)
        outputs: Sequence[Rows] = self._session.run(self._outputs, {self._input: rows}, options)
        return outputs

    def _open(self, graph: bytes) -> ort.InferenceSession:
        device = self._device
        options = ort.SessionOptions()
        options.intra_op_num_threads = device.options.intra_op_threads
        options.inter_op_num_threads = 1
        # what goes wrong is raised; on standard error it would break the log, and quote values
        options.log_severity_level = _SILENT
        # spinning doubles the CPU a request costs and wins nothing while HTTP shares the cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if device.kind == "cpu":
            share_arena(options)
        try:
            session = ort.InferenceSession(
                graph,
                options,
                providers=device.providers,
                # else a run that fails on a GPU is made again on the CPU, and so are all after it
                enable_fallback=0,
            )
        except Exception as error:
            raise self._refusal(error) from error
        # kept by its Python side for the fallback that is off: the weights a second time
        session._model_bytes = None  # noqa: SLF001
        return session

    def _refusal(self, error: Exception) -> HourglassError:
        """Say why the graph was not opened."""
        meaning = translated(error, self._find_fault)
        if isinstance(meaning, DeviceLostError):
            return meaning
        if isinstance(meaning, AllocationError):
            return PackageError(f"there is no memory for the graph on {self._device}")
        return PackageError(unknown_operator(error) or "ONNX Runtime does not take the graph")

    def _find_fault(self) -> str | None:
        """Try the device; a CPU that runs this code is none to try."""
        return device_fault(self._device) if self._device.kind == "cuda" else None


def _nodes_by_provider(session: Any) -> dict[str, int]:  # noqa: ANN401 - untyped runtime
    assigned = session.get_provider_graph_assignment_info()
    nodes: dict[str, int] = {}
    for part in assigned:
        nodes[part.ep_name] = nodes.get(part.ep_name, 0) + len(part.get_nodes())
    return nodes
