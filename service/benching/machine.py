"""What a measurement was made on, without which its figures mean nothing."""

import platform
from pathlib import Path

from service import __version__
from service.grants import usable_cores
from service.inference.invariance import runtime_version


def describe_machine() -> dict[str, str | int]:
    """Name processor, cores and software."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": runtime_version(),
        "hourglass": __version__,
    }


def _processor() -> str:
    """Name the processor, where the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
