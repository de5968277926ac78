"""What the kernel grants this process: cores and memory, by affinity and control groups.

ONNX Runtime and NumPy count the machine's cores and know nothing of either.
"""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")

# version 1 writes "no limit" as the largest number of whole pages; no machine has an exbibyte
_NO_LIMIT_BYTES: Final = 1 << 60


def usable_cores(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Count the cores that this process can keep busy; a part of one counts as one."""
    return _fewest(affine_cores(), cpu_quota(cgroups, membership))


def _fewest(cores: int, quota: float | None) -> int:
    return cores if quota is None else max(1, min(cores, ceil(quota)))


def affine_cores() -> int:
    """Count the cores that the scheduler may put this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Give the cores' worth of time that the control groups grant, ``None`` without a limit.

    Args:
        cgroups: Where control groups are mounted.
        membership: The file that names those of this process.
    """
    folders = _folders("cpu", cgroups, membership)
    return min((quota for each in folders if (quota := _quota(each)) is not None), default=None)


def memory_limit_bytes(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Give the memory that the control groups allow, ``None`` without a limit; see *cpu_quota*."""
    folders = _folders("memory", cgroups, membership)
    return min((limit for each in folders if (limit := _limit(each)) is not None), default=None)


def _folders(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """Name the folders whose limits hold: a group's own and those of every group above it.

    In a container the path may be the host's while the mount begins at the container's own group;
    the mount's root therefore always counts, and a folder that is not there has no limit.
    """
    yield cgroups
    for line in _text(membership).splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        # version 2 has one tree and no names; version 1 a mount for each, some with a short link
        for mount in (cgroups / names, cgroups / controller) if names else (cgroups,):
            yield mount
            folder = mount
            for part in PurePosixPath(path).parts[1:]:
                folder /= part
                yield folder


def _quota(folder: Path) -> float | None:
    """Divide quota by period, both in microseconds; words and -1 stand for no limit."""
    match _words(folder / "cpu.max") or [
        *_words(folder / "cpu.cfs_quota_us"),
        *_words(folder / "cpu.cfs_period_us"),
    ]:
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            return int(quota) / int(period)
    return None


def _limit(folder: Path) -> int | None:
    match _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes"):
        case [limit] if limit.isdecimal() and int(limit) < _NO_LIMIT_BYTES:
            return int(limit)
    return None


def _words(file: Path) -> list[str]:
    return _text(file).split()


def _text(file: Path) -> str:
    try:
        # a group's name may be any bytes
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
