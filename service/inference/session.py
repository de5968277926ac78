"""One graph loaded on a device: the seam between batches and ONNX Runtime.

``Session`` is what a batcher needs, ``OrtSession`` the real one. ONNX Runtime is untyped;
``Any`` ends in this module.
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import onnxruntime as ort

from service.errors import DeviceLostError, DeviceUnavailableError, InferenceError, PackageError
from service.inference.graphs import has_control_flow
from service.inference.providers import Device
from service.specs import Rows

logger = logging.getLogger(__name__)

# cudaErrorIllegalAddress, MisalignedAddress, InvalidPc, LaunchFailure and relatives: the
# context is corrupt and every later call fails as well (CUDA runtime API, error handling)
_LOST_DEVICE_MARKS = tuple(f"CUDA failure {code}" for code in (700, 714, 715, 716, 717, 718, 719))
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
        """Compute all outputs; raise *InferenceError*, or *RunStoppedError* after *stop*."""
        ...

    def close(self) -> None:
        """Let go of the graph and its memory."""
        ...


class OrtSession:
    """A graph in ONNX Runtime, made from bytes, on the device it was meant for.

    Args:
        graph: Serialised ONNX graph with one input.
        device: Where to run. A session that comes up elsewhere is refused.
        intra_op_threads: Threads that share one run. One is right while HTTP shares the cores.

    Raises:
        PackageError: ONNX Runtime does not take the graph.
        DeviceUnavailableError: The session came up on another provider.
    """

    def __init__(self, graph: bytes, device: Device, *, intra_op_threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        # what goes wrong is raised; on standard error it would break the log, and quote values
        options.log_severity_level = _SILENT
        # spinning doubles the CPU a request costs and wins nothing while HTTP shares the cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            session = ort.InferenceSession(graph, options, providers=device.providers)
        except Exception as error:
            raise PackageError("ONNX Runtime does not take the graph") from error
        self.provider: str = session.get_providers()[0]
        if self.provider != device.provider:
            raise DeviceUnavailableError(f"a session came up on {self.provider}, not on {device}")
        self.nodes: Mapping[str, int] = _nodes_by_provider(session)
        self.has_control_flow = has_control_flow(graph)
        self._session: Any = session
        self._input: str = session.get_inputs()[0].name
        self._outputs: list[str] = [output.name for output in session.get_outputs()]

    def run(self, rows: Rows, stop: Stop | None = None) -> tuple[Rows, ...]:
        try:
            outputs = self._session.run(
                self._outputs, {self._input: rows}, stop.options if stop else None
            )
        except Exception as error:
            raise _translated(error) from error
        return tuple(outputs)

    def close(self) -> None:
        self._session = None


def _nodes_by_provider(session: Any) -> dict[str, int]:  # noqa: ANN401 - untyped runtime
    assigned = session.get_provider_graph_assignment_info()
    nodes: dict[str, int] = {}
    for part in assigned:
        nodes[part.ep_name] = nodes.get(part.ep_name, 0) + len(part.get_nodes())
    return nodes


def _translated(error: Exception) -> Exception:
    text = str(error)
    if _TERMINATED_MARK in text:
        return RunStoppedError()
    if any(mark in text for mark in _LOST_DEVICE_MARKS):
        logger.critical("the device is lost until the process restarts", exc_info=error)
        return DeviceLostError("the device failed")
    return InferenceError("the model failed on these rows")
