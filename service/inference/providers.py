"""Execution providers: which device is to be used, and whether it really works.

ONNX Runtime names CUDA as available wherever its CUDA build is installed and then runs on
the CPU with two lines in a log. Here a device counts only after a tiny graph has run on it.
"""

import ctypes
import logging
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from service.errors import DeviceUnavailableError
from service.settings import ArenaExtend, ConvolutionSearch

logger = logging.getLogger(__name__)

WantedDevice: TypeAlias = Literal["auto", "cpu", "cuda"]

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"


_ARENA_EXTEND: Final = {
    "same_as_requested": "kSameAsRequested",
    "next_power_of_two": "kNextPowerOfTwo",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """How sessions on a device are made.

    Attributes:
        intra_op_threads: Threads that share one run on the CPU. One is right while HTTP shares
            the cores.
        cuda_memory_limit_mib: What the arena of a session may take; 0 is no limit.
        cuda_arena_extend: How much it takes when it grows.
        cuda_conv_search: How cuDNN chooses a convolution. A measuring search would begin anew,
            for seconds, at every new shape.
        cuda_tf32: Multiply with 10 bits of mantissa: scores leave their calibration.
        cuda_prefer_nhwc: Convolve with the channels last.
    """

    intra_op_threads: int = 1
    cuda_memory_limit_mib: int = 0
    cuda_arena_extend: ArenaExtend = "same_as_requested"
    cuda_conv_search: ConvolutionSearch = "heuristic"
    cuda_tf32: bool = False
    cuda_prefer_nhwc: bool = False


DEFAULT_OPTIONS: Final = DeviceOptions()


@dataclass(frozen=True, slots=True)
class Device:
    """Where sessions run, and how; its text names the place alone.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        index: Which of several GPUs.
    """

    kind: Literal["cpu", "cuda"] = "cpu"
    index: int = 0
    options: DeviceOptions = DEFAULT_OPTIONS

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"

    @property
    def provider(self) -> str:
        """The execution provider that a session on this device must report."""
        return CPU_PROVIDER if self.kind == "cpu" else CUDA_PROVIDER

    @property
    def is_the_callers(self) -> bool:
        """Whether the thread that asks for a run is the only one that computes it."""
        return self.kind == "cpu" and self.options.intra_op_threads == 1

    @property
    def providers(self) -> list[str | tuple[str, dict[str, Any]]]:
        """What ONNX Runtime is told, best first."""
        if self.kind == "cpu":
            return [CPU_PROVIDER]
        return [(CUDA_PROVIDER, self._cuda_options()), CPU_PROVIDER]

    def _cuda_options(self) -> dict[str, Any]:
        options = self.options
        chosen = {
            "device_id": self.index,
            "cudnn_conv_algo_search": options.cuda_conv_search.upper(),
            "use_tf32": int(options.cuda_tf32),
            "prefer_nhwc": int(options.cuda_prefer_nhwc),
            "arena_extend_strategy": _ARENA_EXTEND[options.cuda_arena_extend],
        }
        if options.cuda_memory_limit_mib:
            chosen["gpu_mem_limit"] = options.cuda_memory_limit_mib << 20
        return chosen


def choose_device(
    wanted: WantedDevice, index: int = 0, options: DeviceOptions = DEFAULT_OPTIONS
) -> Device:
    """Settle on a device that was seen to work.

    ``auto`` takes CUDA where it works and says in the log what it took and why.

    Raises:
        DeviceUnavailableError: ``cuda`` was asked for and does not work here.
    """
    cpu = Device(options=options)
    if wanted == "cpu":
        return cpu
    cuda = Device("cuda", index, options)
    fault = cuda_fault(cuda)
    if fault is None:
        logger.info("models run on %s", cuda)
        return cuda
    if wanted == "cuda":
        raise DeviceUnavailableError(f"the device {cuda} was asked for and does not work: {fault}")
    logger.info("models run on cpu: %s", fault)
    return cpu


def driver_version() -> str | None:
    """Name the NVIDIA driver and the newest CUDA that it supports, ``None`` without one."""
    driver = _load_driver()
    if driver is None:
        return None
    number = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return "an NVIDIA driver that does not answer"
    # CUDA driver API: 1000 * major + 10 * minor
    return f"NVIDIA driver for CUDA {number.value // 1000}.{number.value % 1000 // 10}"


def _load_driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def cuda_fault(device: Device) -> str | None:
    """Look for what a GPU needs, try it, and tell what is wrong, ``None`` if nothing is."""
    if CUDA_PROVIDER not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA provider"
    if _load_driver() is None:
        return "no NVIDIA driver (libcuda.so.1) on this machine"
    ort.preload_dlls()  # finds CUDA and cuDNN where they came as wheels
    return device_fault(device)


def device_fault(device: Device) -> str | None:
    """Run a tiny graph on *device* and tell what is wrong, ``None`` if nothing is."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if device.kind != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(
            doubling(), options, providers=device.providers[:1], enable_fallback=0
        )
        answer = session.run(None, {"x": np.ones((1, 1), np.float32)})[0]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why it does not work
        return " ".join(str(error).split())[:300]
    return None if answer[0, 0] == np.float32(2.0) else "a tiny graph gave a wrong answer"


def doubling() -> bytes:
    """Make a graph with next to nothing in it, from ``x`` to ``y``."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 18)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    return data
