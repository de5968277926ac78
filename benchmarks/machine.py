"""What the figures were taken on: cores, processor, system, versions."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from benchmarks.load import find_wrk
from service import __version__

PACKAGES: Final = (
    "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pydantic", "orjson", "numpy",
    "onnxruntime-gpu", "onnxruntime", "onnx",
)  # fmt: skip


def processor(cpuinfo: str) -> str:
    """Read the name of the first processor of /proc/cpuinfo."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def describe() -> str:
    """Give the machine in one line."""
    cores = len(os.sched_getaffinity(0))
    name = processor(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = platform.release().split("-")[0]
    return f"{cores} cores of {name} ({platform.machine()}), {memory_gib:.0f} GiB, Linux {kernel}"


def slug(cores: int, name: str) -> str:
    """Make a part of a file name, such as ``2-cores-amd-epyc``."""
    return re.sub(r"[^a-z0-9]+", "-", f"{cores} cores {name}".lower()).strip("-")


def file_slug() -> str:
    """Give the slug of this machine."""
    name = processor(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return slug(len(os.sched_getaffinity(0)), name)


def versions() -> str:
    """List what took part, with its version."""
    parts = [f"Hourglass {__version__}", f"Python {platform.python_version()}", _wrk_version()]
    for package in PACKAGES:
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(parts)


def _wrk_version() -> str:
    said = subprocess.run(  # noqa: S603 - the program that was found
        [find_wrk(), "-v"], capture_output=True, text=True, check=False
    ).stdout
    return " ".join(said.split()[:2])
