"""What this machine can really do, what is wrong with it, and how to mend it.

Every finding comes from a trial or a file, never from what a library says of itself.
"""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Final, Literal, TypeAlias

from service.grants import CGROUPS, affine_cores, cpu_quota, memory_limit_bytes
from service.inference.providers import Device, cuda_fault, device_fault, driver_version
from service.repository.packages import scan
from service.settings import Settings

Verdict: TypeAlias = Literal["ok", "note", "fault"]

# the process with the bundled model takes 140 MiB; the largest body and its rows come on top
MEMORY_MIN_BYTES: Final = 256 << 20

# each brings the import package ``onnxruntime``: the last one installed overwrites the others
_RUNTIMES: Final = frozenset(
    {
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-directml",
        "onnxruntime-openvino",
        "onnxruntime-qnn",
        "onnxruntime-rocm",
        "onnxruntime-training",
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        subject: What was looked at.
        verdict: ``fault`` when the service cannot work as it is configured.
        text: What was found.
        remedy: What to do about it.
    """

    subject: str
    verdict: Verdict
    text: str
    remedy: str | None = None


def examine(settings: Settings, *, cgroups: Path = CGROUPS) -> list[Finding]:
    """Look at everything that decides whether and how the service runs here."""
    return [
        _python(),
        _runtime(sorted(_installed())),
        _cpu(),
        *_cuda(settings),
        _cores(settings, cgroups),
        _memory(cgroups),
        _repository(settings.models),
    ]


def _python() -> Finding:
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", "ok", system)


def _installed() -> Iterator[str]:
    for distribution in distributions():
        name = str(distribution.metadata["Name"]).lower().replace("_", "-")
        if name in _RUNTIMES:
            yield name


def _runtime(installed: Sequence[str]) -> Finding:
    if len(installed) > 1:
        names = " ".join(installed)
        return Finding(
            "onnxruntime",
            "fault",
            f"{', '.join(installed)} overwrite each other's files",
            f"pip uninstall -y {names} && pip install {installed[-1]}",
        )
    if not installed:  # built from source, say: the trials below decide
        return Finding("onnxruntime", "note", "not installed as a known package")
    return Finding("onnxruntime", "ok", f"{installed[0]} {version(installed[0])}")


def _cpu() -> Finding:
    fault = device_fault(Device())
    if fault is not None:
        return Finding("cpu", "fault", fault, "install onnxruntime-gpu (macOS: onnxruntime) anew")
    return Finding("cpu", "ok", "a tiny graph ran and gave the right answer")


def _cuda(settings: Settings) -> list[Finding]:
    """Try the GPU; that it does not work is a fault only where it was asked for."""
    driver = driver_version()
    found = Finding("driver", "ok" if driver else "note", driver or "no NVIDIA driver")
    fault = cuda_fault(Device("cuda", settings.device_id))
    if fault is None:
        text = f"a tiny graph ran on GPU {settings.device_id} and gave the right answer"
        return [found, Finding("cuda", "ok", text)]
    verdict: Verdict = "fault" if settings.device == "cuda" else "note"
    if driver is None:
        remedy = "install the NVIDIA driver, or serve with --device cpu"
    else:
        remedy = "pip install 'hourglass-serve[cuda]': CUDA and cuDNN as wheels"
    return [found, Finding("cuda", verdict, fault, remedy)]


def _cores(settings: Settings, cgroups: Path) -> Finding:
    cores, quota = affine_cores(), cpu_quota(cgroups)
    text = f"{cores} usable" + ("" if quota is None else f", of which the cgroup grants {quota:g}")
    granted = min(cores, quota or float("inf"))
    threads = settings.intra_op_threads
    if threads != "auto" and threads > max(1, granted):
        return Finding(
            "cores",
            "fault",
            f"{text}; {threads} threads a run would wait for each other",
            f"set intra_op_threads to {max(1, int(granted))} or auto, or grant more",
        )
    if granted < 1:
        return Finding(
            "cores", "note", text, "grant at least one core, or latencies grow in steps of 100 ms"
        )
    return Finding("cores", "ok", text)


def _memory(cgroups: Path) -> Finding:
    limit = memory_limit_bytes(cgroups)
    if limit is None:
        return Finding("memory", "ok", "no limit by the cgroup")
    text = f"the cgroup allows {limit / 2**20:.0f} MiB"
    if limit < MEMORY_MIN_BYTES:
        return Finding("memory", "fault", text, f"allow {MEMORY_MIN_BYTES >> 20} MiB at least")
    return Finding("memory", "ok", text)


def _repository(models: Path) -> Finding:
    if not models.is_dir():
        return Finding(
            "models", "fault", f"{models} is not a folder", "set HOURGLASS_MODELS or --models"
        )
    count = len(scan(models))
    if not count:
        return Finding("models", "note", f"{models} holds no model", "see docs/models.md")
    return Finding("models", "ok", f"{models} holds {count}; `hourglass check` tries them")
